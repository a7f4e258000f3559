"""How messages describe values, and the table of a model's layers that `describe=true` shows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook
from torch.utils.flop_counter import FlopCounterMode

from experiments.data import nested

if TYPE_CHECKING:
    from experiments.training.runner import Runner


def kind(value: Any) -> str:
    """Return a tensor's shape, "None" for None, and the type of anything else."""
    if isinstance(value, Tensor):
        return f"a tensor of the shape {tuple(value.shape)}"
    return "None" if value is None else f"a {type(value).__name__}"


def shape(value: Any) -> str:
    """Return the shape of a tensor, of each in a tuple or mapping, or the type of anything else."""
    if isinstance(value, Tensor):
        return str(tuple(value.shape))
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {shape(part)}" for key, part in value.items()) + "}"
    return f"({', '.join(map(shape, value))})" if isinstance(value, list | tuple) else type(value).__name__


def parameters(model: Any, **options: bool) -> int:
    """Return how many numbers a model's parameters hold."""
    return sum(parameter.numel() for parameter in model.parameters(**options))


def layers(runner: Runner) -> tuple[list[dict[str, str]], str]:
    """Take one training step of a runner that is used for nothing else.

    Returns:
        a row for each layer (of a model without layers, for each tensor), and a line on the whole model and step.
    """
    model, counter = runner.model, FlopCounterMode(display=False)
    ahead, flops, shapes = dict[Any, int](), Counter[Any](), dict[Any, str]()

    def before(module: nn.Module, _inputs: Any) -> None:
        ahead[module] = counter.get_total_flops()

    def after(module: nn.Module, _inputs: Any, output: Any) -> None:
        flops[module] += counter.get_total_flops() - ahead[module]
        shapes[module] = _shape(output)

    with counter, register_module_forward_pre_hook(before), register_module_forward_hook(after):
        rows = nested.rows(next(runner.train_steps(0))[0])
    table = [
        {
            "layer": name or "(model)",
            "type": type(module).__name__,
            "output": shapes.get(module, "not called"),
            "parameters": f"{parameters(module, recurse=False):,}",
            "MACs of a row": f"{flops[module] // 2 // rows:,}",
        }
        for name, module in (model.named_modules() if isinstance(model, nn.Module) else ())
        if not [*module.children()] or parameters(module, recurse=False)
    ]
    if not table:
        tensors = model.state_dict().items()
        table = [{"tensor": name, "shape": _shape(one), "parameters": f"{one.numel():,}"} for name, one in tensors]
    trained = sum(one.numel() for one in model.parameters() if one.requires_grad)
    step = f"a training step of {rows:,} rows: {counter.get_total_flops():,} FLOPs of products and convolutions"
    return table, f"{parameters(model):,} parameters, {trained:,} of them trained; {step}"


def _shape(value: Any) -> str:
    if isinstance(value, Tensor):
        return " x ".join(map(str, value.shape)) or "1 number"
    if isinstance(value, Mapping):
        value = tuple(value.values())
    return f"({', '.join(map(_shape, value))})" if isinstance(value, list | tuple) else type(value).__name__


def size(shape: Any) -> str:
    """Return a row's shape in words: 1x28x28, or 8 and 1x4x4 where it has several inputs."""
    if isinstance(shape, Mapping):
        shape = tuple(shape.values())
    if all(isinstance(length, int) for length in shape):
        return "x".join(map(str, shape)) or "1"
    return " and ".join(map(size, shape))
