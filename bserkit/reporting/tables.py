"""A table of texts, built once and drawn by whatever shows it: the console, a Markdown file, a page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bserkit.text import markdown_table


@dataclass(frozen=True)
class TextTable:
    """A table of texts, to be drawn by whatever shows it; the first ``names`` columns are names, the others numbers."""

    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    names: int

    def markdown(self) -> str:
        """Write the table below its title."""
        return "\n\n".join([self.title, markdown_table([self.header, *self.rows], self.names)])
