"""Recipes: what must hold of every component, whatever its kind."""

from __future__ import annotations

import json
import pickle
import tomllib
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from typing import Any, Literal, TypeVar, get_args, get_origin

from pydantic import ValidationError

from bserkit.component import Component, Spec, build, identity, is_name, parse_specs, read_specs
from bserkit.errors import BserkitError, UsageError
from bserkit.testing.expecting import CheckError, expect, pickled

_Component = TypeVar("_Component", bound=Component)


def can_be_made(component: type[Component]) -> None:
    """It can be made by its defaults; a required parameter takes the first of its ``Field(examples=[...])``."""
    try:
        example_of(component)
    except UsageError as error:
        raise CheckError(f"{error} Give each required parameter Field(examples=[...]).") from error


def has_a_name(component: Component) -> None:
    """Its name can be typed: small letters, digits and hyphens."""
    name = getattr(component, "name", None)
    expect(
        is_name(name),
        f"{type(component).__name__} has the name {name!r}; set a class variable such as name = 'block-max'.",
    )


def says_what_it_is(component: Component) -> None:
    """Its class has a docstring, whose first line ``bserkit components`` shows."""
    expect(
        (type(component).__doc__ or "").strip(),
        f"{type(component).__name__} has no docstring; write a line that says what it does.",
    )


def is_a_frozen_recipe(component: Component) -> None:
    """It cannot be changed, refuses unknown parameters and holds nothing but its parameters."""
    config, what = type(component).model_config, f"{component.kind} {component.name}"
    expect(config.get("frozen"), f"{what} can be changed after it was made; leave model_config frozen.")
    expect(
        config.get("extra") == "forbid",
        f"{what} takes parameters that it does not have; leave extra='forbid' in model_config.",
    )
    private = type(component).__private_attributes__
    expect(not private, f"{what} has private attributes, {', '.join(private)}; a recipe holds its parameters alone.")


def round_trips_as_text(component: Component) -> None:
    """Its spelling on the command line makes it again, and so do those of all its choices."""
    for one in variants(component):
        specs = parse_specs(one.spec)
        again = build(type(one), specs[0]) if len(specs) == 1 else None
        expect(again == one, f"{one.kind} {one.spec!r} is read back as {again!r}; expected {one!r}. {_PLAIN}")


def round_trips_as_toml(component: Component) -> None:
    """A table of all its parameters in a TOML file makes it again, and so do those of all its choices."""
    import tomli_w

    for one in variants(component):
        # TOML has no None: what is not there has its default.
        table = {"name": one.name} | {key: value for key, value in one.parameters.items() if value is not None}
        (spec,) = read_specs(tomllib.loads(tomli_w.dumps({one.kind: table}))[one.kind])
        again = build(type(one), spec)
        expect(again == one, f"{one.kind} {one.spec!r} is read back from TOML as {again!r}; expected {one!r}. {_PLAIN}")


def round_trips_by_pickle(component: Component) -> None:
    """It can be sent to another process: pickled and read back, it is equal."""
    try:
        again = pickled(component)
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        again = f"nothing: {error}"
    expect(
        again == component,
        f"{component.kind} {component.name} is pickled and read back as {again}; expected {component!r}. Write its "
        "class at the top of a module.",
    )


def has_a_stable_identity(component: Component) -> None:
    """What names its work in the feature store is plain text, and the same whenever it is asked for."""
    first, again = (json.dumps(identity(component), sort_keys=True) for _ in range(2))
    expect(first == again, f"{component.kind} {component.name} is known by {first}, then by {again}. {_PLAIN}")


CHECKS: tuple[Callable[[Component], None], ...] = (
    has_a_name,
    says_what_it_is,
    is_a_frozen_recipe,
    round_trips_as_text,
    round_trips_as_toml,
    round_trips_by_pickle,
    has_a_stable_identity,
)
_PLAIN = "Give its parameters plain types: text, numbers, true or false, Literal, Path; None only as a default."


def example_of(component: type[Component]) -> Component:
    """Make a component by its defaults; a parameter that is required takes the first of its ``Field(examples=[...])``.

    Raises:
        UsageError: a required parameter has none.
    """
    fields = component.model_fields.items()
    required = {name: info.examples[0] for name, info in fields if info.is_required() and info.examples}
    return build(component, Spec(component.name, required))


def examples_of(components: Iterable[type[Component]]) -> list[Component]:
    """Make of each class what ``example_of`` makes, where it can."""
    made = []
    for one in components:
        with suppress(UsageError):
            made.append(example_of(one))
    return made


def variants(component: _Component, numbers: bool = False) -> Iterator[_Component]:
    """Yield a component, then it with one parameter changed at a time, wherever it takes the change.

    Args:
        numbers: whether numbers are changed too, beside what is true or false or one of some words.
    """
    yield component
    for name, info in type(component).model_fields.items():
        for value in _others(getattr(component, name), info.annotation, numbers):
            try:
                yield type(component)(**(component.model_dump(exclude_unset=False) | {name: value}))
            except (ValidationError, BserkitError):
                continue


def _others(value: Any, annotation: Any, numbers: bool) -> list[Any]:
    """Return other values of a parameter that are known beforehand."""
    if isinstance(value, bool):
        return [not value]
    choices = [
        one for part in (annotation, *get_args(annotation)) if get_origin(part) is Literal for one in get_args(part)
    ]
    if numbers and isinstance(value, int | float):
        choices.append(value + 1)
    return [one for one in choices if one != value]
