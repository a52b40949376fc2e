"""Protocols: which items are learned from and which evaluated, no speaker being both (paper, section III-B)."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from pydantic import Field

from bserkit.component import Component
from bserkit.errors import UsageError
from bserkit.speakers import speaker_groups

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bserkit.corpus import Utterance


@dataclass(frozen=True)
class Fold:
    """One split: a name for tables and the indices of its training and test items."""

    name: str
    train: np.ndarray
    test: np.ndarray


class Protocol(Component):
    """A way to split a corpus; the same corpus always splits alike."""

    kind = "protocol"

    @abstractmethod
    def folds(self, utterances: Sequence[Utterance]) -> list[Fold]:
        """Split, giving the indices of training and test items of each fold.

        Raises:
            UsageError: the corpus lacks what the protocol splits by.
        """


def split(protocol: Protocol, utterances: Sequence[Utterance]) -> list[Fold]:
    """Split and check: every fold has items on both sides, and no speaker stands on both.

    Raises:
        UsageError: a fold is empty on one side, or shares speakers, who are named.
    """
    folds = protocol.folds(utterances)
    for fold in folds:
        train, test = ({utterances[index].speaker for index in side} - {""} for side in (fold.train, fold.test))
        if shared := sorted(train & test):
            raise UsageError(
                f"Fold {fold.name} of protocol {protocol.spec} has the same speaker in training and in test: "
                f"{', '.join(shared)}. Such a split measures how well speakers are recognised. Correct the splits, or "
                "use --protocol loso or losgo, which keep each speaker on one side."
            )
        if not len(fold.train) or not len(fold.test):
            raise UsageError(
                f"Fold {fold.name} of protocol {protocol.spec} has {len(fold.train)} training and {len(fold.test)} "
                "test items; both sides need some."
            )
    return folds


class LeaveOneSpeakerOut(Protocol):
    """Each speaker in turn is evaluated by what was learned from all others."""

    name = "loso"

    def folds(self, utterances: Sequence[Utterance]) -> list[Fold]:
        """Make one fold a speaker, in the order of their names."""
        return _leave_one_group_out(self, utterances, groups=len(utterances))


class LeaveOneSpeakerGroupOut(Protocol):
    """Each group of speakers in turn is evaluated by what was learned from all others."""

    name = "losgo"
    groups: int = Field(5, ge=2, description="how many speaker groups, balanced by their number of items")

    def folds(self, utterances: Sequence[Utterance]) -> list[Fold]:
        """Make one fold a group."""
        return _leave_one_group_out(self, utterances, self.groups)


class Predefined(Protocol):
    """The corpus's own split: learn from one part, evaluate on another."""

    name = "predefined"
    train: str = Field("train", description="the split to learn from")
    test: str = Field("", description="the split to evaluate on; empty means the only other one")

    def folds(self, utterances: Sequence[Utterance]) -> list[Fold]:
        """Make one fold from the utterances' ``split``."""
        splits = np.array([utterance.split for utterance in utterances])
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


#: Protocols decide what may be believed, so they are not open to plugins.
PROTOCOLS: tuple[type[Protocol], ...] = (LeaveOneSpeakerOut, LeaveOneSpeakerGroupOut, Predefined)


def _leave_one_group_out(protocol: Protocol, utterances: Sequence[Utterance], groups: int) -> list[Fold]:
    speakers = [utterance.speaker for utterance in utterances]
    if unknown := speakers.count(""):
        raise UsageError(
            f"Protocol {protocol.spec} splits by speaker, but {unknown} of {len(speakers)} utterances name none. "
            "Give the speakers (--corpus folders:speaker=REGEX, or a csv manifest's speaker column), "
            "or use --protocol predefined."
        )
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
