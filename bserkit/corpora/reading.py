"""Corpora: a folder or a manifest becomes a table of utterances."""

from __future__ import annotations

import hashlib
import os
import unicodedata
from abc import abstractmethod
from collections import Counter
from dataclasses import dataclass, field, replace
from functools import cache, total_ordering
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bserkit.component import Component
from bserkit.corpora.decoding import CONTAINER_SUFFIXES, SOUND_SUFFIXES
from bserkit.corpora.walk import walk
from bserkit.errors import UsageError
from bserkit.text import counted, printable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

#: File endings that are looked for; what a file holds is found out by reading it.
AUDIO_SUFFIXES = SOUND_SUFFIXES | CONTAINER_SUFFIXES
#: What is said of a stretch of speech.
_SAID = ("label", "speaker", "session", "split")
#: The share of files that fit a reader from which on it is worth a hint.
_CLOSE = 0.2


@total_ordering
@dataclass(frozen=True)
class Utterance:
    """One labelled stretch of speech. Utterances are ordered by file, then by where they begin, a whole file first.

    Attributes:
        path: the audio file, as the corpus names it: links are not resolved.
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
        # A file's end is no number of seconds; file systems differ in the Unicode form of names.
        path = unicodedata.normalize("NFC", self.path.as_posix())
        return path, self.start, self.end or 0.0, self.label, self.speaker, self.session, self.split

    def item(self, root: Path) -> str:
        """Name the utterance independently of the machine: its path below ``root`` and its stretch, if it has one.

        The name is in Unicode's composed form (NFC), whatever the file system's, and of printable characters.
        """
        # Texts are compared many times as fast as paths.
        name = printable(self.path.as_posix().removeprefix(f"{root.as_posix().rstrip('/')}/"))
        if self.start == 0 and self.end is None:
            return name
        return f"{name}#{self.start:.10g}-{'' if self.end is None else format(self.end, '.10g')}"


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

    def matches(self, root: Path) -> tuple[int, int]:
        """Count the files below ``root`` that are of this layout, and all that could be; for a hint where none fits."""
        return 0, 0

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

    Labels, speakers, sessions and splits that differ in Unicode form or in blanks alone are one. A recording that two
    paths lead to is used once. What a walk through the corpus's folder could not follow is listed as left out.

    Raises:
        UsageError: there is nothing at ``root``, or nothing that the reader can use; or one stretch of one file has two
            labels, speakers, sessions or splits.
    """
    if not root.exists():
        raise UsageError(f"There is no corpus at {root}: no such file or folder.")
    root = root.resolve()
    base = root if root.is_dir() else root.parent
    table = reader.read(root)
    real_path = _real_path()
    # The file itself comes before links to it.
    found = sorted(table.utterances, key=lambda one: (real_path(one.path) != str(one.path), one))
    table = distinct(((one.item(base), one) for one in found), table.skipped)
    skipped = list(table.skipped)
    if root.is_dir():
        listed = {one.item for one in skipped}
        unread = (Skipped(printable(path.relative_to(root).as_posix()), why) for path, why in walk(root).unread.items())
        skipped += [one for one in unread if one.item not in listed]
    if not table.utterances:
        why = "; ".join(f"{one.item}: {one.reason}" for one in skipped[:3])
        raise UsageError(
            f"The reader {reader.name} found no utterance in {root}. {why or 'There is no audio file in it.'}"
        )
    corpus = Corpus(root, reader, tuple(sorted(table.utterances)), tuple(skipped))
    if again := [item for item, times in Counter(corpus.items).items() if times > 1]:
        raise UsageError(
            f"{counted(len(again), 'name')} in {root} stand for several files each, such as {again[0]}: they differ in "
            "Unicode form alone, or in characters that cannot be shown. Rename these files."
        )
    return corpus


