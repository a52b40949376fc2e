"""Protocols: which utterances are in training and which in test, no speaker in both (paper, section III-B)."""

from __future__ import annotations

import unicodedata
from abc import abstractmethod
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from pydantic import Field, field_validator

from bserkit.component import Component
from bserkit.corpora.speakers import one_spelling, same_name, speaker_groups, stratified_groups
from bserkit.corpora.table_file import read_table
from bserkit.errors import UsageError, nearest
from bserkit.identity.content import file_digest
from bserkit.schema import UNLABELLED
from bserkit.text import counted

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from bserkit.corpora.reading import Corpus

#: Characters of a list of folds before it is cut.
_LINE = 1000


@dataclass(frozen=True)
class Fold:
    """One split: a name for tables and the indices of its training and test utterances."""

    name: str
    train: np.ndarray
    test: np.ndarray


class Protocol(Component):
    """A way to split a corpus; the same corpus always splits alike."""

    kind = "protocol"

    def digest(self) -> str:
        """Name the file that the folds come from by its content; empty where they come from the corpus alone.

        Raises:
            UsageError: the file cannot be read.
        """
        return ""

    @abstractmethod
    def folds_of(self, corpus: Corpus) -> list[Fold]:
        """Split, giving the indices of training and test utterances of each fold.

        Raises:
            UsageError: the corpus lacks what the protocol splits by.
        """


def split(protocol: Protocol, corpus: Corpus, allow_speaker_overlap: bool = False) -> list[Fold]:
    """Split and check: a fold has utterances on both sides, learns a class that it tests, and parts no speaker.

    Args:
        allow_speaker_overlap: whether speakers may be on both sides all the same.

    Raises:
        UsageError: a fold is empty on one side, shares speakers, or tests none but classes that it does not learn.
    """
    folds = protocol.folds_of(corpus)
    shared = speaker_overlap(corpus, folds)
    if shared and not allow_speaker_overlap:
        fold, names = next(iter(shared.items()))
        more = f" So have {len(shared) - 1} more folds." if len(shared) > 1 else ""
        raise UsageError(
            f"Fold {fold} of protocol {protocol.spec} has the same speaker in training and in test: "
            f"{', '.join(names)}.{more}{_spelt_twice(shared)} Such a split measures how well speakers are recognised. "
            "Correct the splits, or use --protocol loso or losgo, which keep each speaker on one side. Where numbers "
            "of such a split are wanted all the same, --allow-speaker-overlap goes on and tags the run."
        )
    for one in folds:
        if not len(one.train) or not len(one.test):
            raise UsageError(
                f"Fold {one.name} of protocol {protocol.spec} has {len(one.train)} training and {len(one.test)} "
                "test utterances; both sides need some."
            )
    absent = absent_classes(corpus, folds)
    hopeless = [one for one in folds if len(absent.get(one.name, ())) == len(_classes(corpus, one.test))]
    if hopeless:
        raise UsageError(_hopeless(protocol, corpus, hopeless))
    return folds


def _hopeless(protocol: Protocol, corpus: Corpus, folds: Sequence[Fold]) -> str:
    """Say of folds that learn no class that they test what they look like, and the way out."""
    first = folds[0]
    more = f" So do {len(folds) - 1} more folds." if len(folds) > 1 else ""
    emotions: dict[str, set[str]] = {}
    for utterance in corpus.utterances:
        emotions.setdefault(same_name(utterance.speaker), set()).add(utterance.label)
    if "" not in emotions and all(len(own) == 1 for own in emotions.values()):
        looks = (
            "Every speaker has a single emotion: it looks as if the speaker names the emotion. Correct the speakers: "
            "REGEX of --corpus 'folders:speaker=REGEX' must find who speaks in a file's path, not the folder of its "
            "class; of a csv manifest look at the column speaker."
        )
    else:
        looks = "It looks as if the folds part emotions. Correct the folds, the speakers or the emotions."
    return (
        f"Fold {first.name} of protocol {protocol.spec} tests {', '.join(_classes(corpus, first.test))}, but learns "
        f"{', '.join(_classes(corpus, first.train))}: it learns no class that it tests, so nothing can be predicted "
        f"rightly.{more} {looks} 'bserkit audit DATA' shows who has which emotion."
    )


def _classes(corpus: Corpus, side: np.ndarray) -> list[str]:
    return sorted({corpus.utterances[index].label for index in side})


