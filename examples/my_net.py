"""A custom model: one decorated function.

    EXPERIMENTS_COMPONENTS=examples/my_net.py python -m experiments model=my_net model.width=64

The first parameter is the data spec (shapes and sizes); all others are configuration, with their defaults and bounds.
"""

from typing import Annotated

from annotated_types import Ge
from torch import nn

import experiments


@experiments.register.model("my_net")
def my_net(data: experiments.DataSpec, *, width: Annotated[int, Ge(1)] = 32) -> nn.Module:
    """Return two dense layers on the flattened image."""
    return nn.Sequential(nn.Flatten(), nn.Linear(data.features, width), nn.Tanh(), nn.Linear(width, data.outputs))
