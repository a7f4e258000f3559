"""The registry: names, duplicates, and a factory's signature as the schema of its arguments."""

from __future__ import annotations

import enum
import inspect
import re
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import pytest
from annotated_types import Ge, Gt, Len

from experiments import register
from experiments.config.registry import Register, Registry
from experiments.errors import ConfigError

Factory = Callable[..., Any]


@pytest.fixture
def things() -> Registry:
    """A registry of its own, with one component."""
    registry = Registry("thing", group="things", takes=("data",))

    @registry("cube")
    def cube(
        data: Any,
        *,
        lr: Annotated[float, Gt(0)],
        width: Annotated[int, Ge(1)] = 3,
        bias: bool = True,
        betas: Annotated[list[float], Len(2, 2)] = [0.9, 0.999],  # noqa: B006
        seed: int | None = None,
    ) -> tuple[Any, ...]:
        return data, lr, width, bias, betas, seed

    return registry


def line_of(factory: Factory) -> int:
    return inspect.getsourcelines(factory)[1]


def told(things: Registry, **arguments: Any) -> list[str]:
    return [str(fault) for fault in things.faults("cube", {"lr": 0.1} | arguments)]


def test_a_duplicate_name_is_an_error_that_names_both_places(things: Registry) -> None:
    def other(data: Any) -> None: ...

    with pytest.raises(ValueError) as caught:
        things("cube")(other)
    first = line_of(things.get("cube").factory)
    expected = f"thing 'cube' is registered twice: in {__file__}:{first} and in {__file__}:{line_of(other)}; rename one"
    assert str(caught.value) == expected


def test_a_refused_duplicate_leaves_the_first_in_place(things: Registry) -> None:
    first = things.get("cube")
    with pytest.raises(ValueError):
        things("cube")(lambda data: None)
    assert things.get("cube") is first


def test_the_same_factory_may_be_registered_again(things: Registry) -> None:
    factory = things.get("cube").factory
    assert things("cube")(factory) is factory
    assert things.names == ["cube"]


def test_a_notebook_cell_may_be_run_again(things: Registry) -> None:
    for value in (1, 2):
        namespace: dict[str, Any] = {"__name__": "__main__", "things": things}
        exec(f"@things('cell')\ndef cell(data): return {value}", namespace)
    assert things.bind("cell", {})(None) == 2


def test_the_decorator_gives_the_factory_back(things: Registry) -> None:
    def plain(data: Any) -> None: ...

    assert things("plain")(plain) is plain


def test_an_unknown_name_lists_all_and_the_nearest(things: Registry) -> None:
    things("ball")(lambda data: None)
    with pytest.raises(ConfigError) as caught:
        things.get("cubes")
    assert str(caught.value) == "things.name: no thing is called 'cubes'; did you mean 'cube'? available: ball, cube"


def test_an_unknown_name_with_nothing_near_lists_all(things: Registry) -> None:
    faults = things.faults("xyz", {}, key="things.xyz")
    assert [str(fault) for fault in faults] == ["things.xyz: no thing is called 'xyz'; available: cube"]


def test_an_empty_registry_says_that_there_is_nothing() -> None:
    faults = Registry("thing", group="things").faults("x", {})
    assert [str(fault) for fault in faults] == ["things.name: no thing is called 'x'; available: nothing"]


@pytest.mark.parametrize("name", [None, 3, ["cube"], {"cube": 1}])
def test_a_name_that_is_no_text_is_an_unknown_name(things: Registry, name: Any) -> None:
    assert f"no thing is called {name!r}" in str(things.faults(name, {})[0])


@pytest.mark.parametrize(
    ("factory", "takes"),
    [(lambda: None, 0), (lambda *, data: None, 0)],
    ids=["no parameter", "a keyword where the run passes a position"],
)
def test_a_signature_without_room_for_what_the_run_passes_is_refused(factory: Factory, takes: int) -> None:
    registry = Registry("thing", group="things", takes=("data",))
    with pytest.raises(ValueError, match=f"takes {takes} positional parameters; the run passes 1: data"):
        registry("cube")(factory)
    assert registry.names == []


