"""Meaning: code is named by a digest of what it says and of all that it uses, so that what it made can be told apart.

Comments, docstrings and layout move no digest. Of this package the definitions count that are reached by name, so that
an edit elsewhere in a file moves nothing. Of a plugin every module counts that its classes and their bases import
within their own package, or beside a single file; installed libraries count by their version. Nothing is imported.
"""

from __future__ import annotations

import ast
import hashlib
import inspect
import re
import sys
import textwrap
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from types import CodeType, FunctionType, ModuleType
from typing import Any

from bserkit.identity.modules import Place, distribution_of, find, top_of
from bserkit.identity.syntax import Import, Reading, is_for_type_checkers, parse, read

#: This package, of which definitions count.
_OWN = "bserkit"
#: Its modules that move no number: how components are spelt, how errors and progress are told, how files are kept.
_FRAME = frozenset(
    f"{_OWN}.{name}"
    for name in (
        "component",
        "content",
        "errors",
        "hooks",
        "meaning",
        "modules",
        "parallel",
        "progress",
        "store",
        "syntax",
    )
)
#: Libraries that move no number whatever their version is.
_PLAIN = frozenset({"annotated_types", "pluggy", "pydantic", "pydantic_core", "safetensors", "typing_extensions"})


@dataclass(frozen=True)
class Code:
    """What a class is made of.

    Attributes:
        digest: the SHA-256 of all the code that counts.
        versions: by name, of its own distribution and of those that it imports.
    """

    digest: str
    versions: Mapping[str, str]


@cache
def meaning(*roots: Callable[..., Any] | str) -> str:
    """Return the SHA-256 of functions and classes of this package and of all in it that they use.

    Args:
        roots: themselves, or ``module.name`` of one whose module is not to be imported.
    """
    walk = _Walk()
    for root in roots:
        module, _, name = root.rpartition(".") if isinstance(root, str) else (root.__module__, "", root.__qualname__)
        walk.define(module, name.partition(".")[0])
    return walk.finish().digest


@cache
def code_of(cls: type) -> Code:
    """Return what a class was made of when that was first asked for: its code, its bases, and all that they use.

    A class that has no file, such as one typed into a notebook, counts by its source where Python knows it and by its
    bytecode where not, with the functions, the modules and the plain values that it uses.
    """
    bases = [base for base in cls.__mro__ if not _moves_nothing(top_of(base.__module__))]
    # Bases that are components may come from an installed package too.
    walk = _Walk(top_of(base.__module__) for base in bases if hasattr(base, "model_fields"))
    for base in bases:
        walk.thing(base)
    return walk.finish()


def _moves_nothing(top: str) -> bool:
    return top in _PLAIN or (top in sys.stdlib_module_names and top != "__main__")


