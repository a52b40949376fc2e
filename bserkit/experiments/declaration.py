"""What one setting is: its type, its default, how it is explained, read, spelt and kept.

Which settings there are stands in ``settings``. Options, configuration files, MLflow and sweeps follow from both.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import NoneType
from typing import Any, Literal, get_args, get_origin

from bserkit.component import Component, Spec, parse_specs, read_specs
from bserkit.errors import UsageError


@dataclass(frozen=True)
class Setting:
    """How a setting is declared, as an annotation of its type. The type says how it is spelt.

    Attributes:
        default: as it would be typed; None where there is none.
        help: what it does.
        metavar: what stands for its value in help; a component has its own.
        instead: other defaults, by the name of the corpus or by what the backbone reads.
        axis: None unless a sweep may vary it; what a sweep varies it over where nothing is asked for, often nothing.
        file: the component's parameter that names a file; the words after it are values that name none.
        offers: values that a shell completes where the type does not list them.
        logged: whether MLflow shows it as a run's parameter.
        reads: reads a value where the type alone does not say how.
        type: filled in from what is annotated.
    """

    default: Any
    help: str
    metavar: str = "NAME"
    instead: Mapping[str, str] = field(default_factory=dict)
    axis: tuple[str, ...] | None = None
    file: tuple[str, ...] = ()
    offers: tuple[str, ...] = ()
    logged: bool = True
    reads: Callable[[object], Any] | None = None
    type: Any = None

    @property
    def several(self) -> bool:
        """Whether it takes several values of one type."""
        return get_origin(self.type) is tuple

    @property
    def types(self) -> tuple[Any, ...]:
        """The types that one value may have."""
        return tuple(one for one in get_args(self.type) or (self.type,) if one not in (Ellipsis, NoneType))

    @property
    def contract(self) -> type[Component] | None:
        """What the components are that it names; None where it names none."""
        first = self.types[0]
        return first if isinstance(first, type) and issubclass(first, Component) else None

    @property
    def choices(self) -> tuple[str, ...]:
        """The words that are known beforehand."""
        listed = [word for one in (self.type, *self.types) if get_origin(one) is Literal for word in get_args(one)]
        return tuple(listed) or self.offers

    def short(self, component: Component) -> str:
        """Spell a component without the place of the file that it names."""
        parameter, *words = self.file or ("",)
        spec = parse_specs(component.spec)[0]
        kept = {key: value for key, value in spec.parameters.items() if key != parameter or value in words}
        return str(Spec(spec.name, kept))

    def read(self, key: str, value: Any) -> Any:
        """Check the value of a setting that names no component.

        Raises:
            UsageError: it is not of the type.
        """
        if self.reads:
            return self.reads(value)
        if self.type is bool:
            if not isinstance(value, bool):
                raise UsageError(f"{key} is {value!r}; expected true or false.")
        elif self.type is int:
            try:
                return int(str(value))
            except ValueError:
                raise UsageError(f"{key} is {value!r}; expected a whole number.") from None
        elif not isinstance(value, str | Path | None):
            raise UsageError(f"{key} is {value!r}; expected text.")
        elif get_origin(self.type) is Literal:
            if value not in self.choices:
                raise UsageError(f"--{key} {value} is not known; expected {', '.join(self.choices)}.")
        elif Path in self.types:
            folders = [Path(one).expanduser() for one in self._paths(value)]
            return tuple(folders) if self.several else next(iter(folders), None)
        return value

    def beside(self, key: str, value: Any, folder: Path) -> Any:
        """Return a value from a configuration file, with relative files taken to begin in ``folder``."""
        if self.file:
            parameter, *words = self.file
            spec = one_spec(key, value)
            table = {"name": spec.name, **spec.parameters}
            if isinstance(file := table.get(parameter), str) and file not in words:
                table[parameter] = str(folder / Path(file).expanduser())
            return table
        if Path in self.types and isinstance(value, str):
            return os.pathsep.join(str(folder / Path(one).expanduser()) for one in self._paths(value))
        return value

    def _paths(self, value: str | Path | None) -> list[str]:
        if not value:
            return []
        return str(value).split(os.pathsep) if self.several else [str(value)]


def one_spec(key: str, value: object) -> Spec:
    """Read the one component that a setting names.

    Raises:
        UsageError: it names several.
    """
    specs = read_specs(value)
    if len(specs) != 1:
        raise UsageError(f"{key} takes one component, but {value!r} names {len(specs)}.")
    return specs[0]


def spell(value: object) -> str:
    """Spell a setting's value as it would be typed.

    >>> spell((1, 3)), spell(True), spell("loso")
    ('1,3', 'true', 'loso')
    """
    if isinstance(value, tuple):
        return (os.pathsep if any(isinstance(one, Path) for one in value) else ",").join(map(spell, value))
    if isinstance(value, Component):
        return value.spec
    return str(value).lower() if isinstance(value, bool) else str(value)
