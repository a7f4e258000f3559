"""The registered models by what they are for."""

from __future__ import annotations

from experiments.config.registry import register

SEQUENCES = ["lstm", "transformer_small"]
PIXELS = ["unet_small"]
# They give one label for an image.
IMAGES = [name for name in register.model.names if name not in (*SEQUENCES, *PIXELS)]
