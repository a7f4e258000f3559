"""Runs in their folders: prepared, executed, resumed, found, loaded."""
