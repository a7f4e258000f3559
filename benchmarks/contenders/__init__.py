"""The loops that `benchmarks/peers.py` compares. Each trains one task in a separate process, one epoch per turn."""