class _Walk:
    """Gathers all that is reached from somewhere.

    Args:
        followed: top-level packages whose modules count even where they are installed.
    """

    def __init__(self, followed: Iterable[str] = ()) -> None:
        self._followed = frozenset(followed)
        self._seen: set[object] = set()
        self._todo: list[tuple[Callable[..., object], tuple[Any, ...]]] = []
        self._parts: set[tuple[str, str]] = set()
        self._versions: dict[str, str] = {}

    def finish(self) -> Code:
        """Follow everything, and name it."""
        while self._todo:
            reach, given = self._todo.pop()
            reach(*given)
        lines = "\n".join(f"{label} {digest}" for label, digest in sorted(self._parts))
        return Code(hashlib.sha256(lines.encode()).hexdigest(), dict(sorted(self._versions.items())))

    def thing(self, thing: type | FunctionType) -> None:
        """Reach a class or a function."""
        if top_of(thing.__module__) == _OWN:
            self.define(thing.__module__, thing.__qualname__.partition(".")[0])
        elif not self.module(thing.__module__) or _was_typed(thing):
            self._without_file(thing)

    def define(self, module: str, name: str) -> None:
        """Reach what a module of this package calls so at its top: a class, a function or a value."""
        if module in _FRAME or not self._is_new((module, name)):
            return
        source = _own_source(module)
        if source is None:
            # There is no source of it: all of it counts.
            place = find(module)
            self._add(module, place.content() if place else b"missing")
            return
        if self._is_new(module):
            self._use(module, source, source.reading(""))
        if name in source.definitions:
            self._use(f"{module}.{name}", source, source.reading(name))
        if name in source.imports:
            self._member(*_joined(source.imports[name], ()))

    def module(self, name: str, importer: Place | None = None) -> bool:
        """Reach a module and the packages that it lies in; say whether it is there."""
        top = top_of(name)
        if top == _OWN or _moves_nothing(top):
            return True
        if (around := find(top)) and around.installed and top not in self._followed:
            self._version(top, around)
            return True
        places = [find(name)]
        if importer and importer.file and not importer.package:
            # What a single file may find beside itself only once it runs.
            places.append(find(name, importer.file.parent))
        for place in filter(None, places):
            if self._is_new((place.name, place.file)):
                self._version(top, around or place)
                self._todo.append((self._read, (place,)))
        if "." in name and any(places):
            self.module(name.rpartition(".")[0], importer)
        return any(places)

    def _read(self, place: Place) -> None:
        """Count a whole module that is not of this package, and reach what it imports."""
        content = place.content()
        tree = parse(content) if place.file and place.file.suffix == ".py" else None
        if tree is None:
            self._add(place.label, content)
            return
        try:
            reading = read(tree.body, docstrings=b"__doc__" in content or b"getdoc" in content)
        except RecursionError:
            # Written by a machine, too deep to be followed.
            self._add(place.label, content)
            return
        self._add(place.label, " ".join(reading.words).encode())
        for one in reading.imports:
            self._import(one, place)
        aliases = _aliases(reading.imports, place.package)
        stars = [module for alias, (module, _) in aliases.items() if alias.startswith("*") and top_of(module) == _OWN]
        for names in reading.names:
            if names[0] not in aliases:
                for module in stars:
                    self._member(module, names)
            elif top_of(aliases[names[0]][0]) == _OWN:
                self._member(*_joined(aliases[names[0]], names[1:]))
        if reading.computed:
            for other in place.beside():
                if self._is_new((other.name, other.file)):
                    self._todo.append((self._read, (other,)))

    def _import(self, one: Import, place: Place) -> None:
        """Reach what a module imports."""
        module = _absolute(one, place.package)
        if top_of(module) == _OWN:
            return
        there = self.module(module, place)
        if one.name and one.name != "*" and there:
            # A submodule, unless it is a name in the package.
            self.module(f"{module}.{one.name}", place)
        if not there:
            self._add(module, b"missing")

    def _use(self, label: str, source: _Source, reading: Reading) -> None:
        """Count a piece of a module of this package, and reach what it names."""
        self._add(label, " ".join(reading.words).encode())
        imports = {**source.imports, **_aliases(reading.imports, source.package)}
        for names in reading.names:
            if names[0] in imports:
                self._todo.append((self._member, _joined(imports[names[0]], names[1:])))
            if names[0] in source.definitions:
                self._todo.append((self.define, (source.name, names[0])))

    def _member(self, module: str, names: Sequence[str]) -> None:
        """Reach what dotted names mean as seen from outside a module; where there are none, all of it."""
        if top_of(module) != _OWN:
            self.module(module)
        elif names and _is_module(f"{module}.{names[0]}"):
            self._member(f"{module}.{names[0]}", names[1:])
        elif names:
            self.define(module, names[0])
        elif module not in _FRAME and (source := _own_source(module)):
            for name in source.definitions:
                self.define(module, name)

    def _without_file(self, thing: type | FunctionType) -> None:
        """Count a class or function that has no file, and reach what it uses."""
        if not self._is_new(thing):
            return
        members = vars(thing).values() if isinstance(thing, type) else [thing]
        plain = [getattr(one, "__func__", None) or getattr(one, "fget", None) or one for one in members]
        functions = [one for one in plain if isinstance(one, FunctionType) and one.__module__ == thing.__module__]
        used: dict[str, object] = {}
        for function in functions:
            names = {name for code in _nested(function.__code__) for name in code.co_names}
            used |= {name: function.__globals__[name] for name in names if name in function.__globals__}
        values = used | (dict(vars(thing)) if isinstance(thing, type) else {})
        said = [f"{name} {value!r}" for name, value in sorted(values.items()) if _is_plain(name, value)]
        label = f"{thing.__module__}.{thing.__qualname__}"
        self._add(label, repr([*said, *(_source_of(thing) or map(_bytecode, functions))]).encode())
        for value in used.values():
            if isinstance(value, ModuleType):
                self.module(value.__name__)
            elif isinstance(value, type | FunctionType) and not _moves_nothing(top_of(value.__module__)):
                self.thing(value)

    def _version(self, top: str, place: Place) -> None:
        """Note the version of the distribution that a package belongs to."""
        if self._is_new(f"version of {top}") and (found := distribution_of(top, place)):
            name, version = found
            self._versions[name] = version

    def _is_new(self, what: object) -> bool:
        is_new = what not in self._seen
        self._seen.add(what)
        return is_new

    def _add(self, label: str, said: bytes) -> None:
        # The name that a plugin's package is kept under says where it lies, which moves no number.
        label = re.sub(r"^bserkit_plugin_(\w+)_[0-9a-f]{8}\b", r"\1", label)
        self._parts.add((label, hashlib.sha256(said).hexdigest()))