def test_the_refusal_of_a_signature_names_component_and_place(things: Registry) -> None:
    def empty() -> None: ...

    with pytest.raises(ValueError, match=rf"^thing 'e' in {__file__}:{line_of(empty)} takes 0 "):
        things("e")(empty)


@pytest.mark.parametrize(
    ("factory", "name"), [(lambda data, *rest: None, "rest"), (lambda data, **more: None, "*more")]
)
def test_a_variadic_signature_is_refused(things: Registry, factory: Factory, name: str) -> None:
    with pytest.raises(
        ValueError, match=rf"takes \*{re.escape(name)}; its parameters are its schema, so write each one out"
    ):
        things("v")(factory)


KEYS = "available: betas, bias, lr, seed, width"


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({"wdth": 1}, f"things.wdth: unknown key; did you mean 'width'? {KEYS}"),
        ({"qqq": 1}, f"things.qqq: unknown key; {KEYS}"),
        ({"int": 1}, f"things.int: unknown key; did you mean 'width'? {KEYS}"),
        ({"wid-th": 1}, f"things.wid-th: unknown key; did you mean 'width'? {KEYS}"),
        ({"data": 1}, f"things.data: unknown key; {KEYS}"),
        ({"lr": "0.1"}, "things.lr: '0.1' is not allowed: it should be a valid number"),
        ({"lr": True}, "things.lr: True is not allowed: it should be a valid number"),
        ({"lr": None}, "things.lr: None is not allowed: it should be a valid number"),
        ({"lr": float("nan")}, "things.lr: nan is not allowed: it should be a finite number"),
        ({"lr": float("inf")}, "things.lr: inf is not allowed: it should be a finite number"),
        ({"lr": -float("inf")}, "things.lr: -inf is not allowed: it should be a finite number"),
        ({"lr": 0}, "things.lr: 0 is not allowed: it should be greater than 0"),
        ({"width": True}, "things.width: True is not allowed: it should be a valid integer"),
        ({"width": 2.0}, "things.width: 2.0 is not allowed: it should be a valid integer"),
        ({"width": "2"}, "things.width: '2' is not allowed: it should be a valid integer"),
        ({"width": 0}, "things.width: 0 is not allowed: it should be greater than or equal to 1"),
        ({"bias": 1}, "things.bias: 1 is not allowed: it should be a valid boolean"),
        ({"bias": "true"}, "things.bias: 'true' is not allowed: it should be a valid boolean"),
        ({"seed": "a"}, "things.seed: 'a' is not allowed: it should be a valid integer"),
        ({"betas": [0.9, "x"]}, "things.betas.1: 'x' is not allowed: it should be a valid number"),
        (
            {"betas": [0.9]},
            "things.betas: [0.9] is not allowed: list should have at least 2 items after validation, not 1",
        ),
    ],
)
def test_a_wrong_argument_is_told_in_exact_words(things: Registry, arguments: dict[str, Any], expected: str) -> None:
    assert told(things, **arguments) == [expected]


def test_a_missing_argument_is_told(things: Registry) -> None:
    assert [str(fault) for fault in things.faults("cube", {})] == ["things.lr: a value is required"]


def test_all_faults_of_a_component_are_told_together(things: Registry) -> None:
    assert len(told(things, lr=0, width=0, nope=1)) == 3


@pytest.mark.parametrize("arguments", [{}, {"lr": 1}, {"seed": None}, {"seed": 3}, {"bias": False}, {"width": 1}])
def test_right_arguments_have_no_faults(things: Registry, arguments: dict[str, Any]) -> None:
    assert told(things, **arguments) == []


def test_bind_raises_what_is_wrong(things: Registry) -> None:
    with pytest.raises(ConfigError, match=r"^2 faults:\n  things\.lr: .*\n  things\.width: "):
        things.bind("cube", {"lr": 0, "width": 0})


