"""One training: the loop, its step, its state, and how it is built from a configuration."""
