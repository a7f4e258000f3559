"""The configuration of a run: components, their schemas, and the checked values."""