def test_bind_fills_in_the_arguments_and_waits_for_what_the_run_passes(things: Registry) -> None:
    assert things.bind("cube", {"lr": 0.5, "width": 7})("spec") == ("spec", 0.5, 7, True, [0.9, 0.999], None)


def test_declarations_are_kept_beside_the_factory() -> None:
    models = Register().model
    models("cube", input="image")(lambda data: None)
    assert models.get("cube").metadata == {"input": "image"}


def test_annotations_are_resolved_though_they_are_text(things: Registry) -> None:
    parameter = things.arguments("cube")["width"]
    assert isinstance(parameter.annotation, str), "this file has `from __future__ import annotations`"
    assert things.faults("cube", {"lr": 0.1, "width": 0})


def test_a_parameter_without_annotation_takes_anything(things: Registry) -> None:
    exec("@things('free')\ndef free(data, *, x=1): return x", {"__name__": __name__, "things": things})
    assert things.bind("free", {"x": "text"})(None) == "text"


class Colour(enum.Enum):
    """A choice of two."""

    RED = "red"
    BLUE = "blue"


@pytest.fixture
def typed(things: Registry) -> Registry:
    """With a component of types that YAML has no values of."""

    @things("typed")
    def typed(
        data: Any,
        *,
        size: tuple[Annotated[int, Ge(1)], int] = (3, 3),
        sizes: tuple[int, ...] | None = None,
        kept: set[str] = set(),  # noqa: B006  # never changed
        path: Path = Path(),
        paths: list[Path | None] = [],  # noqa: B006  # never changed
        colour: Colour = Colour.RED,
    ) -> Any:
        return {"size": size, "sizes": sizes, "kept": kept, "path": path, "paths": paths, "colour": colour}

    return things


@pytest.mark.parametrize(
    ("name", "given", "taken"),
    [
        ("size", [1, 2], (1, 2)),
        ("sizes", [1, 2, 3], (1, 2, 3)),
        ("sizes", None, None),
        ("kept", ["a", "b"], {"a", "b"}),
        ("path", "a/b", Path("a/b")),
        ("paths", ["a", None], [Path("a"), None]),
        ("colour", "blue", Colour.BLUE),
        ("colour", "BLUE", Colour.BLUE),
    ],
)
def test_tuples_sets_paths_and_enumerations_are_made_of_what_yaml_has(
    name: str, given: Any, taken: Any, typed: Registry
) -> None:
    assert typed.faults("typed", {name: given}) == []
    found = typed.bind("typed", {name: given})(None)[name]
    assert found == taken and type(found) is type(taken)


@pytest.mark.parametrize(
    ("name", "given", "expected"),
    [
        ("size", [0, 2], "things.size.0: 0 is not allowed: it should be greater than or equal to 1"),
        ("size", [1, "2"], "things.size.1: '2' is not allowed: it should be a valid integer"),
        ("size", [1], "things.size.1: a value is required"),
        ("size", "12", "things.size: '12' is not allowed: it should be a valid tuple"),
        ("path", 3, "things.path: 3 is not allowed: it should be a path"),
        ("colour", "green", "things.colour: 'green' is not allowed: it should be 'red' or 'blue'"),
    ],
)
def test_what_does_not_fit_them_is_told(name: str, given: Any, expected: str, typed: Registry) -> None:
    assert [str(fault) for fault in typed.faults("typed", {name: given})] == [expected]


class Ball:
    """A class as a factory."""

    def __init__(self, data: Any, *, size: Annotated[int, Ge(1)] = 2) -> None:
        self.data, self.size = data, size


def test_a_class_is_a_factory_with_its_constructor_as_schema(things: Registry) -> None:
    things("ball")(Ball)
    expected = "things.size: 0 is not allowed: it should be greater than or equal to 1"
    assert [str(fault) for fault in things.faults("ball", {"size": 0})] == [expected]
    assert things.bind("ball", {"size": 4})("spec").size == 4


