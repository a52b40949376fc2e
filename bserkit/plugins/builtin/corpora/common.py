"""What several readers share: finding files, naming labels, and reading one recording of several of the same speech."""

from __future__ import annotations

import os
import re
import unicodedata
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from pydantic import AfterValidator, Field

from bserkit import CorpusReader, CorpusTable, Skipped, UsageError, Utterance, absence, nearest, walk

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Sequence

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


class Located:
    """Files that a table names, below the folder where the names begin."""

    def __init__(self, base: Path) -> None:
        self._base = base
        self._listings: dict[Path, dict[str, list[str]]] = {}

    def find(self, name: str) -> tuple[Path, str]:
        """Return the file of a name, and an empty text or why there is none, with the file that may be meant.

        Names may have backslashes, as Windows writes them, and any Unicode form.
        """
        slashed = name.replace("\\", "/")
        # A name that is too long is no error to these.
        for path in (self._base / name, self._base / slashed):
            if os.path.isfile(path):  # noqa: PTH113
                return path, ""
        alike = self._alike(Path(slashed))
        if alike and _composed(str(alike)) == _composed(str(self._base / slashed)):
            return alike, ""
        reason = f"there is no file {name!r}"
        if alike:
            there = alike.relative_to(self._base) if alike.is_relative_to(self._base) else alike
            return alike, f"{reason}, but {there.as_posix()!r}, of other small and capital letters"
        if re.match("/|[A-Za-z]:", slashed):
            parts = slashed.split("/")
            for below in ("/".join(parts[start:]) for start in range(1, len(parts))):
                if os.path.isfile(self._base / below):  # noqa: PTH113
                    return self._base / below, f"{reason}, but {below!r}; paths may begin where the table lies"
        path = self._base / slashed
        return path, f"{reason}: {absence(path)}" if path.is_symlink() else reason

    def _alike(self, name: Path) -> Path | None:
        """Return the file whose path differs from a name in Unicode form or in case alone."""
        path = self._base
        for part in name.parts:
            alike = self._names(path).get(_composed(part).casefold(), [part])
            path /= next((one for one in alike if _composed(one) == _composed(part)), alike[0])
        return path if os.path.isfile(path) else None  # noqa: PTH113

    def _names(self, folder: Path) -> dict[str, list[str]]:
        """Return what lies in a folder, by its name without case."""
        if folder not in self._listings:
            names: dict[str, list[str]] = {}
            with suppress(OSError):
                for path in sorted(folder.iterdir()):
                    names.setdefault(_composed(path.name).casefold(), []).append(path.name)
            self._listings[folder] = names
        return self._listings[folder]


def _composed(name: str) -> str:
    return unicodedata.normalize("NFC", name)


def _label_names(text: str) -> dict[str, str]:
    """Read ``ang=anger;hap=joy``: what labels are to be called."""
    pairs = [pair.partition("=") for pair in text.split(";") if pair.strip()]
    names = {label.strip(): name.strip() for label, _, name in pairs}
    if len(names) != len(pairs) or not all(label and name for label, name in names.items()):
        raise ValueError("expected each label once with its name, such as ang=anger;hap=joy")
    return names


def _check_names(text: str) -> str:
    _label_names(text)
    return text


#: A parameter that says what a corpus's labels are to be called.
LabelNames = Annotated[
    str,
    AfterValidator(_check_names),
    Field(description="what labels are called, such as ang=anger;hap=joy; others keep their names"),
]


def renamed(found: Sequence[tuple[str, Utterance]], names: str) -> list[tuple[str, Utterance]]:
    """Give labels the names that were asked for.

    Args:
        found: utterances, each with the place that speaks of it.
        names: the parameter, as a ``LabelNames``.

    Raises:
        UsageError: a label that is to be renamed does not occur.
    """
    wanted = {_composed(label): name for label, name in _label_names(names).items()}
    labels = {_composed(one.label) for _, one in found}
    if unknown := [label for label in wanted if label not in labels]:
        raise UsageError(
            f"names={names}: no label is {unknown[0]!r}{nearest(unknown[0], labels)}; the labels are "
            f"{', '.join(sorted(labels)) or 'none'}."
        )
    return [(place, replace(one, label=wanted.get(_composed(one.label), one.label))) for place, one in found]


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
