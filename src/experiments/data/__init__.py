"""Datasets as arrays: read, checked, split; images brought to what a model takes."""
