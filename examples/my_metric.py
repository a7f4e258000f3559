"""A custom metric: a function that sums over a batch, on the device.

EXPERIMENTS_COMPONENTS=examples/my_metric.py python -m experiments 'metrics=[accuracy,top_k]' metrics.top_k.k=2
"""

from typing import Annotated

from annotated_types import Ge
from torch import Tensor

import experiments


@experiments.register.metric("top_k", targets="classes")
def top_k(pred: Tensor, target: Tensor, *, k: Annotated[int, Ge(1)] = 3) -> Tensor:
    """Count the rows whose class is among their k largest predictions."""
    return (pred.topk(k, dim=1).indices == target[:, None]).sum()
