"""Components: code under a name. A name, a factory, a dict; the factory's signature is its schema.

A factory's first parameters are passed by the run (its registry's `takes`), all others are configuration:

    @register.model("my_net")
    def my_net(data, *, width: Annotated[int, Ge(1)] = 64): ...

is built from `{"name": "my_net", "width": 64}`. Configuration names components, never import paths.
This module imports neither torch nor pydantic, so that `--help` and tab completion stay quick.
"""

from __future__ import annotations

import functools
import inspect
import itertools
import sys
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from experiments.config import declarations
from experiments.config.registration import name_fault, plain, signature_fault
from experiments.errors import ConfigError, Fault, RegistrationError, suggestion

T = TypeVar("T", bound=Callable[..., Any])


@dataclass(frozen=True)
class Component:
    """One registered factory."""

    kind: str  # of its registry, e.g. "model"
    name: str
    factory: Callable[..., Any]
    metadata: Mapping[str, Any] = field(default_factory=dict)  # declared beside its signature, e.g. input="image"

    @property
    def place(self) -> str:
        """File and line of the registration, or the module where it has no source."""
        code = inspect.unwrap(self.factory)
        try:
            return f"{inspect.getsourcefile(code)}:{inspect.getsourcelines(code)[1]}"
        except (OSError, TypeError):
            return str(code.__module__)


