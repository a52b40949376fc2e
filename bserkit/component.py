"""A component is a recipe for one stage: a name and its parameters, with one spelling everywhere.

On the command line ``block-max:blocks=2``; in TOML ``[pooler]`` with ``name = "block-max"`` and ``blocks = 2``; in
MLflow ``pooler=block-max`` and ``pooler.blocks=2``. A component holds no weights and no fitted state, so it compares by
value, pickles and can be sent to another process.
"""

from __future__ import annotations

import hashlib
import inspect
import re
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import BaseModel, ConfigDict, ValidationError

from bserkit.errors import UsageError, nearest

if TYPE_CHECKING:
    from collections.abc import Mapping

_NAME = re.compile(r"[a-z0-9][a-z0-9-]*")
# A value may stand in double quotes, for paths that hold a comma; a quote inside it is doubled.
_TOKEN = re.compile(r'(?:[^,"]|"(?:[^"]|"")*")+')


class Component(BaseModel):
    """One stage's recipe: a frozen pydantic model whose fields are its parameters.

    A subclass sets ``name``, such as ``block-max``; its kind comes from the contract that it implements.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: ClassVar[str]
    name: ClassVar[str]

    @property
    def parameters(self) -> dict[str, Any]:
        """Every parameter with its value, plain enough for JSON and TOML."""
        return self.model_dump(mode="json")

    @property
    def spec(self) -> str:
        """The spelling that makes this component again: the name and each parameter that differs from its default."""
        changed = self.model_dump(mode="json", exclude_defaults=True)
        return str(Spec(self.name, {key: _spell(value) for key, value in changed.items()}))

    @classmethod
    def describe_parameters(cls) -> list[tuple[str, str, str, str]]:
        """Return one (name, default, type, description) per parameter, in declared order."""
        return [
            (
                name,
                "required" if info.is_required() else _spell(info.default),
                _spell_type(info.annotation),
                info.description or "",
            )
            for name, info in cls.model_fields.items()
        ]


@dataclass(frozen=True)
class Spec:
    """A component as typed: its name and the parameters that were given, not yet checked."""

    name: str
    parameters: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        """Spell it for the command line, in quotes where a value needs them."""
        values = (f"{key}={_quoted(str(value))}" for key, value in self.parameters.items())
        return ":".join(part for part in (self.name, ",".join(values)) if part)


def parse_specs(text: str) -> list[Spec]:
    """Read one or more components from their command-line spelling.

    A comma starts a new component unless what follows is a ``key=value`` of the one before.

    >>> [str(spec) for spec in parse_specs("lr,block-max:blocks=2,pyramid=true,ms")]
    ['lr', 'block-max:blocks=2,pyramid=true', 'ms']

    Raises:
        UsageError: the text does not follow ``name:key=value,key=value``.
    """
    found: list[tuple[str, dict[str, str]]] = []
    if text.count('"') % 2:
        raise UsageError(f"{text!r} opens a quote that it does not close.")
    for token in (match.group().strip() for match in _TOKEN.finditer(text)):
        name, colon, rest = token.partition(":")
        if _NAME.fullmatch(name):
            found.append((name, {}))
            if not colon:
                continue
            token = rest
        key, equals, value = token.partition("=")
        if not equals or not key.strip().isidentifier() or not found:
            raise UsageError(
                f"{text!r} is not spelt as a component: {token!r} is neither a name nor a key=value. "
                "Expected name:key=value,key=value, such as block-max:blocks=2,pyramid=true."
            )
        parameters = found[-1][1]
        if key.strip() in parameters:
            raise UsageError(f"{text!r} gives the parameter {key.strip()!r} twice.")
        parameters[key.strip()] = _unquoted(text, value.strip())
    if not found:
        raise UsageError("An empty component name was given; expected name:key=value, such as block-max:blocks=2.")
    return [Spec(name, parameters) for name, parameters in found]


def read_specs(value: object) -> list[Spec]:
    """Read components from a configuration value: a spelling, a table with a ``name``, or a list of these.

    Raises:
        UsageError: the value is none of them.
    """
    if isinstance(value, str):
        return parse_specs(value)
    if isinstance(value, dict) and isinstance(value.get("name"), str):
        return [Spec(value["name"], {key: item for key, item in value.items() if key != "name"})]
    if isinstance(value, list):
        return [spec for item in value for spec in read_specs(item)]
    raise UsageError(f"{value!r} is not a component; expected 'name:key=value' or a table with a name.")


def build(cls: type[Component], spec: Spec) -> Component:
    """Make the component, explaining each parameter that does not fit.

    Raises:
        UsageError: a parameter is unknown, missing or of the wrong type or range.
    """
    try:
        return cls(**spec.parameters)
    except ValidationError as error:
        problems = "; ".join(_explain(cls, spec, problem) for problem in error.errors())
        known = ", ".join(f"{name}={default}" for name, default, _, _ in cls.describe_parameters()) or "none"
        raise UsageError(f"{cls.kind} {spec.name}: {problems}. Its parameters and defaults: {known}.") from None


@cache
def code_digest(component: type[Component]) -> str:
    """Return the SHA-256 of the file that defines a component, so that features of other code are told apart."""
    return hashlib.sha256(Path(inspect.getfile(component)).read_bytes()).hexdigest()


def identity(component: Component) -> dict[str, Any]:
    """Return what a component does to numbers: its name, its parameters and its code."""
    return {"name": component.name, "parameters": component.parameters, "code": code_digest(type(component))}


def _explain(cls: type[Component], spec: Spec, problem: Any) -> str:
    parameter = str(problem["loc"][0]) if problem["loc"] else ""
    if problem["type"] == "extra_forbidden":
        return f"no parameter {parameter!r}{nearest(parameter, cls.model_fields)}"
    if problem["type"] == "missing":
        return f"the parameter {parameter!r} is required"
    message = problem["msg"].removeprefix("Value error, ")
    given = spec.parameters.get(parameter)
    return f"{parameter}={given}: {message[:1].lower()}{message[1:]}" if parameter else message


def is_name(value: object) -> bool:
    """Say whether a component of this name can be asked for: small letters, digits and hyphens."""
    return isinstance(value, str) and bool(_NAME.fullmatch(value))


def _quoted(value: str) -> str:
    plain = value == value.strip() and not set(value) & set(',"')
    return value if plain else '"' + value.replace('"', '""') + '"'


def _unquoted(text: str, value: str) -> str:
    if '"' not in value:
        return value
    if not re.fullmatch(r'"(?:[^"]|"")*"', value):
        raise UsageError(f"{text!r} has a quote inside a value; quotes go around a whole value, doubled inside it.")
    return value[1:-1].replace('""', '"')


def _spell(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _spell_type(annotation: object) -> str:
    text = annotation.__name__ if isinstance(annotation, type) else str(annotation)
    return re.sub(r"typing\.|Literal|Union|\[|\]|'", "", text).replace(", ", "|").replace(" | ", "|")
