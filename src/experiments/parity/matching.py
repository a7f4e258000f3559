"""Match the tensors of two models: by name, else by order, role and shape, transposed where necessary."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from experiments.errors import ConfigError, Fault, suggestion

Tensors = Mapping[str, Tensor]


@dataclass(frozen=True)
class Pair:
    """The names of a tensor in the first and in the second model, and whether the second has it transposed."""

    a: str
    b: str
    transposed: bool = False

    def turned(self, tensor: Tensor) -> Tensor:
        """Return the first's tensor in the second's layout, or the reverse."""
        return tensor.t() if self.transposed and tensor.ndim == 2 else tensor  # rows, columns


@dataclass(frozen=True)
class Matching:
    """The tensors of two models, in the first's order, and those of one alone, with their shapes."""

    pairs: tuple[Pair, ...]
    only_a: tuple[str, ...] = ()
    only_b: tuple[str, ...] = ()

    @property
    def complete(self) -> bool:
        """Whether every tensor has a match."""
        return not self.only_a and not self.only_b

    @property
    def plain(self) -> bool:
        """Whether all names are equal and no tensor is transposed."""
        return all(pair.a == pair.b and not pair.transposed for pair in self.pairs)

    def to_b(self, tensors: Tensors) -> dict[str, Tensor]:
        """Return the first's tensors with the second's names and layout."""
        return {pair.b: pair.turned(tensors[pair.a]) for pair in self.pairs if pair.a in tensors}

    def to_a(self, tensors: Tensors) -> dict[str, Tensor]:
        """Return the second's tensors with the first's names and layout."""
        return {pair.a: pair.turned(tensors[pair.b]) for pair in self.pairs if pair.b in tensors}


def match(a: Tensors, b: Tensors, transpose: Sequence[str] = ()) -> Matching:
    """Match the parameters and buffers of two models.

    Models with the same names are matched by them. Otherwise a name without an index is matched; an index (`2.weight`
    in an nn.Sequential) is a position, which another layer shifts. The remaining tensors are matched in order: equal
    shape, and the same last word (`weight`, `bias`) before another.

    Args:
        a: the first's.
        b: the second's.
        transpose: names, in either, of square matrices that the other has transposed; others are transposed where
            their shape requires it.

    Raises:
        ConfigError: a name in `transpose` is not that of a square matrix.
    """
    _check(transpose, {**b, **a})
    left, found = dict(b), dict[str, str]()
    same_names = a.keys() == b.keys()
    for fits in (_fits_straight, _fits_turned):
        for name, tensor in a.items():
            named = name in left and name not in found and (same_names or not _is_indexed(name))
            if named and fits(tensor, left[name]):
                found[name] = name
                del left[name]
    for fits in (_fits_straight, _fits_turned):
        for name, tensor in a.items():
            if name in found:
                continue
            if fitting := [other for other, there in left.items() if fits(tensor, there)]:
                found[name] = min(fitting, key=lambda other: _role(other) != _role(name))
                del left[found[name]]
    pairs = tuple(
        Pair(name, other, not _fits_straight(a[name], b[other]) or bool({name, other} & set(transpose)))
        for name, other in ((name, found[name]) for name in a if name in found)
    )
    return Matching(pairs, _told(a, set(a) - set(found)), _told(b, set(left)))


def _fits_straight(one: Tensor, other: Tensor) -> bool:
    return one.shape == other.shape and one.is_floating_point() == other.is_floating_point()


def _fits_turned(one: Tensor, other: Tensor) -> bool:
    return one.ndim == 2 and _fits_straight(one.t(), other)  # rows, columns


def _is_indexed(name: str) -> bool:
    return any(part.isdecimal() for part in name.split("."))


def _role(name: str) -> str:
    return name.rsplit(".", 1)[-1]


def _told(tensors: Tensors, names: set[str]) -> tuple[str, ...]:
    return tuple(f"{name} {tuple(tensor.shape)}" for name, tensor in tensors.items() if name in names)


def _check(transpose: Sequence[str], tensors: Tensors) -> None:
    for name in transpose:
        if name not in tensors:
            raise ConfigError(Fault("--transpose", f"no tensor is called {name!r}{suggestion(name, tensors)}"))
        shape = tuple(tensors[name].shape)
        if len(shape) != 2 or shape[0] != shape[1]:  # rows, columns
            problem = f"{name} is {shape}; only a square matrix has to be named, others are transposed where that fits"
            raise ConfigError(Fault("--transpose", problem))
