"""A grid: every combination of several components, and the references beside them, as settings of single runs."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import product
from typing import TYPE_CHECKING, Any

from bserkit.component import read_specs
from bserkit.errors import UsageError
from bserkit.experiments.settings import NONE, SETTINGS, read_config, resolve

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from bserkit.component import Component
    from bserkit.experiments.settings import Settings
    from bserkit.plugins.registry import Plugins

#: What can be varied, in the data's order; what stands last varies fastest.
AXES = tuple(key for key, one in SETTINGS.items() if one.axis is not None)
#: What is called what it is without the stages that may be left out.
_LEFT_OUT = {"finetune": "frozen", "normaliser": NONE}


@dataclass(frozen=True)
class Combination:
    """One run of a sweep, before it is done.

    Attributes:
        name: what tells it from the others.
        stages: what each stage is called in tables: a component's name, or its whole spelling where the sweep has
            several of that name.
        reference: whether it stands beside the grid, to be compared with.
    """

    name: str
    stages: Mapping[str, str]
    settings: Settings
    reference: bool = False


def combinations(
    values: Mapping[str, Any], grid: Mapping[str, Sequence[str]], references: Sequence[Path], plugins: Plugins
) -> list[Combination]:
    """Return every combination of the grid, the one named first first, and then the references.

    Args:
        values: settings as they were given, by an option or a configuration file; the grid's stand over them.
        grid: the components to combine, by axis; an axis that is not in it or empty has its own value or the default.
        references: configuration files whose settings stand over those of the first combination.

    Raises:
        UsageError: something given is not known or does not fit, or two combinations are the same.
    """
    fixed = {key: value for key, value in values.items() if key not in (*AXES, "run-name")}
    axes = {axis: choices for axis in AXES if (choices := _choices(axis, values, grid))}
    varied = [axis for axis, choices in axes.items() if len(choices) > 1] or [
        axis for axis in AXES if SETTINGS[axis].axis
    ]
    every = [resolve(fixed | dict(zip(axes, choice, strict=True)), plugins) for choice in product(*axes.values())]
    # One name for several spellings tells nothing apart.
    short = [
        axis for axis in AXES if len({spelt(one)[axis] for one in every}) == len({_named(one)[axis] for one in every})
    ]
    made = []
    for settings in every:
        stages = {axis: (_named if axis in short else spelt)(settings)[axis] for axis in AXES}
        made.append(Combination(" ".join(stages[axis] for axis in varied), stages, settings))
    first = fixed | {axis: choices[0] for axis, choices in axes.items()}
    made += [_reference(path, first, made[0].settings, plugins) for path in references]
    for index, one in enumerate(made):
        if twin := next((other for other in made[:index] if other.settings == one.settings), None):
            what = f"The reference {one.name}" if one.reference else "A combination"
            raise UsageError(f"{what} is the same as {twin.name}: {one.settings.command()}. Give each once.")
        if one.name in {other.name for other in made[:index]}:
            raise UsageError(
                f"Two are named {one.name!r}. Name one in its file, such as run-name = {one.name + ' 2'!r}."
            )
    return made


def _choices(axis: str, values: Mapping[str, Any], grid: Mapping[str, Sequence[str]]) -> list[Any]:
    """Return what an axis goes through: what was given for it, or else the default."""
    given: list[Any] = list(grid.get(axis) or ([values[axis]] if axis in values else SETTINGS[axis].axis or ()))
    if axis in _LEFT_OUT:
        given = [None if choice == NONE else choice for choice in given]
    for choice in given:
        if axis != "channels" and choice and len(specs := read_specs(choice)) > 1:
            each = " ".join(f"--{axis} {spec}" for spec in specs)
            raise UsageError(f"--{axis} {choice} names {len(specs)} components; give the option once for each: {each}.")
    return given


def spelt(settings: Settings) -> dict[str, str]:
    """Return each axis's components as they are spelt."""
    return _by_axis(settings, lambda component: component.spec)


def _named(settings: Settings) -> dict[str, str]:
    """Return each axis's components by their names alone."""
    return _by_axis(settings, lambda component: component.known_as)


def _by_axis(settings: Settings, write: Callable[[Component], str]) -> dict[str, str]:
    written: dict[str, list[str]] = {axis: [] for axis in AXES}
    for component in settings.components():
        if component.kind in written:
            written[component.kind].append(write(component))
    return {axis: ",".join(words) or _LEFT_OUT[axis] for axis, words in written.items()}


def _reference(path: Path, first: Mapping[str, Any], base: Settings, plugins: Plugins) -> Combination:
    """Read a configuration that stands beside the grid: on the same data and folds, whatever else it sets."""
    values = read_config(path)
    name = str(values.pop("run-name", path.stem))
    settings = resolve({**first, **values}, plugins)
    for what in ("data", "corpus", "protocol"):
        if getattr(settings, what) != getattr(base, what):
            raise UsageError(
                f"The reference {path} sets another {what} than the sweep, but a reference is held against it on the "
                "same utterances in the same folds. Leave that setting out of the file."
            )
    settings = replace(
        settings,
        run_name=None,
        experiment=base.experiment,
        plugins_dir=base.plugins_dir,
        found_reader=base.found_reader,
    )
    return Combination(name, _named(settings), settings, reference=True)
