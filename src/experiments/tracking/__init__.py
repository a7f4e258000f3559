"""Every run's journal, and the process that brings journals to MLflow."""
