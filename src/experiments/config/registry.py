"""Components: code under a name. A name, a factory, a dict; the factory's signature is its schema.

A factory's first parameters are what the run hands it (its registry's `takes`), all others are configuration:

    @register.model("my_net")
    def my_net(data, *, width: Annotated[int, Ge(1)] = 64): ...

is built from `{"name": "my_net", "width": 64}`. Configuration names components, never import paths.
Importing this module imports neither torch nor pydantic, so that `--help` and tab completion stay quick.
"""

from __future__ import annotations

import functools
import inspect
import re
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from experiments.errors import ConfigError, Fault, RegistrationError, suggestion

T = TypeVar("T", bound=Callable[..., Any])

LONGEST_NAME = 100
CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


@dataclass(frozen=True)
class Component:
    """One registered factory.

    Args:
        kind: the registry it belongs to, e.g. "model".
        name: what configuration calls it.
        factory: a function or class.
        metadata: what it declares beside its signature, e.g. `input="image"`.
    """

    kind: str
    name: str
    factory: Callable[..., Any]
    metadata: Mapping[str, Any] = field(default_factory=dict)

    @property
    def place(self) -> str:
        """Where it was registered: file and line, or the module where it has no source."""
        code = inspect.unwrap(self.factory)
        try:
            return f"{inspect.getsourcefile(code)}:{inspect.getsourcelines(code)[1]}"
        except (OSError, TypeError):
            return str(code.__module__)


