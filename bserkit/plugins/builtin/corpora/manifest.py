"""Manifests: a table that names each utterance."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from bserkit import CorpusReader, CorpusTable, Skipped, UsageError, Utterance, distinct, read_table
from bserkit.plugins.builtin.corpora.common import LabelNames, Located, renamed

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class Manifest(CorpusReader):
    """A table with a header: path, label and speaker; optionally start and end (seconds), session and split.

    Separated by commas, semicolons, tabs or bars, in UTF-8. Relative paths begin where the manifest lies. The speaker
    may be left empty where it is not known. A line whose cells are more or fewer than the header's is an error: its
    label could be another column's. Other columns are named as in ``csv:path=file_id,label=emotion,speaker=``; a column
    that is given no name is not read.
    """

    name = "csv"
    path: str = Field("path", min_length=1, description="column of the file")
    label: str = Field("label", min_length=1, description="column of the emotion")
    speaker: str = Field("speaker", description="column of the speaker; empty where speakers are not known")
    start: str = Field("start", description="column of where the utterance begins, seconds")
    end: str = Field("end", description="column of where it ends, seconds")
    session: str = Field("session", description="column of the recording session")
    split: str = Field("split", description="column of the corpus's own part, such as train or val")
    names: LabelNames = ""

    def recognises(self, root: Path) -> bool:
        """Say whether ``root`` is a file that is named like a manifest."""
        return root.is_file() and root.suffix.lower() in {".csv", ".tsv"}

    def read(self, root: Path) -> CorpusTable:
        """Read every line; lines without a file or a label, and those that repeat another, are listed as skipped."""
        if not root.is_file():
            raise UsageError(f"The reader csv reads a manifest, a file; {root} is none.")
        found: list[tuple[str, Utterance]] = []
        skipped: list[Skipped] = []
        files = Located(root.parent)
        for number, row in self._rows(root):
            place = f"line {number}"
            path, missing = files.find(row["path"])
            if missing:
                skipped.append(Skipped(place, missing))
            elif not row["label"]:
                skipped.append(Skipped(place, "it has no label"))
            else:
                start, end = (_seconds(root, number, name, row[name]) for name in ("start", "end"))
                if end is not None and end <= (start or 0.0):
                    raise UsageError(f"{root}, line {number}: end {end:g} s is not after start {start or 0.0:g} s.")
                said = (row["label"], row["speaker"], start or 0.0, end, row["session"], row["split"])
                found.append((place, Utterance(path, *said)))
        try:
            return distinct(renamed(found, self.names), skipped)
        except UsageError as error:
            raise UsageError(f"{root}: {error}") from None

    def _rows(self, root: Path) -> Iterator[tuple[int, dict[str, str]]]:
        """Yield each line's number and its cells by what they are."""
        asked = {name: column for name in _COLUMNS if (column := getattr(self, name))}
        needed = [column for name, column in asked.items() if name in _NEEDED or column != name]
        others = [column for column in asked.values() if column not in needed]
        way_out = "Another column is named with --corpus csv:label=COLUMN; csv:speaker= reads no speakers."
        for number, cells in read_table(root, needed, others, way_out=way_out):
            yield number, {name: cells[asked[name]] if name in asked else "" for name in _COLUMNS}


_NEEDED = ("path", "label", "speaker")
_COLUMNS = (*_NEEDED, "start", "end", "session", "split")


def _seconds(root: Path, number: int, name: str, text: str) -> float | None:
    if not text:
        return None
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not 0 <= value < float("inf"):
        raise UsageError(
            f"{root}, line {number}: {name} is {text!r}; expected seconds from the file's start, 0 or more."
        )
    return value
