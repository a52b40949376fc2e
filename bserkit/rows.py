"""Rows of csv files as typed objects: a dataclass is a row, each of its fields a column or several of one beginning."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, Field, dataclass, field, fields
from functools import cache
from types import NoneType
from typing import TYPE_CHECKING, Any, TypeVar, get_args, get_origin, get_type_hints

from bserkit.errors import BserkitError
from bserkit.text import csv_lines

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Row = TypeVar("Row", bound="DataclassInstance")


def column(text: str, *, older: str = "", begin: str | None = None, default: Any = MISSING) -> Any:
    """Declare a column.

    Args:
        text: what stands in it.
        older: what it was called, so that older files can be read.
        begin: the field is a mapping, each of whose keys has a column of its own, called by this and the key; of what
            begins with nothing there are all columns that no other field has.
        default: where a file has no such column.
    """
    return field(default=default, metadata={"text": text, "older": older, "begin": begin})


def write_rows(kind: type[Row], rows: Sequence[Row]) -> str:
    """Write rows as comma-separated text below a header, from which ``read_rows`` makes equal rows again."""
    made = [plain(row) for row in rows]
    known = [one.name for one in fields(kind) if one.metadata["begin"] is None]
    header = list(dict.fromkeys([*known, *(name for row in made for name in row)]))
    return csv_lines([header, *([_text(row.get(name)) for name in header] for row in made)])


def read_rows(kind: type[Row], text: str) -> list[Row]:
    """Read what ``write_rows`` wrote, also before columns were renamed or added.

    Raises:
        BserkitError: a column is missing, or a value is not of its type.
    """
    reader = csv.DictReader(io.StringIO(text, newline=""))
    try:
        names = list(reader.fieldnames or [])
        columns = [_Column.of(one, _types(kind)[one.name], names, kind) for one in fields(kind)]
        return [
            kind(**{one.name: one.read(row) for one in columns if one.sources or one.begin is not None})
            for row in reader
        ]
    except (ValueError, csv.Error) as error:
        raise BserkitError(f"A table of {kind.__name__} cannot be read: line {reader.line_num}: {error}") from error


def plain(row: DataclassInstance) -> dict[str, Any]:
    """Return a row by its columns' names; of a mapping only what it has."""
    found: dict[str, Any] = {}
    for one in fields(row):
        value, begin = getattr(row, one.name), one.metadata["begin"]
        found |= {one.name: value} if begin is None else {f"{begin}{key}": own for key, own in value.items()}
    return found


@dataclass(frozen=True)
class _Column:
    """How a field is read: from which columns, each by the key that it has in a mapping."""

    name: str
    type: Any
    begin: str | None
    sources: Mapping[str, str]
    older: bool

    @classmethod
    def of(cls, own: Field[Any], kind: Any, names: Sequence[str], row: type[Any]) -> _Column:
        begin, older = own.metadata["begin"], own.metadata["older"]
        if begin is not None:
            taken = {name for one in fields(row) for name in (one.name, one.metadata["older"])} if not begin else ()
            found = {name.removeprefix(begin): name for name in names if name.startswith(begin) and name not in taken}
            return cls(own.name, get_args(kind)[1], begin, found, False)
        source = next((name for name in (own.name, older) if name in names), None)
        if source is None and own.default is MISSING:
            raise ValueError(f"there is no column {own.name!r}, but {', '.join(names)}.")
        return cls(own.name, kind, None, {own.name: source} if source else {}, source == older)

    def read(self, row: Mapping[str, str]) -> Any:
        if self.begin is None:
            text = row[self.sources[self.name]]
            # Several values were once parted by blanks, and no column of these has kept its name.
            return tuple(text.split()) if self.older and get_origin(self.type) is tuple else _value(text, self.type)
        return {key: _value(text, self.type) for key, name in self.sources.items() if (text := row[name]) != ""}


@cache
def _types(kind: type[Any]) -> dict[str, Any]:
    return get_type_hints(kind)


def _text(value: object) -> str:
    if isinstance(value, tuple):
        return csv_lines([value], ";").removesuffix("\n") if value else ""
    if isinstance(value, bool):
        return str(int(value))
    return "" if value is None else str(value)


def _value(text: str, kind: Any) -> Any:
    if get_origin(kind) is tuple:
        return tuple(next(csv.reader(io.StringIO(text, newline=""), delimiter=";"), ()))
    if NoneType in get_args(kind):
        return None if text == "" else _value(text, get_args(kind)[0])
    return bool(int(text)) if kind is bool else kind(text)
