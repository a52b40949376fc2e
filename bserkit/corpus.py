"""Corpora: a folder or a manifest becomes a table of utterances."""

from __future__ import annotations

import hashlib
from abc import abstractmethod
from collections import Counter
from dataclasses import dataclass, field
from functools import total_ordering
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bserkit.component import Component
from bserkit.decoding import CONTAINER_SUFFIXES, SOUND_SUFFIXES
from bserkit.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

#: File endings that are looked for; what a file holds is found out by reading it.
AUDIO_SUFFIXES = SOUND_SUFFIXES | CONTAINER_SUFFIXES


@total_ordering
@dataclass(frozen=True)
class Utterance:
    """One labelled stretch of speech. Utterances are ordered by file, then by where they begin, a whole file first.

    Attributes:
        path: the audio file.
        label: the emotion, a word.
        speaker: who speaks; empty where that is not known.
        start: where it begins, seconds.
        end: where it ends, seconds; None means the file's end.
        session: the recording session, where the corpus has such.
        split: the corpus's own part, such as train or val, where it has such.
        microphones: which two of the file's channels, counted from 1, are left and right; None means the first two of
            two, or the one of one. It is chosen after reading, and does not make it another utterance.
    """

    path: Path
    label: str
    speaker: str
    start: float = 0.0
    end: float | None = None
    session: str = ""
    split: str = ""
    microphones: tuple[int, int] | None = field(default=None, compare=False)

    def __lt__(self, other: Utterance) -> bool:
        return self._order() < other._order()

    def _order(self) -> tuple[Any, ...]:
        # A file's end is no number of seconds.
        path = self.path.as_posix()
        return path, self.start, self.end or 0.0, self.label, self.speaker, self.session, self.split

    def item(self, root: Path) -> str:
        """Name the utterance independently of the machine: its path below ``root`` and its stretch, if it has one."""
        path = self.path.relative_to(root) if self.path.is_relative_to(root) else self.path
        if self.start == 0 and self.end is None:
            return path.as_posix()
        return f"{path.as_posix()}#{self.start:.10g}-{'' if self.end is None else format(self.end, '.10g')}"


@dataclass(frozen=True)
class Skipped:
    """A file or manifest line that was left out, and why."""

    item: str
    reason: str


@dataclass(frozen=True)
class CorpusTable:
    """What a reader found: utterances, and what it had to leave out."""

    utterances: Sequence[Utterance]
    skipped: Sequence[Skipped] = ()


class CorpusReader(Component):
    """Reads one corpus's own layout and names."""

    kind = "corpus"

    def recognises(self, root: Path) -> bool:
        """Say whether ``root`` is clearly of this layout; asked when the user names no reader."""
        return False

    @abstractmethod
    def read(self, root: Path) -> CorpusTable:
        """Find every utterance below ``root``, a folder or a file.

        Raises:
            UsageError: ``root`` is not of this layout; the message says what was expected.
        """


@dataclass(frozen=True)
class Corpus:
    """A corpus as it will be used: its root, its reader and its utterances in a fixed order."""

    root: Path
    reader: CorpusReader
    utterances: tuple[Utterance, ...]
    skipped: tuple[Skipped, ...]

    @property
    def labels(self) -> tuple[str, ...]:
        """Every class, by name."""
        return tuple(sorted({utterance.label for utterance in self.utterances}))

    @property
    def speakers(self) -> tuple[str, ...]:
        """Every speaker, by name."""
        return tuple(sorted({utterance.speaker for utterance in self.utterances}))

    @property
    def items(self) -> list[str]:
        """Every utterance's name, in order."""
        base = self.root if self.root.is_dir() else self.root.parent
        return [utterance.item(base) for utterance in self.utterances]

    def count(self) -> Counter[tuple[str, str]]:
        """Count utterances by (speaker, label)."""
        return Counter((utterance.speaker, utterance.label) for utterance in self.utterances)

    def fingerprint(self, digests: Sequence[str]) -> str:
        """Name this corpus by its content: labels, speakers, splits and the audio, given each utterance's digest."""
        rows = sorted(
            f"{digest}\t{utterance.label}\t{utterance.speaker}\t{utterance.split}"
            for utterance, digest in zip(self.utterances, digests, strict=True)
        )
        return hashlib.sha256("\n".join(rows).encode()).hexdigest()


def read_corpus(root: Path, reader: CorpusReader) -> Corpus:
    """Read a corpus, putting its utterances into one order whatever order the file system gives.

    Raises:
        UsageError: there is nothing at ``root``, or nothing that the reader can use.
    """
    if not root.exists():
        raise UsageError(f"There is no corpus at {root}: no such file or folder.")
    root = root.resolve()
    table = reader.read(root)
    if not table.utterances:
        why = "; ".join(f"{skipped.item}: {skipped.reason}" for skipped in table.skipped[:3])
        raise UsageError(
            f"The reader {reader.name} found no utterance in {root}. {why or 'There is no audio file in it.'}"
        )
    return Corpus(root, reader, tuple(sorted(table.utterances)), tuple(table.skipped))


def find_reader(root: Path, readers: Iterable[CorpusReader]) -> CorpusReader:
    """Return the one reader that recognises ``root``.

    Raises:
        UsageError: none does, or several do; the message says how to choose.
    """
    if not root.exists():
        raise UsageError(f"There is no corpus at {root}: no such file or folder.")
    readers = list(readers)
    found = [reader for reader in readers if reader.recognises(root.resolve())]
    if len(found) == 1:
        return found[0]
    names = ", ".join(reader.name for reader in (found or readers))
    if found:
        raise UsageError(f"{root} could be read in several ways: {names}. Choose one with --corpus NAME.")
    raise UsageError(
        f"No reader recognises the layout of {root}. Choose one with --corpus NAME ({names}); for a folder a class, "
        "--corpus 'folders:speaker=REGEX', where REGEX finds the speaker in a file's path; "
        "for anything else write a csv manifest with the columns path, label, speaker."
    )


def audio_files(root: Path) -> list[Path]:
    """Return every audio file below a folder, by name; hidden files, such as a file system's own, are left out."""
    return sorted(
        path
        for path in root.rglob("*")
        if path.suffix.lower() in AUDIO_SUFFIXES and not path.name.startswith(".") and path.is_file()
    )
