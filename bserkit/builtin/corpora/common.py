"""What several readers share: asking for a folder, and reading one recording of several of the same speech."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from bserkit import CorpusReader, CorpusTable, Skipped, UsageError, Utterance
from bserkit.walk import walk

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable

#: Endings of files that may hold less than was recorded come after these.
_LOSSLESS = frozenset({".wav", ".flac", ".aif", ".aiff", ".au", ".w64", ".caf"})


def folder(root: Path, reader: CorpusReader) -> Path:
    """Return ``root`` if it is a folder.

    Raises:
        UsageError: it is none.
    """
    if not root.is_dir():
        raise UsageError(f"The reader {reader.name} reads a folder; {root} is none.")
    return root


def files_like(root: Path, pattern: str) -> list[Path]:
    """Return the files whose path below ``root`` is what a regular expression says, in the order of their paths."""
    start = re.escape(str(root).rstrip("/")) + "/"
    return [Path(name) for name in walk(root).files if re.fullmatch(start + pattern, name, re.DOTALL)]


def once(root: Path, found: Iterable[tuple[Hashable, Utterance]], skipped: Iterable[Skipped]) -> CorpusTable:
    """Keep one utterance of each take: the lossless file that lies nearest to ``root``; others are listed as skipped.

    Args:
        root: the corpus's folder.
        found: utterances, each with what names its take.
        skipped: what was left out before.
    """
    kept: dict[Hashable, Utterance] = {}
    copies: list[Skipped] = []
    for take, utterance in sorted(found, key=lambda one: _preference(one[1].path)):
        first = kept.setdefault(take, utterance)
        if first is not utterance:
            reason = f"the corpus has it already: {first.path.relative_to(root).as_posix()}"
            copies.append(Skipped(utterance.path.relative_to(root).as_posix(), reason))
    return CorpusTable(sorted(kept.values()), [*skipped, *sorted(copies, key=lambda one: one.item)])


def _preference(path: Path) -> tuple[bool, int, Path]:
    return path.suffix.lower() not in _LOSSLESS, len(path.parts), path