def absent_classes(corpus: Corpus, folds: Sequence[Fold]) -> dict[str, list[str]]:
    """Return the classes that a fold tests but does not learn, by the names of the folds that have such."""
    found = {}
    for fold in folds:
        learned = set(_classes(corpus, fold.train))
        if absent := [name for name in _classes(corpus, fold.test) if name not in learned]:
            found[fold.name] = absent
    return found


#: What a reader of a run's numbers must know, by the tag that says of which folds, utterances or component.
CAUTIONS = {
    "speaker_overlap": "speakers are both in training and in test ({}). The numbers are in part those of recognising "
    "speakers, not emotions; do not compare them with numbers of unseen speakers.",
    "speakers_unknown": "the same speaker may be in training and in test: {}. The numbers may be in part those of "
    "recognising speakers, not emotions; do not compare them with numbers of unseen speakers.",
    UNLABELLED: "test recordings were used without their labels ({}): those that were predicted together "
    "changed each other's features. The numbers hold where as many recordings of a speaker are there at once; do not "
    "compare them with numbers of single recordings.",
    "absent_classes": "folds test classes that they do not learn ({}): no such utterance can be predicted rightly.",
}


def cautions(corpus: Corpus, folds: Sequence[Fold]) -> dict[str, str]:
    """Return what a reader of a split's numbers must know, as a run's tags; nothing of a split that is beyond doubt."""
    overlap, absent = speaker_overlap(corpus, folds), absent_classes(corpus, folds)
    named = np.array([utterance.speaker != "" for utterance in corpus.utterances])
    found = {}
    if overlap:
        found["speaker_overlap"] = by_fold(overlap)
    if any(not named[fold.train].all() and not named[fold.test].all() for fold in folds):
        found["speakers_unknown"] = f"{(~named).sum()} of {len(named)} utterances name no speaker"
    if absent:
        found["absent_classes"] = by_fold(absent)
    return found


def caution_names(tags: Mapping[str, str]) -> list[str]:
    """Return the tags of ``CAUTIONS`` that a run has."""
    return [name for name in CAUTIONS if name in tags]


def warnings_of(tags: Mapping[str, str]) -> list[str]:
    """Write what a reader of a run's numbers must know as a sentence each, given its tags."""
    return [f"WARNING: {CAUTIONS[name].format(tags[name])}" for name in caution_names(tags)]


def speaker_overlap(corpus: Corpus, folds: Sequence[Fold]) -> dict[str, list[str]]:
    """Return the speakers on both sides of a fold, by the names of the folds that have such.

    One whom the sides spell differently in case, blanks or Unicode form alone is given as ``'S1' = 's1'``.
    """
    found = {}
    for fold in folds:
        train, test = (_spellings(corpus, side) for side in (fold.train, fold.test))
        shared = [
            " = ".join(map(repr, every)) if len(every := sorted(train[name] | test[name])) > 1 else every[0]
            for name in train.keys() & test.keys()
        ]
        if shared:
            found[fold.name] = sorted(shared)
    return found


def _spellings(corpus: Corpus, side: np.ndarray) -> dict[str, set[str]]:
    """Return all spellings of each named speaker of some utterances."""
    found: dict[str, set[str]] = {}
    for name in {corpus.utterances[index].speaker for index in side} - {""}:
        found.setdefault(same_name(name), set()).add(name)
    return found


def _spelt_twice(overlap: Mapping[str, Sequence[str]]) -> str:
    """Say what a speaker of two spellings is taken for, if there is one."""
    if not any(" = " in name for names in overlap.values() for name in names):
        return ""
    return (
        " Names that differ in case, blanks or Unicode form alone are taken for one person: if they are two, give them "
        "names that differ in more."
    )


def by_fold(found: Mapping[str, Sequence[str]]) -> str:
    """Say in one line which speakers or classes were found, fold by fold; a long line is cut and says where all are."""
    listed = [f"{fold}: {', '.join(names)}" for fold, names in found.items()]
    fitting = np.flatnonzero(np.cumsum([len(one) for one in listed]) <= _LINE)
    shown = listed[: max(1, len(fitting))]
    more = [f"and {len(listed) - len(shown)} more folds, all in the run's folds_summary.csv"]
    return "; ".join(shown + more * (len(shown) < len(listed)))


