"""Export a run as one script of plain PyTorch that prints the same losses to the last bit."""
