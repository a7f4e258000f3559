"""Runs side by side: what differs, which is better, and whether that is more than chance."""