class LeaveOneSpeakerOut(Protocol):
    """Each speaker in turn is in test, all others in training."""

    name = "loso"

    def folds_of(self, corpus: Corpus) -> list[Fold]:
        """Make one fold a speaker, in the order of their names."""
        return _leave_one_group_out(self, corpus, groups=len(corpus.utterances))


class LeaveOneSpeakerGroupOut(Protocol):
    """Each group of speakers in turn is in test, all others in training."""

    name = "losgo"
    groups: int = Field(5, ge=2, description="how many speaker groups, balanced by their number of utterances")

    def folds_of(self, corpus: Corpus) -> list[Fold]:
        """Make one fold a group."""
        return _leave_one_group_out(self, corpus, self.groups)


class Predefined(Protocol):
    """The corpus's own split: learn from one part, evaluate on another."""

    name = "predefined"
    train: str = Field("train", description="the split to learn from")
    test: str = Field("", description="the split to evaluate on; empty means the only other one")

    def folds_of(self, corpus: Corpus) -> list[Fold]:
        """Make one fold from the utterances' ``split``."""
        splits = np.array([utterance.split for utterance in corpus.utterances])
        known = sorted(set(splits.tolist()) - {""})
        others = [name for name in known if name != self.train]
        test = self.test or (others[0] if len(others) == 1 else "")
        if self.train not in known or test not in known or test == self.train:
            raise UsageError(
                f"Protocol {self.spec} needs a split {self.train!r} to learn from and {self.test or 'one other'!r} to "
                f"evaluate on; the corpus has {', '.join(known) or 'none'}. "
                "Name them with --protocol predefined:train=NAME,test=NAME, or use --protocol loso."
            )
        return [Fold(test, np.flatnonzero(splits == self.train), np.flatnonzero(splits == test))]


class Stratified(Protocol):
    """Random folds with each class's share in all: for corpora whose speakers nobody knows.

    The same speaker may be on both sides of such folds, as every output, tag and report says. Where speakers are named,
    the folds part them and are refused as any other split that does.
    """

    name = "stratified"
    folds: int = Field(5, ge=2, description="how many folds")
    seed: int = Field(0, description="of the draw")

    def folds_of(self, corpus: Corpus) -> list[Fold]:
        """Deal the utterances of each class out to the folds, whatever the order of their files.

        Raises:
            UsageError: there are fewer utterances than folds.
        """
        order = np.argsort(corpus.items)
        if len(order) < self.folds:
            raise UsageError(
                f"Protocol {self.spec} makes {self.folds} folds, but there are {counted(len(order), 'utterance')}. "
                "Make fewer with --protocol stratified:folds=N."
            )
        labels = np.array([utterance.label for utterance in corpus.utterances])
        fold_of = np.empty(len(order), dtype=np.intp)
        fold_of[order] = stratified_groups(labels[order], self.folds, self.seed)
        return [
            Fold(f"fold{fold + 1}", np.flatnonzero(fold_of != fold), np.flatnonzero(fold_of == fold))
            for fold in range(self.folds)
        ]


