"""A component is a recipe for one stage: a name and its parameters, with one spelling everywhere.

On the command line ``block-max:blocks=2``; in TOML ``[pooler]`` with ``name = "block-max"`` and ``blocks = 2``; in
MLflow ``pooler=block-max`` and ``pooler.blocks=2``. Where several have a name, ``bserkit-band/block-max`` is that of
one distribution, or of one file by its name without ``.py``. A component holds no weights and no fitted state, so it
compares by value, pickles and can be sent to another process.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, get_args

from pydantic import BaseModel, ConfigDict, ValidationError

from bserkit.errors import UsageError, nearest
from bserkit.identity.content import content_name
from bserkit.identity.meaning import code_of

if TYPE_CHECKING:
    from collections.abc import Mapping

_NAME = re.compile(r"[a-z0-9][a-z0-9-]*")
# What stands before it where several plugins have a component of one name: the plugin's own.
_QUALIFIED = re.compile(rf"(?:\w[\w.-]*/)?{_NAME.pattern}")
# A value may stand in double quotes, for paths that hold a comma; a quote inside it is doubled.
_TOKEN = re.compile(r'(?:[^,"]|"(?:[^"]|"")*")+')


class Component(BaseModel):
    """One stage's recipe: a frozen pydantic model whose fields are its parameters.

    A subclass sets ``name``, such as ``block-max``; its kind comes from the contract that it implements. A parameter
    that names a file has the type ``Path``, so that what is made with it is known by the file's content.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: ClassVar[str]
    name: ClassVar[str]

    @cached_property
    def known_as(self) -> str:
        """The name that it was asked for by, which ``Plugins.make`` fills in: its own, or its plugin's before that."""
        return self.name

    @property
    def parameters(self) -> dict[str, Any]:
        """Every parameter with its value, plain enough for JSON and TOML."""
        return self.model_dump(mode="json")

    @property
    def spec(self) -> str:
        """The spelling that makes this component again: the name and each parameter that differs from its default."""
        changed = self.model_dump(mode="json", exclude_defaults=True)
        return str(Spec(self.known_as, {key: _spell(value) for key, value in changed.items()}))

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
        if _QUALIFIED.fullmatch(name):
            found.append((name, {}))
            if not colon:
                continue
            token = rest
        key, equals, value = token.partition("=")
        if not equals or not key.strip().isidentifier() or not found:
            raise UsageError(
                f"{text!r} is not spelt as a component: {token!r} is neither a name nor a key=value. "
                "Expected name:key=value,key=value, such as block-max:blocks=2,pyramid=true. A value that holds a "
                "comma goes in double quotes, within the shell's single quotes: 'folders:speaker=\"s(\\d{1,3})_\"'."
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


def identity(component: Component, parameters: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return what a component does to numbers: its name, its parameters, its code and the versions of its libraries.

    A parameter that names a file or a folder stands by the content, wherever that lies: one whose type is a ``Path``,
    ``Path | None``, ``list[Path]`` and so on.

    Args:
        parameters: those that matter; by default all.

    Raises:
        UsageError: a parameter names a file that is not there or cannot be read.
    """
    code = code_of(type(component))
    own = component.parameters
    found = dict(own if parameters is None else parameters)
    for name, info in type(component).model_fields.items():
        if name in found and found[name] == own[name]:
            where = f"{component.kind} {component.name}: {name}"
            found[name] = _by_content(getattr(component, name), info.annotation, own[name], where)
    return {"name": component.name, "parameters": found, "code": code.digest, "versions": dict(code.versions)}


def _by_content(value: object, annotation: object, plain: Any, where: str) -> Any:
    """Return a parameter's plain value with each file in it replaced by its content."""
    if isinstance(value, Component):
        return identity(value)
    if isinstance(value, BaseModel) and isinstance(plain, dict):
        fields = type(value).model_fields
        return {
            name: _by_content(getattr(value, name), fields[name].annotation, one, f"{where}.{name}")
            if name in fields
            else one
            for name, one in plain.items()
        }
    if isinstance(value, os.PathLike):
        return _content(Path(value), where)
    if isinstance(value, str):
        # One that may be a path but need not: it is where there is such a file.
        path = Path(value).expanduser()
        return _content(path, where) if value and _has_path(annotation) and path.exists() else plain
    if isinstance(value, dict):
        return {str(name): _by_content(one, annotation, str(one), where) for name, one in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        kept = plain if isinstance(plain, list) and isinstance(value, list | tuple) else map(str, value)
        named = [_by_content(one, annotation, of, where) for one, of in zip(value, kept, strict=True)]
        return sorted(named, key=str) if isinstance(value, set | frozenset) else named
    return plain


def _content(path: Path, where: str) -> str:
    try:
        there = path if path.exists() else path.expanduser()
        # A pipe or a device has no content to be named by.
        return content_name(there) if there.is_file() or there.is_dir() or not there.exists() else str(path)
    except OSError as error:
        raise UsageError(
            f"{where}={path} cannot be read: {error.strerror}. A parameter that names a file or a folder counts by "
            "what is in it; give the path of one that is there."
        ) from None


def _has_path(annotation: object) -> bool:
    if isinstance(annotation, type) and not get_args(annotation):
        return issubclass(annotation, os.PathLike)
    return any(map(_has_path, get_args(annotation)))


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
