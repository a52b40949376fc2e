"""Tables and counts as plain text, the same wherever they are printed, logged or read back."""

from __future__ import annotations

import csv
import unicodedata
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence


def csv_text(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return rows as comma-separated text with a header."""
    header = list(dict.fromkeys(key for row in rows for key in row))
    return csv_lines([header, *([row.get(name, "") for name in header] for row in rows)])


def csv_lines(lines: Iterable[Sequence[object]], delimiter: str = ",") -> str:
    r"""Write lines of cells; whatever a cell holds can be read again, a carriage return by itself too.

    >>> csv_lines([["a", "b\r"]])
    'a,"b\r"\n'
    """
    written: list[str] = []

    class Lines:
        def write(self, line: str) -> None:
            written.append(f"{line[:-2]}\n")

    # Only of this end of a line does the writer know that both its characters want quotes.
    csv.writer(Lines(), delimiter=delimiter, lineterminator="\r\n").writerows(lines)
    return "".join(written)


def markdown_table(lines: Sequence[Sequence[str]], names: int = 1) -> str:
    """Return lines of cells, the first being the header, as a Markdown table; past ``names`` columns stand numbers."""
    rule = ["---" if column < names else "---:" for column in range(len(lines[0]))]
    cells = [[cell.replace("|", "\\|") for cell in line] for line in (lines[0], rule, *lines[1:])]
    return "\n".join(f"| {' | '.join(line)} |" for line in cells)


def counted(number: int, noun: str) -> str:
    """Return a number of things.

    >>> counted(1, "fold"), counted(6, "fold")
    ('1 fold', '6 folds')
    """
    return f"{number} {noun}{'s' * (number != 1)}"


def printable(name: str) -> str:
    r"""Return a file's name in one Unicode form (NFC), what cannot be printed or is no UTF-8 being escaped.

    >>> print(printable("wav/two\nlines"))
    wav/two\nlines
    >>> printable("cole\u0300re") == "col\u00e8re"
    True
    """
    if name.isascii() and name.isprintable():
        return name
    return "".join(map(_escaped, unicodedata.normalize("NFC", name)))


def _escaped(character: str) -> str:
    # Python stands a byte of a file's name that is not UTF-8 for by one of these.
    if "\udc80" <= character <= "\udcff":
        return f"\\x{ord(character) - 0xDC00:02x}"
    control = unicodedata.category(character) in {"Cc", "Cs", "Zl", "Zp"}
    return character.encode("unicode_escape").decode("ascii") if control else character