class Registry:
    """The components of one kind.

    Args:
        kind: what they are called in messages, e.g. "model".
        group: the configuration group they are chosen in.
        takes: the names of the values that the run passes first.
        many: whether a run has any number of them, as a mapping by name (metrics, callbacks, transforms).
        common: what the configuration of each has beside its own arguments, for the run itself, with its defaults.
    """

    def __init__(
        self,
        kind: str,
        *,
        group: str,
        takes: tuple[str, ...] = (),
        many: bool = False,
        common: Mapping[str, Any] | None = None,
    ) -> None:
        self.kind, self.group, self.takes, self.many = kind, group, takes, many
        self.common = dict(common or {})
        self._components: dict[str, Component] = {}

    def __call__(self, name: str, **metadata: Any) -> Callable[[T], T]:
        """Register the decorated factory as `name`.

        Raises:
            RegistrationError: the name is taken (both places are told) or can be none, or the signature cannot serve
                as a schema.
        """
        problem = "is taken by the loss itself" if self.kind == "metric" and name == "loss" else _name_fault(name)
        if problem:
            raise RegistrationError(f"{self.kind} {name!r:.200} {problem}")

        def decorate(factory: T) -> T:
            component = Component(self.kind, name, factory, metadata)
            known = self._components.get(name)
            if known is not None and not _same_place(known.factory, factory):
                raise RegistrationError(
                    f"{self.kind} '{name}' is registered twice: in {known.place} and in {component.place}"
                )
            self._check_signature(component)
            self._components[name] = component
            return factory

        return decorate

    def forget(self, module: str) -> None:
        """Drop what a module has registered, since its import failed and may be tried again."""
        kept = {name: known for name, known in self._components.items() if known.factory.__module__ != module}
        self._components = kept

    @property
    def names(self) -> list[str]:
        """All registered names, sorted."""
        return sorted(self._components)

    def get(self, name: object, *, key: str | None = None) -> Component:
        """The component called `name`; `key` is where the configuration says so.

        Raises:
            ConfigError: there is none; the message lists what there is and the nearest.
        """
        component = self._components.get(name) if isinstance(name, str) else None
        if component is None:
            where = key or f"{self.group}.name"
            problem = f"no {self.kind} is called {name!r}{suggestion(name, self.names)}"
            raise ConfigError(Fault(where, problem))
        return component

    def arguments(self, name: str) -> dict[str, inspect.Parameter]:
        """The configurable parameters of a component, by name."""
        parameters = list(inspect.signature(self.get(name).factory).parameters.values())
        return {parameter.name: parameter for parameter in parameters[len(self.takes) :]}

    def faults(self, name: object, arguments: Mapping[str, Any], *, key: str | None = None) -> list[Fault]:
        """Everything wrong with a component's name and arguments; nothing is built."""
        where = key or self.group
        try:
            component = self.get(name, key=key)
        except ConfigError as error:
            return list(error.faults)
        from experiments.config.schema import argument_faults

        return argument_faults(component.factory, self.arguments(component.name), arguments, where)

    def bind(self, name: str, arguments: Mapping[str, Any]) -> functools.partial[Any]:
        """The component with its arguments filled in, waiting for what the run hands it (`takes`).

        Raises:
            ConfigError: unknown name, unknown, missing or wrong arguments.
        """
        if faults := self.faults(name, arguments):
            raise ConfigError(*faults)
        from experiments.config.schema import converted

        factory = self.get(name).factory
        return functools.partial(factory, **converted(factory, self.arguments(name), arguments))

    def preset(self, name: str) -> dict[str, Any]:
        """The configuration that a component's own signature and defaults make."""
        defaults = {
            argument: "???" if parameter.default is inspect.Parameter.empty else parameter.default
            for argument, parameter in self.arguments(name).items()
        }
        return {name: defaults} if self.many else {"name": name, **self.common, **defaults}

    def _check_signature(self, component: Component) -> None:
        parameters = list(inspect.signature(component.factory).parameters.values())
        variadic = [p.name for p in parameters if p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
        positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
        if variadic:
            problem = f"takes *{variadic[0]}; its parameters are its schema, so write each one out"
        elif not self.many and "name" in [p.name for p in parameters[len(self.takes) :]]:
            problem = "has an argument called name, which is what its configuration calls the component by"
        elif len(positional) < len(self.takes):
            problem = (
                f"takes {len(positional)} positional parameters; "
                f"the run passes {len(self.takes)}: {', '.join(self.takes)}"
            )
        else:
            return
        raise RegistrationError(f"{self.kind} '{component.name}' in {component.place} {problem}")


def _name_fault(name: object) -> str | None:
    """Why something can be no component's name, which files and folders may be called after; None where it can."""
    if not isinstance(name, str) or not name:
        return 'is no name; it is written @register.model("name")'
    if CONTROL.search(name) or any(part in name for part in ("/", "\\", "..")):
        return "is no name: it may have no slashes, no '..' and no control characters"
    return f"is too long for a name: at most {LONGEST_NAME} characters" if len(name) > LONGEST_NAME else None


def _same_place(one: Callable[..., Any], other: Callable[..., Any]) -> bool:
    """Whether two factories are the same definition, run again (a notebook cell)."""

    def identity(factory: Callable[..., Any]) -> tuple[str, str]:
        return factory.__module__, factory.__qualname__

    return one is other or (identity(one) == identity(other) and one.__module__ == "__main__")


class Register:
    """All registries; `register.model("name")` decorates a model, and so for every kind."""

    def __init__(self) -> None:
        self.dataset = Registry("dataset", group="dataset")
        self.model = Registry("model", group="model", takes=("data",))
        self.loss = Registry("loss", group="loss", takes=("pred", "target"))
        self.optim = Registry("optimiser", group="optim", takes=("params",))
        batches = {"batch_size": 64, "valid_batch_size": 128, "shuffle": True, "valid_shuffle": False}
        takes = ("split", "batch_size", "order", "shape")
        self.loader = Registry("loader", group="loader", takes=takes, common=batches)
        self.scheduler = Registry("scheduler", group="scheduler", takes=("optimizer", "epochs", "steps"))
        self.transform = Registry("transform", group="transforms", takes=("xb", "data"), many=True)
        self.metric = Registry("metric", group="metrics", takes=("pred", "target"), many=True)
        self.callback = Registry("callback", group="callbacks", many=True)

    def __iter__(self) -> typing.Iterator[Registry]:
        return iter(vars(self).values())

    def __getattr__(self, name: str) -> Registry:
        raise AttributeError(f"there is no register.{name}{suggestion(name, vars(self))}")


register = Register()
