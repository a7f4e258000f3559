"""Datasets as arrays: read, checked, split; images fitted to a model."""
