"""Manifests: a table that names each utterance."""

from __future__ import annotations

import csv
from typing import TYPE_CHECKING

from bserkit import CorpusReader, CorpusTable, Skipped, UsageError, Utterance
from bserkit.errors import nearest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class Manifest(CorpusReader):
    """A table with a header: path, label and speaker; optionally start and end (seconds), session and split.

    Comma-separated, or tab-separated if it is named ``.tsv``; UTF-8. Relative paths begin where the manifest lies. The
    speaker may be left empty where it is not known.
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
        for number, row in self._rows(root):
            path = root.parent / row["path"]
            if not row["path"] or not path.is_file():
                skipped.append(Skipped(f"line {number}", f"there is no file {row['path']!r}"))
            elif not row["label"]:
                skipped.append(Skipped(f"line {number}", "it has no label"))
            else:
                start, end = (_seconds(root, number, name, row.get(name, "")) for name in ("start", "end"))
                if end is not None and end <= (start or 0.0):
                    raise UsageError(f"{root}, line {number}: end {end:g} s is not after start {start or 0.0:g} s.")
                utterances.append(
                    Utterance(
                        path.resolve(),
                        row["label"],
                        row["speaker"],
                        start or 0.0,
                        end,
                        row.get("session", ""),
                        row.get("split", ""),
                    )
                )
        return CorpusTable(utterances, skipped)

    def _rows(self, root: Path) -> Iterator[tuple[int, dict[str, str]]]:
        required, optional = ("path", "label", "speaker"), ("start", "end", "session", "split")
        try:
            text = root.read_text(encoding="utf-8-sig")
        except UnicodeDecodeError as error:
            raise UsageError(f"{root} is not UTF-8 text ({error.reason} at byte {error.start}).") from None
        reader = csv.DictReader(text.splitlines(), delimiter="\t" if root.suffix.lower() == ".tsv" else ",")
        columns = [str(name).strip() for name in reader.fieldnames or ()]
        if missing := [name for name in required if name not in columns]:
            near = "".join(nearest(name, columns) for name in missing)
            raise UsageError(
                f"{root} lacks the column {', '.join(missing)}{near}; it has {', '.join(columns) or 'no header'}. "
                f"Needed: {', '.join(required)}; optional: {', '.join(optional)}."
            )
        for row in reader:
            cells = {
                str(name).strip(): (value or "").strip() for name, value in row.items() if isinstance(value, str | None)
            }
            yield reader.line_num, {name: cells.get(name, "") for name in (*required, *optional)}


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