class _Source:
    """A module of this package by what is defined at its top.

    Attributes:
        definitions: by name, the statements that bind it; under the empty name those that only run.
        imports: by alias, the module and the name in it.
    """

    def __init__(self, name: str, package: str, tree: ast.Module) -> None:
        self.name, self.package = name, package
        self.definitions: dict[str, list[ast.stmt]] = {}
        self.imports: dict[str, tuple[str, str]] = {}
        self._readings: dict[str, Reading] = {}
        for statement in tree.body:
            if is_for_type_checkers(statement):
                continue
            if not isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                self.imports |= _aliases(read([statement]).imports, package)
            if not isinstance(statement, ast.Import | ast.ImportFrom):
                for bound in _bound(statement) or [""]:
                    self.definitions.setdefault(bound, []).append(statement)

    def reading(self, name: str) -> Reading:
        """Read what binds a name."""
        if name not in self._readings:
            self._readings[name] = read(self.definitions.get(name, []), wording=False)
        return self._readings[name]


@cache
def _own_source(module: str) -> _Source | None:
    place = find(module)
    tree = parse(place.content()) if place and place.file and place.file.suffix == ".py" else None
    return _Source(module, place.package, tree) if place and tree else None


@cache
def _is_module(name: str) -> bool:
    return find(name) is not None


def _bound(statement: ast.stmt) -> list[str]:
    """Return the names that a statement at the top of a module binds, but those of imports."""
    if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return [statement.name]
    if isinstance(statement, ast.Assign | ast.AnnAssign | ast.AugAssign):
        targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
        return [one.id for target in targets for one in ast.walk(target) if isinstance(one, ast.Name)]
    inner = [one for one in ast.iter_child_nodes(statement) if isinstance(one, ast.stmt | ast.ExceptHandler)]
    return [name for one in inner for name in _bound(one)]  # type: ignore[arg-type]


def _absolute(one: Import, package: str) -> str:
    """Return the whole name of a module that is imported."""
    if not one.level:
        return one.module
    parts = package.split(".")
    return ".".join(part for part in (*parts[: len(parts) - one.level + 1], one.module) if part)


def _aliases(imports: Iterable[Import], package: str) -> dict[str, tuple[str, str]]:
    """Return what names of imports mean: the module, and the name in it or none."""
    found = {}
    for one in imports:
        module = _absolute(one, package)
        if one.alias == "*":
            found[f"*{module}"] = module, ""
        elif one.alias:
            found[one.alias] = module, one.name
    return found


def _joined(target: tuple[str, str], rest: Sequence[str]) -> tuple[str, list[str]]:
    module, name = target
    return module, [*([name] if name else []), *rest]


def _was_typed(thing: type | FunctionType) -> bool:
    """Say whether something was typed in after a script was run."""
    place = find("__main__") if thing.__module__ == "__main__" else None
    if place is None or (tree := parse(place.content())) is None:
        return False
    return thing.__qualname__.partition(".")[0] not in {name for one in tree.body for name in _bound(one)}


def _source_of(thing: type | FunctionType) -> list[str]:
    """Return what the source says where Python knows it, as a notebook lets it."""
    try:
        tree = parse(textwrap.dedent(inspect.getsource(thing)).encode())
    except (OSError, TypeError):
        return []
    return read(tree.body).words if tree else []


def _nested(code: CodeType) -> Iterator[CodeType]:
    yield code
    for one in code.co_consts:
        if isinstance(one, CodeType):
            yield from _nested(one)


def _bytecode(function: FunctionType) -> str:
    """Return what a function does in the words of this version of Python."""
    codes = list(_nested(function.__code__))
    said = [
        (code.co_code, code.co_names, [one for one in code.co_consts if not isinstance(one, CodeType)])
        for code in codes
    ]
    return repr((sys.version_info[:2], function.__defaults__, function.__kwdefaults__, said))


def _is_plain(name: str, value: object) -> bool:
    """Say whether a value is written out the same way in every process."""
    if isinstance(value, tuple | list):
        return not name.startswith("__") and all(_is_plain(name, one) for one in value)
    return not name.startswith("__") and isinstance(value, bool | int | float | complex | str | bytes | None)
