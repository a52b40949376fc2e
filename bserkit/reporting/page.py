"""A document: sections of words, tables and pictures, written as one page that needs nothing but itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bserkit.reporting.tables import TextTable
    from bserkit.tracking.finished import KeptRun


@dataclass(frozen=True)
class Cell:
    """A number in a shaded table: how dark it is, from 0 to 1, and whether it is marked as chosen."""

    text: str
    shade: float
    detail: str = ""
    chosen: bool = False


@dataclass(frozen=True)
class ShadedTable:
    """A table whose cells are the darker the larger their number."""

    kind: ClassVar[str] = "shaded"
    title: str
    header: Sequence[str]
    rows: Sequence[tuple[str, Sequence[Cell]]]


@dataclass(frozen=True)
class Picture:
    """A picture with what it shows in words and numbers: an SVG element, or an image as an address that holds it.

    Attributes:
        table: the numbers behind it, if they stand nowhere else.
    """

    kind: ClassVar[str] = "picture"
    title: str
    text: str
    svg: str = ""
    address: str = ""
    table: TextTable | ShadedTable | None = None


@dataclass(frozen=True)
class Listing:
    """Text to be copied."""

    kind: ClassVar[str] = "listing"
    title: str
    text: str


@dataclass(frozen=True)
class Section:
    """A part of the report under a heading of its own.

    Attributes:
        name: what links to it.
        warnings: paragraphs that must not be overlooked.
    """

    name: str
    title: str
    paragraphs: Sequence[str]
    blocks: Sequence[TextTable | ShadedTable | Picture | Listing]
    warnings: Sequence[str] = ()


@dataclass(frozen=True)
class Report:
    """A finished run, ready to be shown.

    Attributes:
        headline: the main numbers: each its name, its value and what belongs beside it.
    """

    run: KeptRun
    headline: Sequence[tuple[str, str, str]]
    sections: Sequence[Section]


def page(report: Report) -> str:
    """Return a report as one HTML page; the same report is always the same page.

    It loads nothing and runs nothing, and whatever a run's names hold is shown as text.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined

    templates = Environment(
        loader=PackageLoader("bserkit.reporting"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return templates.get_template("report.html").render(report=report)
