"""Exercises: the tutorial's stages with a hole to fill, and trainings with a fault to find; each answer is checked."""
