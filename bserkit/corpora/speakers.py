"""Groups of utterances: by speaker, who must never be split, and where nobody knows who speaks, at random by class."""

from __future__ import annotations

import unicodedata
from collections import Counter
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence


def same_name(name: str) -> str:
    """Return what is equal for two names that differ in case, blanks or Unicode form alone: one person, spelt twice.

    >>> same_name("S1") == same_name(" s1 ") == same_name("\uff331"), same_name("s1") == same_name("s 1")
    (True, False)
    """
    folded = unicodedata.normalize("NFKC", name).casefold()
    return " ".join(unicodedata.normalize("NFKC", folded).split())


def one_spelling(names: Sequence[str] | np.ndarray) -> np.ndarray:
    """Return ``(utterance,)`` names, each in the one spelling, the first in order, that its like have among them.

    >>> one_spelling(["s1", "S2", "S1"]).tolist()
    ['S1', 'S2', 'S1']
    """
    spellings: dict[str, str] = {}
    for name in sorted({str(name) for name in names}):
        spellings.setdefault(same_name(name), name)
    return np.array([spellings[same_name(str(name))] for name in names], dtype=str)


def unknown_speakers(speakers: Sequence[str] | np.ndarray) -> str:
    """Say why training utterances cannot be split by speaker; nothing if they can.

    >>> unknown_speakers(["ann", "", "bob"]), unknown_speakers(["ann", "Ann"]), unknown_speakers(["ann", "bob"])
    ('1 of 3 training utterances name no speaker', 'there is only one training speaker', '')
    """
    named = one_spelling(speakers)
    if nameless := int(np.sum(named == "")):
        return f"{nameless} of {len(named)} training utterances name no speaker"
    return "there is only one training speaker" if len(np.unique(named)) < 2 else ""


def speaker_groups(speakers: Sequence[str] | np.ndarray, groups: int) -> np.ndarray:
    """Return ``(utterance,)`` group numbers from 0, at most ``groups`` of them, all utterances of a speaker in one
    group.

    Names that ``same_name`` takes for one are one speaker. Groups are balanced by their number of utterances: the
    speaker with the most utterances first, into the smallest group so far. Ties fall by name, so the grouping depends
    on the utterances alone and not on their order. With as many groups as speakers this is leave-one-speaker-out, in
    the order of the speakers' names.

    >>> speaker_groups(["a", "b", "a", "c", "a"], groups=2).tolist()
    [0, 1, 0, 1, 0]
    """
    names = one_spelling(speakers).tolist()
    counts = Counter(names)
    if groups >= len(counts):
        group_of = {speaker: index for index, speaker in enumerate(sorted(counts))}
    else:
        sizes = [0] * groups
        group_of = {}
        for speaker, count in sorted(counts.items(), key=lambda pair: (-pair[1], pair[0])):
            group_of[speaker] = smallest = sizes.index(min(sizes))
            sizes[smallest] += count
    return np.array([group_of[name] for name in names], dtype=np.intp)


def stratified_groups(labels: Sequence[str] | np.ndarray, groups: int, seed: int) -> np.ndarray:
    """Return ``(utterance,)`` group numbers from 0, the utterances of each class dealt out to ``groups`` groups at
    random.

    Groups differ by one utterance at most, in each class and in all. The same speaker may be in several: for utterances
    whose speakers nobody knows.

    >>> np.bincount(stratified_groups(["a"] * 4 + ["b"] * 3, groups=2, seed=0)).tolist()
    [4, 3]
    """
    labels = np.asarray(labels)
    generator = np.random.default_rng(seed)
    group_of = np.empty(len(labels), dtype=np.intp)
    dealt = 0
    for label in np.unique(labels):
        rows = generator.permutation(np.flatnonzero(labels == label))
        group_of[rows] = (dealt + np.arange(len(rows))) % groups
        dealt += len(rows)
    return group_of
