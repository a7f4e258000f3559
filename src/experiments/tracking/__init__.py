"""Every run's journal, and the process that uploads journals to MLflow."""