def test_a_class_without_a_constructor_has_no_arguments() -> None:
    registry = Registry("thing", group="things")

    @registry("bare")
    class Bare:
        pass

    assert registry.faults("bare", {}) == []
    assert isinstance(registry.bind("bare", {})(), Bare)


def test_a_preset_is_the_signature_with_required_values_marked(things: Registry) -> None:
    expected = {"name": "cube", "lr": "???", "width": 3, "bias": True, "betas": [0.9, 0.999], "seed": None}
    assert things.preset("cube") == expected


def test_a_preset_of_a_kind_with_many_is_a_mapping_by_name() -> None:
    registry = Registry("thing", group="things", takes=("xb", "data"), many=True)
    registry("shift")(lambda xb, data, *, pixels=2: xb)
    assert registry.preset("shift") == {"shift": {"pixels": 2}}


def test_registries_do_not_share_their_components(things: Registry) -> None:
    assert Registry("thing", group="things").names == []
    assert not set(Register().model.names)
    assert "cube" not in register.model.names


def test_what_a_failed_module_registered_is_forgotten(things: Registry) -> None:
    exec("@things('late')\ndef late(data): ...", {"__name__": "broken", "things": things})
    things.forget_unloaded()
    assert things.names == ["cube"]


def test_no_metric_is_called_as_the_loss_is() -> None:
    with pytest.raises(ValueError, match="metric 'loss' is taken by the loss itself"):
        Register().metric("loss")


def test_a_kind_that_does_not_exist_suggests_the_nearest() -> None:
    with pytest.raises(AttributeError) as caught:
        _ = register.modell
    kinds = "callback, dataset, loader, loss, metric, model, optim, scheduler, step, transform"
    assert str(caught.value) == f"there is no register.modell; did you mean 'model'? available: {kinds}"


def test_every_kind_has_a_group_of_its_own() -> None:
    groups = [registry.group for registry in register]
    assert len(set(groups)) == len(groups) == 10


def loose(  # type: ignore[no-untyped-def]
    data: Any,
    *,
    path: str = None,  # type: ignore[assignment]  # noqa: RUF013
    act: Callable[..., Any] = None,  # type: ignore[assignment]  # noqa: RUF013
    width: Annotated[int, Ge(1)] = 0,
    text: str = 1,  # type: ignore[assignment]
    colour: Colour = "red",  # type: ignore[assignment]
    sizes=(3, 4),
    chosen=Colour.RED,
) -> Any:
    """A component with defaults that their annotations do not allow, and without annotations."""
    return {"path": path, "act": act, "width": width, "text": text, "colour": colour, "sizes": sizes, "chosen": chosen}


@pytest.mark.parametrize(
    ("name", "taken"),
    [
        ("path", None),
        ("act", None),
        ("width", 0),
        ("text", 1),
        ("colour", Colour.RED),
        ("sizes", (3, 4)),
        ("chosen", Colour.RED),
    ],
)
def test_a_default_is_allowed_as_it_is_written(name: str, taken: Any, things: Registry) -> None:
    things("loose")(loose)
    given = things.preset("loose")[name]
    assert given is None or type(given) in (int, str, list), "as YAML has it"
    assert things.bind("loose", {name: given})(None)[name] == taken


@pytest.mark.parametrize(
    ("name", "given"), [("path", 3), ("act", "relu"), ("width", -1), ("width", False), ("text", True)]
)
def test_another_value_that_the_annotation_does_not_allow_is_refused(name: str, given: Any, things: Registry) -> None:
    things("loose")(loose)
    assert [fault.key for fault in things.faults("loose", {name: given})] == [f"things.{name}"]


@pytest.mark.parametrize("name", ["name", "defaults", "batch_size"])
def test_an_argument_that_the_configuration_has_a_key_of_is_refused(name: str) -> None:
    loaders = Register().loader
    namespace: dict[str, Any] = {"loaders": loaders}
    with pytest.raises(ValueError, match=f"has an argument called {name}, a key that the configuration itself uses"):
        exec(f"@loaders('own')\ndef own(split, size, order, shape, *, {name}=1): ...", namespace)
