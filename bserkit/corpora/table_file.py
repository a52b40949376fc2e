"""Tables that people write: manifests, folds files and annotation files, each line of which is accounted for."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from bserkit.corpora.speakers import same_name
from bserkit.errors import UsageError, nearest
from bserkit.text import counted

if TYPE_CHECKING:
    from collections.abc import Sequence

#: What may stand between cells, in words.
_DELIMITERS = {",": "comma", ";": "semicolon", "\t": "tab", "|": "bar"}
#: A quoted cell that goes on for more lines is a quotation mark that somebody forgot to close.
_MOST_LINES = 100


def read_table(
    path: Path,
    required: Sequence[str],
    optional: Sequence[str] = (),
    what: str = "",
    errors: str = "strict",
    way_out: str = "",
) -> list[tuple[int, dict[str, str]]]:
    """Return each row's line number, from 1, and its cells by column; empty lines are passed over.

    The first line names the columns, in any order and case, among others that are not read. Cells are separated by
    commas, semicolons, tabs or bars, whichever finds the columns; blanks around them do not count. UTF-8, or UTF-16
    with a byte order mark. A row has as many cells as the header: one that has not may be shifted, so that its label
    would be another column's. A cell may be quoted, and a quoted cell may go on over lines that could not be rows
    themselves. A quotation mark that is not closed is text in a column that is not read, and an error elsewhere.

    Args:
        path: the file.
        required: columns that must be there.
        optional: columns that are empty where they are not there.
        what: what the file is, for messages, such as ``The folds file``.
        errors: what becomes of bytes that are not UTF-8: ``strict`` or ``replace``.
        way_out: what to do where a column is missing, a sentence.

    Raises:
        UsageError: the file cannot be read, lacks a column or has one twice, or has lines that are not rows; these are
            named by their numbers.
    """
    where = f"{what} {path}".strip()
    lines = _lines(path, where, errors)
    delimiter, header = _header(lines, required)
    named = [same_name(cell) for cell in header]
    if missing := [name for name in required if same_name(name) not in named]:
        near = "".join(nearest(name, header) for name in missing)
        raise UsageError(
            f"{where} lacks the column {', '.join(missing)}{near}; it has {', '.join(header) or 'no header'}. "
            f"Needed: {', '.join(required)}{'; optional: ' * bool(optional)}{', '.join(optional)}."
            + f" {way_out}".rstrip()
        )
    columns: dict[str, int] = {}
    for name in (*required, *optional):
        places = [index for index, cell in enumerate(named) if cell == same_name(name)]
        if len(places) > 1:
            raise UsageError(
                f"{where} names the column {name} {len(places)} times, as its columns "
                f"{', '.join(str(place + 1) for place in places)}; only one can be meant. Rename the others."
            )
        if places:
            columns[name] = places[0]
    _, *rows = _rows(lines, delimiter, len(header), set(columns.values()), where)
    return [
        (number, {name: cells[columns[name]] if name in columns else "" for name in (*required, *optional)})
        for number, cells in rows
    ]


def read_cells(path: Path, errors: str = "strict") -> list[list[str]]:
    """Return the cells of each line of a table whose columns have no names that are known.

    Raises:
        UsageError: the file cannot be read, or a line has not as many cells as the first.
    """
    lines = _lines(path, str(path), errors)
    delimiter, header = _header(lines, ())
    return [cells for _, cells in _rows(lines, delimiter, len(header), set(range(len(header))), str(path))]


def _lines(path: Path, where: str, errors: str) -> list[str]:
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise UsageError(f"{where} cannot be read: {error.strerror}.") from None
    encoding = "utf-16" if content.startswith((b"\xff\xfe", b"\xfe\xff")) else "utf-8-sig"
    try:
        text = content.decode(encoding, errors)
    except UnicodeDecodeError as error:
        raise UsageError(
            f"{where} is not UTF-8 text ({error.reason} at byte {error.start}). Save it as UTF-8."
        ) from None
    if "\0" in text:
        raise UsageError(f"{where} is not UTF-8 text (it holds zero bytes). Save it as UTF-8.")
    # Not str.splitlines, which also ends lines at characters that stand inside of transcripts.
    return re.split(r"\r\n|\n|\r", text)


def _header(lines: Sequence[str], required: Sequence[str]) -> tuple[str, list[str]]:
    """Return the delimiter that finds most of the columns, then most cells, and the first line's cells."""
    line = next((line for line in lines if line.strip()), "")
    wanted = {same_name(name) for name in required}
    split = {delimiter: _split(line, delimiter)[0] for delimiter in _DELIMITERS}
    delimiter = max(split, key=lambda one: (len(wanted & {same_name(cell) for cell in split[one]}), len(split[one])))
    return delimiter, split[delimiter] if line.strip() else []


def _rows(lines: Sequence[str], delimiter: str, width: int, read: set[int], where: str) -> list[tuple[int, list[str]]]:
    """Return the line numbers and cells of all rows, the header's too; columns ``read`` may hold no open quote."""
    rows: list[tuple[int, list[str]]] = []
    wrong: list[tuple[int, str]] = []
    index = 0
    while index < len(lines):
        number, taken = index + 1, 1
        cells, opened = _split(lines[index], delimiter)
        if opened and (whole := _joined(lines, index, delimiter, width)):
            cells, taken = whole
            opened = set()
        if not lines[index].strip():
            pass
        elif len(cells) == width and not opened & read:
            rows.append((number, cells))
        elif opened:
            wrong.append((number, "a quotation mark opens a cell and is not closed"))
        else:
            wrong.append((number, f"it has {counted(len(cells), 'cell')}, the header {width}"))
        index += taken
    if wrong:
        (number, problem), *others = wrong
        more = f" So it is with {counted(len(others), 'more line')}, such as line {others[0][0]}." if others else ""
        raise UsageError(
            f"{where}, line {number}: {problem}.{more} Such a row may be shifted, so nothing is read. A text that "
            f"holds a {_DELIMITERS[delimiter]} goes in double quotes; a quotation mark inside it is doubled."
        )
    return rows


def _joined(lines: Sequence[str], index: int, delimiter: str, width: int) -> tuple[list[str], int] | None:
    """Return the cells of a row that goes on over several lines, none of them a row itself, and how many lines."""
    text = lines[index]
    for taken, line in enumerate(lines[index + 1 : index + _MOST_LINES], start=2):
        if len(_split(line, delimiter)[0]) == width:
            return None
        text += f"\n{line}"
        if '"' in line:
            cells, opened = _split(text, delimiter)
            if len(cells) == width and not opened:
                return cells, taken
    return None


def _split(line: str, delimiter: str) -> tuple[list[str], set[int]]:
    """Return a line's cells, and which of them begin with a quotation mark that is not closed."""
    if '"' not in line:
        return [cell.strip() for cell in line.split(delimiter)], set()
    cells: list[str] = []
    opened: set[int] = set()
    position = 0
    while position <= len(line) and (match := _cell(delimiter).match(line, position)):
        quoted = match["quoted"]
        text = match.group().strip() if quoted is None else quoted.replace('""', '"').strip()
        if quoted is None and text.startswith('"'):
            opened.add(len(cells))
        cells.append(text)
        position = match.end() + 1
    return cells, opened


@cache
def _cell(delimiter: str) -> re.Pattern[str]:
    between = re.escape(delimiter)
    return re.compile(rf' *"(?P<quoted>[^"]*(?:""[^"]*)*)" *(?={between}|\Z)|[^{between}\n]*')
