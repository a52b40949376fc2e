"""Syntax: what a piece of code says, without its comments, docstrings and layout, and which names and modules it uses.

Nothing is imported or run: code is parsed.
"""

from __future__ import annotations

import ast
import warnings
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable

#: Calls that import a module which their first argument names.
_IMPORTING = frozenset({"import_module", "__import__"})
#: Calls that run code which only running tells.
_RUNNING = frozenset({"exec", "run_module", "run_path", "spec_from_file_location", "SourceFileLoader"})
_Function = ast.FunctionDef | ast.AsyncFunctionDef


class Import(NamedTuple):
    """An import: ``level`` dots, the module, the name taken from it, or none, and what it is called from then on."""

    level: int
    module: str
    name: str
    alias: str


@dataclass
class Reading:
    """What a piece of code says.

    Attributes:
        words: its syntax without what does nothing: comments, docstrings, layout, help texts of parameters, and what
            only type checkers read.
        names: every name that it uses, with the attributes asked of it: ``a.b.c`` is ``("a", "b", "c")``.
        imports: every import in it, those inside functions too.
        computed: whether it imports or runs code that only running tells.
    """

    words: list[str] = field(default_factory=list)
    names: set[tuple[str, ...]] = field(default_factory=set)
    imports: list[Import] = field(default_factory=list)
    computed: bool = False


@cache
def parse(source: bytes) -> ast.Module | None:
    """Parse a module, or return None where it is not Python."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def read(statements: Iterable[ast.stmt], wording: bool = True, docstrings: bool = False) -> Reading:
    """Say what statements mean.

    Args:
        wording: false leaves out too what moves no number in ordinary code: the messages of errors that are raised and
            the annotations of functions.
        docstrings: whether they count, since the code reads them.
    """
    reader = _Reader(wording, docstrings)
    for statement in statements:
        reader.visit(statement)
    return reader.found


def is_for_type_checkers(statement: ast.stmt) -> bool:
    """Say whether a statement is ``if TYPE_CHECKING:``."""
    if not isinstance(statement, ast.If):
        return False
    test = statement.test
    return getattr(test, "id", getattr(test, "attr", "")) == "TYPE_CHECKING"


class _Reader:
    def __init__(self, wording: bool, docstrings: bool) -> None:
        self.wording = wording
        self.docstrings = docstrings
        self.found = Reading()

    def visit(self, node: ast.AST) -> None:
        if isinstance(node, ast.Pass) or (
            isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and not self.docstrings
        ):
            return
        if isinstance(node, ast.If) and is_for_type_checkers(node):
            for statement in node.orelse:
                self.visit(statement)
            return
        left_out: tuple[str, ...] = ()
        if isinstance(node, ast.Constant):
            # Of a whole number in any size; 1, 1.0 and True are three things.
            value = hex(node.value) if isinstance(node.value, int) else repr(node.value)
            self.found.words.append(f"{type(node.value).__name__} {value}")
            return
        if isinstance(node, ast.Import | ast.ImportFrom):
            self.found.imports += _imports(node)
        elif isinstance(node, ast.Name):
            self.found.names.add((node.id,))
        elif isinstance(node, ast.Attribute) and (names := _dotted(node)):
            self.found.names.add(names)
            self.found.words.append(".".join(names))
            return
        elif isinstance(node, ast.Call):
            self._call(node)
            if getattr(node.func, "id", "") == "Field":
                # A parameter's help text.
                node = ast.Call(node.func, node.args, [one for one in node.keywords if one.arg != "description"])
        elif not self.wording:
            if isinstance(node, ast.arg):
                left_out = ("annotation",)
            elif isinstance(node, _Function):
                left_out = ("returns",)
            elif isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call):
                self._raised(node.exc)
                return
        self._children(node, left_out)

    def _children(self, node: ast.AST, left_out: tuple[str, ...] = ()) -> None:
        """Write a node's type and all that it holds; what is empty is not written, since versions of Python differ."""
        self.found.words.append(f"{type(node).__name__}(")
        for name, value in ast.iter_fields(node):
            if value is None or value == [] or name in left_out or name in {"ctx", "type_comment", "type_ignores"}:
                continue
            self.found.words.append(f"{name}=")
            if isinstance(value, list):
                for one in value:
                    if isinstance(one, ast.AST):
                        self.visit(one)
                    else:
                        self.found.words.append(repr(one))
            elif isinstance(value, ast.AST):
                self.visit(value)
            else:
                self.found.words.append(repr(value))
        self.found.words.append(")")

    def _call(self, node: ast.Call) -> None:
        called = getattr(node.func, "id", getattr(node.func, "attr", ""))
        if called in _IMPORTING:
            first = node.args[0] if node.args else None
            if isinstance(first, ast.Constant) and isinstance(first.value, str):
                module = first.value.lstrip(".")
                self.found.imports.append(Import(len(first.value) - len(module), module, "", ""))
            else:
                self.found.computed = True
        self.found.computed |= called in _RUNNING

    def _raised(self, error: ast.Call) -> None:
        """Write which error is raised, but not its message."""
        self.found.words.append("Raise(")
        self.visit(error.func)
        for part in (*error.args, *(keyword.value for keyword in error.keywords)):
            if not isinstance(part, ast.JoinedStr | ast.Constant | ast.BinOp):
                self.visit(part)
        self.found.words.append(")")


def _dotted(node: ast.Attribute) -> tuple[str, ...]:
    """Return ``a.b.c`` as names; none where it begins with something else than a name."""
    attributes, value = [node.attr], node.value
    while isinstance(value, ast.Attribute):
        attributes.append(value.attr)
        value = value.value
    return (value.id, *reversed(attributes)) if isinstance(value, ast.Name) else ()


def _imports(node: ast.Import | ast.ImportFrom) -> list[Import]:
    if isinstance(node, ast.ImportFrom):
        return [Import(node.level, node.module or "", one.name, one.asname or one.name) for one in node.names]
    found = []
    for one in node.names:
        top = one.name.partition(".")[0]
        found.append(Import(0, one.name, "", one.asname or ""))
        if not one.asname:
            found.append(Import(0, top, "", top))
    return found
