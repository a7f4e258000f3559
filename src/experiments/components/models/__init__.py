"""Models: `(data, **arguments)` returns a callable with parameters(), train(), eval(), to() and state_dict().

A model declares at its registration what it takes: images (batch, channels, height, width), `input="image"`; flat rows
(batch, features), `input="flat"`, both float32; whole numbers of any shape, `input="tokens"`; or rows as the dataset
has them, `input="any"`, the default. And it declares `channels_last=True` where that memory format of its
weights makes it faster, which a forward pass with `view` may not allow.
"""

from experiments.components.models import convolutional, images, linear, sequences, tensors

__all__ = ["convolutional", "images", "linear", "sequences", "tensors"]
