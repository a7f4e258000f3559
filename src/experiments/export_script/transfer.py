"""The lines of a script that read the weights it starts from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from experiments.config.root import RootConfig
from experiments.errors import ConfigError, Fault
from experiments.export_script.values import literal
from experiments.training import transfer, weights


def source(root: RootConfig) -> Path | None:
    """Return the file that a script starts from; raise a ConfigError where it needs a part of a run's weights."""
    file = None if root.init_from is None else weights.named(root.init_from)
    if file is None and root.init_from is not None and transfer.is_partial(root):
        problem = f"a script takes a part of the weights of a file alone: a run's is {root.init_from}/{weights.FILE}"
        raise ConfigError(Fault("init_from", problem))
    return file


def loaded(root: RootConfig, file: Path, model: Any) -> list[str]:
    """Return the lines that give a model the weights of a file, or a part of them."""
    (state, entry), own = weights.read(file), model.state_dict()
    taken, before = transfer.selected(root, state, model), transfer.prefix(state, own)
    fresh = [name for name in own if name not in taken]
    names = f"model.state_dict() if name not in {literal(fresh)}" if fresh else "model.state_dict()"
    path, safe = literal(str(file.resolve())), file.suffix == weights.SAFETENSORS
    read = f"load_file({path})" if safe else f'torch.load({path}, map_location="cpu", weights_only=True)'
    key = f"{literal(before)} + name" if before else "name"
    return [
        *(["from safetensors.torch import load_file"] if safe else []),
        f"weights = {read}{f'[{literal(entry)}]' if entry else ''}",
        f"weights = {{name: weights[{key}] for name in {names}}}",
        f"model.load_state_dict({'{**model.state_dict(), **weights}' if fresh else 'weights'})",
    ]
