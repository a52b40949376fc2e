"""Speaker groups: the one way in which this package splits items, since speakers must never be split."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence


def speaker_groups(speakers: Sequence[str] | np.ndarray, groups: int) -> np.ndarray:
    """Return ``(item,)`` group numbers from 0, at most ``groups`` of them, all items of a speaker in one group.

    Groups are balanced by their number of items: the speaker with the most items first, into the smallest group so far.
    Ties fall by name, so the grouping depends on the items alone and not on their order. With as many groups as
    speakers this is leave-one-speaker-out, in the order of the speakers' names.

    >>> speaker_groups(["a", "b", "a", "c", "a"], groups=2).tolist()
    [0, 1, 0, 1, 0]
    """
    counts = Counter(str(speaker) for speaker in speakers)
    if groups >= len(counts):
        group_of = {speaker: index for index, speaker in enumerate(sorted(counts))}
    else:
        sizes = [0] * groups
        group_of = {}
        for speaker, count in sorted(counts.items(), key=lambda pair: (-pair[1], pair[0])):
            group_of[speaker] = smallest = sizes.index(min(sizes))
            sizes[smallest] += count
    return np.array([group_of[str(speaker)] for speaker in speakers], dtype=np.intp)