class FoldsFile(Protocol):
    """The folds of a csv file with the columns utterance, fold and part, which is train or test.

    ``utterance`` is an utterance's name as a run's ``predictions.csv`` gives it: its path below the corpus's folder,
    with ``#START-END`` for a stretch of a file. Rows may stand in any order, other columns are passed over, and what
    has no row in a fold takes no part in it. Each utterance is tested once at most. Utterances that had to be left out
    of the corpus, such as corrupt ones, are left out of the folds too.
    """

    name = "folds"
    path: str = Field(description="a csv file with the columns utterance, fold, part (train or test)")

    @field_validator("path")
    @classmethod
    def _absolute(cls, value: str) -> str:
        return str(Path(value).expanduser().absolute())

    def digest(self) -> str:
        """Return the file's SHA-256."""
        try:
            return file_digest(self.path)
        except OSError as error:
            raise UsageError(f"The folds file {self.path} cannot be read: {error.strerror}.") from None

    def folds_of(self, corpus: Corpus) -> list[Fold]:
        """Make one fold for each name in the column fold, in the order in which they first stand in the file.

        Raises:
            UsageError: the file cannot be read, a column or an utterance is not known, or an utterance is in both parts
                of a fold or tested twice; the lines are named.
        """
        index_of = {_plain(item): index for index, item in enumerate(corpus.items)}
        left_out = {_plain(skipped.item) for skipped in corpus.skipped}
        folds: dict[str, _Sides] = {}
        tested: dict[str, tuple[int, str]] = {}
        for line, item, name, part in self._rows():
            if item not in index_of and item not in left_out:
                raise self._wrong(
                    line,
                    f"there is no utterance {item!r} in {corpus.root}{nearest(item, index_of)}. An utterance is given "
                    f"by its path below the corpus's folder, such as {next(iter(index_of))!r}",
                )
            sides = folds.setdefault(name, _Sides())
            if item in sides.lines:
                before, other = sides.lines[item]
                both = f"as {part}, but as {other}" if other != part else f"as {part}"
                raise self._wrong(line, f"{item!r} stands in fold {name!r} {both} on line {before} already")
            sides.lines[item] = line, part
            if part == "test":
                if item in tested:
                    before, other = tested[item]
                    raise self._wrong(
                        line, f"{item!r} is tested in fold {name!r}, but on line {before} in fold {other!r} already"
                    )
                tested[item] = line, name
            if item in index_of:
                (sides.test if part == "test" else sides.train).append(index_of[item])
        return [
            Fold(name, np.array(sorted(sides.train), dtype=np.intp), np.array(sorted(sides.test), dtype=np.intp))
            for name, sides in folds.items()
        ]

    def _rows(self) -> list[_Row]:
        table = read_table(Path(self.path), ("utterance", "fold", "part"), what="The folds file")
        rows = [_Row(line, _plain(row["utterance"]), row["fold"], row["part"]) for line, row in table]
        for row in rows:
            if not row.utterance or not row.fold:
                raise self._wrong(row.line, "it names no utterance or no fold")
            if row.part not in ("train", "test"):
                raise self._wrong(row.line, f"the part is {row.part!r}; expected train or test")
        if not rows:
            raise UsageError(f"The folds file {self.path} has no rows below its first line.")
        return rows

    def _wrong(self, line: int, problem: str) -> UsageError:
        return UsageError(f"The folds file {self.path}, line {line}: {problem}.")


def _plain(item: str) -> str:
    """Spell an utterance's name as a table does: in one Unicode form, without blanks around it."""
    return unicodedata.normalize("NFC", item).strip()


class _Row(NamedTuple):
    line: int
    utterance: str
    fold: str
    part: str


@dataclass(frozen=True)
class _Sides:
    """One fold while its rows are read: the line and part of each utterance, and the indices of both sides."""

    lines: dict[str, tuple[int, str]] = field(default_factory=dict)
    train: list[int] = field(default_factory=list)
    test: list[int] = field(default_factory=list)


#: Protocols decide what may be believed, so they are not open to plugins.
PROTOCOLS: tuple[type[Protocol], ...] = (
    LeaveOneSpeakerOut,
    LeaveOneSpeakerGroupOut,
    Predefined,
    Stratified,
    FoldsFile,
)
#: What earlier versions called a protocol, as old configurations still do.
FORMER_NAMES = {"file": FoldsFile.name}


def _leave_one_group_out(protocol: Protocol, corpus: Corpus, groups: int) -> list[Fold]:
    speakers = [utterance.speaker for utterance in corpus.utterances]
    if unknown := speakers.count(""):
        raise UsageError(
            f"Protocol {protocol.spec} splits by speaker, but {unknown} of {len(speakers)} utterances name none. "
            "Give the speakers (--corpus folders:speaker=REGEX, or a csv manifest's speaker column), use --protocol "
            "predefined where the corpus has a split of its own, or, where nobody knows who speaks, --protocol "
            "stratified: random folds, marked everywhere as such that the same speaker may be on both sides of."
        )
    speakers = one_spelling(speakers).tolist()
    if len(set(speakers)) < 2:
        raise UsageError(f"Protocol {protocol.spec} needs at least two speakers; the corpus has {len(set(speakers))}.")
    group_of = speaker_groups(speakers, groups)
    by_speaker = groups >= len(set(speakers))
    return [
        Fold(
            name=speakers[int(np.flatnonzero(group_of == group)[0])] if by_speaker else f"group{group + 1}",
            train=np.flatnonzero(group_of != group),
            test=np.flatnonzero(group_of == group),
        )
        for group in range(group_of.max() + 1)
    ]
