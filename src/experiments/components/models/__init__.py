"""Models: `(data, **arguments)` gives a callable with parameters(), train(), eval(), to() and state_dict().

A model says at its registration whether it takes flat rows (batch, features), `input="flat"`, or pictures
(batch, channels, height, width), `input="image"`, which is the default; and `channels_last=True` where that memory
format of its weights makes it faster, which a forward pass with `view` may not allow.
"""

from experiments.components.models import convolutional, linear, tensors

__all__ = ["convolutional", "linear", "tensors"]