def distinct(found: Iterable[tuple[str, Utterance]], skipped: Iterable[Skipped] = ()) -> CorpusTable:
    """Keep each stretch of each file once; what says the same again is listed as skipped.

    Args:
        found: utterances, each with the place that speaks of it, such as ``line 7``.
        skipped: what was left out before.

    Raises:
        UsageError: two places say different things of a stretch; both are named.
    """
    real_path = _real_path()
    kept: dict[tuple[str, float, float | None], tuple[str, Utterance]] = {}
    again: list[Skipped] = []
    clashes: list[str] = []
    for place, given in found:
        one = given
        if any(getattr(given, name) != _one_form(getattr(given, name)) for name in _SAID):
            label, speaker, session, part = (_one_form(getattr(given, name)) for name in _SAID)
            one = replace(given, label=label, speaker=speaker, session=session, split=part)
        first, other = kept.setdefault((real_path(one.path), one.start, one.end), (place, one))
        if differ := [name for name in _SAID if getattr(one, name) != getattr(other, name)]:
            said = ", ".join(f"{name} {getattr(other, name)!r} and {getattr(one, name)!r}" for name in differ)
            clashes.append(
                f"{first} and {place} are the same recording, {printable(one.path.name)}, but differ: {said}"
            )
        elif other is not one:
            again.append(Skipped(place, f"it is the same recording as {first}, which is used"))
    if clashes:
        more = f" So do {counted(len(clashes) - 1, 'more pair')}." if len(clashes) > 1 else ""
        raise UsageError(f"{clashes[0]}.{more} Leave one of each pair in the corpus; nothing is learned from both.")
    return CorpusTable([one for _, one in kept.values()], [*skipped, *again])


def _one_form(name: str) -> str:
    return printable(" ".join(name.split()))


def _real_path() -> Callable[[Path], str]:
    """Return a function of a path that gives it without links, and asks the file system once a folder."""
    real_folder = cache(os.path.realpath)

    def real_path(path: Path) -> str:
        if os.path.islink(path):  # noqa: PTH114
            return os.path.realpath(path)
        folder, name = os.path.split(path)
        return f"{real_folder(folder)}{os.sep}{name}"

    return real_path


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
    names = ", ".join(reader.known_as for reader in (found or readers))
    if found:
        raise UsageError(f"{root} could be read in several ways: {names}. Choose one with --corpus NAME.")
    counts = {reader.known_as: reader.matches(root.resolve()) for reader in readers}
    close = sorted((-fit, name, of) for name, (fit, of) in counts.items() if fit and fit >= _CLOSE * of)
    hint = "".join(
        f" {name} would read {-fit} of {of} files: choose it with --corpus {name}." for fit, name, of in close
    )
    if below := corpora_below(root.resolve(), readers):
        hint += f" {_did_you_mean(below)}"
    raise UsageError(
        f"No reader recognises the layout of {root}.{hint} Choose one with --corpus NAME ({names}); for a folder a "
        "class, --corpus 'folders:speaker=REGEX', where REGEX finds the speaker in a file's path; "
        "for anything else write a csv manifest with the columns path, label, speaker."
    )


def check_level(root: Path, reader: CorpusReader, readers: Iterable[CorpusReader]) -> None:
    """Find out before any recording is read whether a reader takes whole corpora for classes, a folder too high.

    Raises:
        UsageError: it does; the message names the folder below.
    """
    root = root.resolve()
    if not root.is_dir() or reader.recognises(root):
        return
    labels = {one.label for one in reader.read(root).utterances}
    below = {path: name for path, name in corpora_below(root, readers).items() if path.name in labels}
    if len(labels) == 1 and not below:
        # One folder, and in it folders: those are the classes.
        only = root / next(iter(labels))
        inner = {Path(name).relative_to(only).parts[0] for name in walk(only).files} if only.is_dir() else set()
        folders = [name for name in inner if (only / name).is_dir()]
        below = {only: f"{len(folders)} folders"} if len(folders) > 1 else {}
    if below:
        names = ", ".join(path.name for path in below)
        raise UsageError(f"The reader {reader.name} would take {names} in {root} for labels. {_did_you_mean(below)}")


def corpora_below(root: Path, readers: Iterable[CorpusReader]) -> dict[Path, str]:
    """Return the folders directly below that hold a corpus of several labels, and the name of the reader that says so.

    A reader that recognises the whole says nothing of its parts.
    """
    found: dict[Path, str] = {}
    if not root.is_dir():
        return found
    folders = sorted(path for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))
    for reader in readers:
        if reader.recognises(root):
            continue
        for path in folders:
            if reader.recognises(path) and len({one.label for one in reader.read(path).utterances}) > 1:
                found[path] = reader.known_as
    return dict(sorted(found.items()))


def _did_you_mean(below: Mapping[Path, str]) -> str:
    return f"Did you mean a folder below: {', '.join(f'{path} ({what})' for path, what in below.items())}?"


def audio_files(root: Path) -> list[Path]:
    """Return every audio file below a folder, by path; ``walk`` says what of links and what is hidden."""
    return [Path(name) for name in audio_names(root)]


def audio_names(root: Path) -> list[str]:
    """Return the paths of ``audio_files`` as texts, which for a hundred thousand of them takes a fifth of the time."""
    endings = tuple(AUDIO_SUFFIXES)
    return [name for name in walk(root).files if name.lower().endswith(endings)]
