"""The loops that `benchmarks/peers.py` compares: each trains one task in a process of its own, an epoch a turn."""
