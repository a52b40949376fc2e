"""Manifests: a table that names each utterance."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bserkit import CorpusReader, CorpusTable, Skipped, UsageError, Utterance
from bserkit.table_file import read_table

if TYPE_CHECKING:
    from pathlib import Path


class Manifest(CorpusReader):
    """A table with a header: path, label and speaker; optionally start and end (seconds), session and split.

    Separated by commas, semicolons, tabs or bars, in UTF-8. Relative paths begin where the manifest lies. The speaker
    may be left empty where it is not known. A line whose cells are more or fewer than the header's is an error: its
    label could be another column's.
    """

    name = "csv"

    def recognises(self, root: Path) -> bool:
        """Say whether ``root`` is a file that is named like a manifest."""
        return root.is_file() and root.suffix.lower() in {".csv", ".tsv"}

    def read(self, root: Path) -> CorpusTable:
        """Read every line; lines without a file or a label are listed as skipped."""
        if not root.is_file():
            raise UsageError(f"The reader csv reads a manifest, a file; {root} is none.")
        utterances: list[Utterance] = []
        skipped: list[Skipped] = []
        for number, row in read_table(root, ("path", "label", "speaker"), ("start", "end", "session", "split")):
            path = root.parent / row["path"]
            if not row["path"] or not path.is_file():
                skipped.append(Skipped(f"line {number}", f"there is no file {row['path']!r}"))
            elif not row["label"]:
                skipped.append(Skipped(f"line {number}", "it has no label"))
            else:
                start, end = (_seconds(root, number, name, row[name]) for name in ("start", "end"))
                if end is not None and end <= (start or 0.0):
                    raise UsageError(f"{root}, line {number}: end {end:g} s is not after start {start or 0.0:g} s.")
                utterances.append(
                    Utterance(
                        path.resolve(),
                        row["label"],
                        row["speaker"],
                        start or 0.0,
                        end,
                        row["session"],
                        row["split"],
                    )
                )
        return CorpusTable(utterances, skipped)


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
