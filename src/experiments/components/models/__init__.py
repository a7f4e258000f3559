"""Models: `(data, **arguments)` returns a callable with parameters(), train(), eval(), to() and state_dict().

A model declares at its registration whether it takes flat rows (batch, features), `input="flat"`, or images
(batch, channels, height, width), `input="image"`, the default; and `channels_last=True` where that memory format of its
weights makes it faster, which a forward pass with `view` may not allow.
"""

from experiments.components.models import convolutional, linear, tensors

__all__ = ["convolutional", "linear", "tensors"]
