"""A multirun: its parent run, its check before the first job, its table at the end."""
