"""A run as one script of plain PyTorch that gives its losses to the last bit: a way out, and what a stage changes."""
