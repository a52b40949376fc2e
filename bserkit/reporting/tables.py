"""A table of texts, built once and drawn by whatever shows it: the console, a Markdown file, a page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bserkit.text import markdown_table

if TYPE_CHECKING:
    from bserkit.evaluation.metrics import Measures


@dataclass(frozen=True)
class Cell:
    """A number that a page shades.

    Attributes:
        shade: how dark, from 0 to 1.
        detail: what stands below it, where there is room.
        chosen: whether it is marked.
    """

    text: str
    shade: float = 0.0
    detail: str = ""
    chosen: bool = False

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True)
class TextTable:
    """A table of texts; the first ``names`` columns are names, the others numbers."""

    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[str | Cell]]
    names: int

    @property
    def shaded(self) -> bool:
        """Whether its numbers are shaded."""
        return any(isinstance(cell, Cell) for row in self.rows for cell in row)

    def markdown(self) -> str:
        """Write the table below its title."""
        lines = [self.header, *([str(cell) for cell in row] for row in self.rows)]
        return "\n\n".join([self.title, markdown_table(lines, self.names)])


def confusion_table(title: str, measures: Measures, shares: bool = False) -> TextTable:
    """Show how often utterances of each class (rows) were predicted to be of which (columns), shaded by recall.

    Args:
        shares: each row's shares in per cent, with the count below; else counts, and the recall beside.
    """
    rows: list[list[str | Cell]] = []
    for place, (label, counts) in enumerate(zip(measures.recall, measures.confusion.tolist(), strict=True)):
        total = sum(counts)
        row: list[str | Cell] = [label]
        for column, count in enumerate(counts):
            shade = count / total if total else 0.0
            share = f"{100 * shade:.1f}" if total else ""
            row.append(Cell(share if shares else str(count), shade, str(count) if shares else "", column == place))
        recall = f"{measures.recall[label]:.3f}" if total else ""
        rows.append(row if shares else [*row, recall])
    return TextTable(title, ["true", *measures.recall, *["recall"] * (not shares)], rows, 1)