class Registry:
    """The components of one kind.

    Args:
        kind: their name in messages, e.g. "model".
        group: the configuration group they are chosen in.
        takes: the names of the values that the run passes first.
        once: of these, those that a class may take first, which is made once and then called with `takes`; None where
            classes are factories like functions.
        many: whether a run has any number of them, as a mapping by name (metrics, callbacks, transforms).
        common: settings of the run in the configuration of each component, with their defaults.
    """

    # While a user's file is imported, so that all its faults are told at once; else each is raised.
    refused: typing.ClassVar[list[Exception] | None] = None

    def __init__(
        self,
        kind: str,
        *,
        group: str,
        takes: tuple[str, ...] = (),
        once: tuple[str, ...] | None = None,
        many: bool = False,
        common: Mapping[str, Any] | None = None,
    ) -> None:
        self.kind, self.group, self.takes, self.once, self.many = kind, group, takes, once, many
        self.common = dict(common or {})
        self._components: dict[str, Component] = {}

    def __call__(self, name: str, **metadata: Any) -> Callable[[T], T]:
        """Register the decorated factory as `name`.

        Raises:
            RegistrationError: the name is taken or not allowed, the signature cannot serve as a schema, or it declares
                what does not exist.
        """
        problem = "is taken by the loss itself" if self.kind == "metric" and name == "loss" else name_fault(name)
        if problem:
            self._refuse(f"{name!r:.200} {problem}")

        def decorate(factory: T) -> T:
            if problem:
                return factory
            component = Component(self.kind, name, factory, metadata)
            known = self._components.get(name)
            if known is not None and not ("yields" in known.metadata or _same_definition(known, component)):
                if "yields" in metadata:  # shipped, and imported after an own one of its name
                    return factory
                places = f"in {known.place} and in {component.place}"
                self._refuse(f"'{name}' is registered twice: {places}; rename one")
                return factory
            reserved = () if self.many else ("name", "defaults", *self.common)
            fault = signature_fault(factory, self.passed_to(component), reserved)
            if fault := fault or declarations.fault(factory, self.passed_to(component), metadata, self.group):
                self._refuse(f"'{name}' in {component.place} {fault}")
            else:
                self._components[name] = component
            return factory

        return decorate

    def _refuse(self, problem: str) -> None:
        error = RegistrationError(f"{self.kind} {problem}")
        if Registry.refused is None:
            raise error
        Registry.refused.append(error)

    def forget_unloaded(self) -> None:
        """Drop the components of modules whose import failed, since it may be tried again."""
        known = self._components.items()
        self._components = {name: each for name, each in known if each.factory.__module__ in sys.modules}

    @property
    def names(self) -> list[str]:
        """Return all registered names, sorted."""
        return sorted(self._components)

    def get(self, name: object, *, key: str | None = None) -> Component:
        """Return the component called `name`; `key` is its place in the configuration.

        Raises:
            ConfigError: there is none; the message lists all names and the nearest.
        """
        component = self._components.get(name) if isinstance(name, str) else None
        if component is None:
            problem = f"no {self.kind} is called {name!r}{suggestion(name, self.names)}"
            raise ConfigError(Fault(key or f"{self.group}.name", problem))
        return component

    def passed(self, positional: Sequence[str], metadata: Mapping[str, Any], *, of_class: bool) -> tuple[str, ...]:
        """Return which values the run passes first to a factory with these positional parameters."""
        if metadata.get("pairs"):
            return ("xb", "yb", "data")
        first = positional[0] if positional else None
        if metadata.get("over") == "pass" and (of_class or first in ("data", None)):  # it makes an object
            return ("data",) if first == "data" else ()
        if self.once is not None and of_class:
            return tuple(itertools.takewhile(self.once.__contains__, positional))
        return self.takes

    def passed_to(self, component: Component) -> tuple[str, ...]:
        """Return which values the run passes first to a component."""
        parameters = inspect.signature(component.factory).parameters.values()
        positional = [p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
        return self.passed(positional, component.metadata, of_class=inspect.isclass(component.factory))

    def arguments(self, name: str) -> dict[str, inspect.Parameter]:
        """Return the configurable parameters of a component, by name."""
        component = self.get(name)
        parameters = list(inspect.signature(component.factory).parameters.values())
        return {parameter.name: parameter for parameter in parameters[len(self.passed_to(component)) :]}

    def own(self, settings: Mapping[str, Any]) -> dict[str, Any]:
        """Return a component's own arguments in its configuration: without its name and the common settings."""
        name = settings.get("name")
        shared = {"name", *self.common} - set(self.arguments(name) if name in self.names else ())
        return {key: value for key, value in settings.items() if key not in shared}

    def faults(self, name: object, arguments: Mapping[str, Any], *, key: str | None = None) -> list[Fault]:
        """Return everything wrong with a component's name and arguments; nothing is built."""
        try:
            self.bind(name, arguments, key=key)
        except ConfigError as error:
            return list(error.faults)
        return []

    def bind(self, name: object, arguments: Mapping[str, Any], *, key: str | None = None) -> functools.partial[Any]:
        """Return the component with its arguments, to be called with what the run passes (`takes`).

        Raises:
            ConfigError: unknown name, unknown, missing or wrong arguments; with all faults.
        """
        from experiments.config.schema import converted  # late: it imports pydantic

        component = self.get(name, key=key)
        parameters = self.arguments(component.name)
        return functools.partial(
            component.factory, **converted(component.factory, parameters, arguments, key or self.group)
        )

    def chosen(self, settings: Mapping[str, Any]) -> functools.partial[Any]:
        """Return the component that a configuration of this group names, with its arguments."""
        return self.bind(settings["name"], self.own(settings))

    def preset(self, name: str) -> dict[str, Any]:
        """Return a component's configuration as its signature and defaults make it."""
        parameters = self.arguments(name).values()
        return self.as_preset(name, {p.name: "???" if p.default is p.empty else p.default for p in parameters})

    def as_preset(self, name: str, arguments: dict[str, Any]) -> dict[str, Any]:
        """Return the configuration of a component with these arguments."""
        arguments = {key: plain(value) for key, value in arguments.items()}
        return {name: arguments} if self.many else {"name": name, **self.common, **arguments}


def _same_definition(one: Component, other: Component) -> bool:
    """Return whether two components are one definition, run again: a notebook's cell, a file as another module."""
    modules = {one.factory.__module__, other.factory.__module__}
    again = modules == {"__main__"} or (len(modules) == 2 and one.place == other.place)
    return one.factory is other.factory or (again and one.factory.__qualname__ == other.factory.__qualname__)


class Register:
    """All registries; `register.model("name")` decorates a model, and so for every kind."""

    def __init__(self) -> None:
        self.dataset = Registry("dataset", group="dataset")
        self.model = Registry("model", group="model", takes=("data",))
        self.loss = Registry("loss", group="loss", takes=("pred", "target"), once=("data", "counts"))
        self.step = Registry("step", group="step", takes=("training", "xb", "yb"), once=("data",))
        self.optim = Registry("optimiser", group="optim", takes=("params",), common={"groups": None})
        batches: dict[str, Any] = {"batch_size": 64, "valid_batch_size": 128, "shuffle": True, "valid_shuffle": False}
        batches |= {"drop_last": False, "draw": None}
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


register = Register()  # global: the decorators of components fill it when their modules are imported
