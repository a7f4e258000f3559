"""What a person sees: lines on the terminal, tables, pictures, links into the MLflow UI."""
