"""Beyond the tutorial, for sequences: tokens (batch, length), or numbers (batch, length, features).

They give outputs for a row, or for each of its places where the labels are of places, such as the next token.
"""

from __future__ import annotations

from typing import Annotated

import torch
from annotated_types import Ge, Lt
from torch import Tensor, nn

from experiments.config.registry import register
from experiments.data.splits import DataSpec
from experiments.errors import ConfigError, Fault

Width = Annotated[int, Ge(1)]


class Lstm(nn.Module):
    """A long short-term memory over what `first` makes of each place (Hochreiter and Schmidhuber, 1997)."""

    def __init__(self, first: nn.Module, outputs: int, width: int, *, each: bool) -> None:
        super().__init__()
        self.first, self.each = first, each
        self.memory = nn.LSTM(width, width, batch_first=True)
        self.last = nn.Linear(width, outputs)

    def forward(self, xb: Tensor) -> Tensor:
        """Outputs (batch, outputs) after the last place, or (batch, outputs, length) after each."""
        states, _ = self.memory(self.first(xb))
        outputs: Tensor = self.last(states if self.each else states[:, -1])
        return outputs.transpose(1, 2) if self.each else outputs


class Transformer(nn.Module):
    """Self-attention over what `first` makes of each place (Vaswani et al., 2017); if `each`, none sees later ones."""

    def __init__(self, first: nn.Module, length: int, outputs: int, width: int, dropout: float, *, each: bool) -> None:
        super().__init__()
        self.first, self.each = first, each
        self.places = nn.Parameter(torch.randn(length, width) / 50)
        layer = nn.TransformerEncoderLayer(width, 4, 4 * width, dropout, batch_first=True, norm_first=True)
        self.layers = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.last = nn.Linear(width, outputs)

    def forward(self, xb: Tensor) -> Tensor:
        """Outputs (batch, outputs) of the mean over the places, or (batch, outputs, length) of each."""
        hidden = self.first(xb) + self.places
        later = nn.Transformer.generate_square_subsequent_mask(xb.shape[1], device=xb.device) if self.each else None
        hidden = self.layers(hidden, mask=later)
        outputs: Tensor = self.last(hidden if self.each else hidden.mean(dim=1))
        return outputs.transpose(1, 2) if self.each else outputs


def first_layer(data: DataSpec, width: int) -> nn.Module:
    """Return what makes `width` numbers of each place: an embedding of tokens, or a linear layer of numbers."""
    if len(data.shape) != (1 if data.dtype in ("int64", "uint8") else 2):
        problem = "it takes tokens (length,) or numbers (length, features), as the dataset's shape=(length, features)"
        raise ConfigError(Fault("model", f"{problem}; dataset {data.name} has rows of {data.shape}, {data.dtype}"))
    if data.dtype in ("int64", "uint8") and "vocabulary" not in data.extra:
        problem = "it takes tokens of a known number"
        raise ConfigError(Fault("model", f'{problem}; dataset {data.name} should give extra={{"vocabulary": 1000}}'))
    if data.dtype in ("int64", "uint8"):
        return nn.Embedding(data.extra["vocabulary"], width)
    return nn.Linear(data.shape[1], width)


@register.model("lstm", input="any")
def lstm(data: DataSpec, *, width: Width = 64) -> nn.Module:
    """Return an LSTM with one layer."""
    return Lstm(first_layer(data, width), data.outputs, width, each=bool(data.places))


@register.model("transformer_small", input="any")
def transformer_small(
    data: DataSpec, *, width: Annotated[int, Ge(4)] = 64, dropout: Annotated[float, Ge(0), Lt(1)] = 0.1
) -> nn.Module:
    """Return a transformer with two layers of four heads; the length of the rows is fixed."""
    first = first_layer(data, width)
    return Transformer(first, data.shape[0], data.outputs, width, dropout, each=bool(data.places))
