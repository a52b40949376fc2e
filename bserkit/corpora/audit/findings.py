"""Findings: what an audit's measurements mean for the numbers, in words, the most serious first.

A rule speaks where an effect is large and chance is unlikely to make it; a finding says both.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING

import numpy as np

from bserkit.corpora.speakers import same_name
from bserkit.text import counted

if TYPE_CHECKING:
    from bserkit.corpora.audit.audit import Audit, Measured

#: From this share of samples at full scale on a recording counts as clipped.
CLIPPED_SHARE = 0.001
#: How much more often a label's recordings are without stereo than the speaker's others for it to be given away.
_GIVEN_AWAY = 0.25
#: The share of a variance that a speaker or label must explain.
_LARGE_EPSILON = 0.3
#: What chance may do at most: of a label given away, over all tests together; of a variance, in each test.
_CHANCE, _VARIANCE_CHANCE = 0.05, 0.001
#: How often groups are drawn anew to see what share of a variance chance explains.
_PERMUTATIONS = 1999
#: How many of a list a finding names.
_NAMED = 5
#: What stands before the number of those that are not named.
_CUT = "and another "


class Severity(IntEnum):
    """How much a finding can fool the numbers; findings are told in this order, the highest first."""

    #: Recordings can be cut, loud or quiet in ways that go with what is learned.
    QUALITY = 1
    #: What tells the speaker tells the label, or the other way round, or it cannot be checked whether it does.
    CONFOUNDED = 2
    #: Something that is no speech tells the label.
    GIVEN_AWAY = 3
    #: The same sound, speaker or class under several names: training and test are not apart.
    LEAK = 4


@dataclass(frozen=True)
class Finding:
    """One thing that could fool the numbers."""

    severity: Severity
    text: str

    @property
    def cut(self) -> bool:
        """Whether a list in it is cut short."""
        return _CUT in self.text


def findings(audit: Audit) -> list[Finding]:
    """Return everything that could fool the numbers, the most serious first."""
    rules = {
        Severity.LEAK: (_spellings, _shared_between_speakers),
        Severity.GIVEN_AWAY: (_given_away,),
        Severity.CONFOUNDED: (_unknown_speakers, _confounds, _explained),
        Severity.QUALITY: (_shared_by_one_speaker, _silent_channels, _without_stereo, _quality),
    }
    return [
        Finding(severity, text)
        for severity in sorted(rules, reverse=True)
        for rule in rules[severity]
        for text in rule(audit)
    ]


def _spellings(audit: Audit) -> Iterator[str]:
    for what, names, consequence in (
        ("speaker", audit.corpus.speakers, "folds take them for one person"),
        ("label", audit.corpus.labels, "they are learned as different classes; give them one spelling"),
    ):
        spelt: dict[str, list[str]] = {}
        for name in names:
            spelt.setdefault(same_name(name), []).append(name)
        if several := [" and ".join(map(repr, ones)) for ones in spelt.values() if len(ones) > 1]:
            verb = "is" if len(several) == 1 else "are"
            yield f"{counted(len(several), what)} {verb} spelt in several ways ({_some(several)}): {consequence}"


def _shared_between_speakers(audit: Audit) -> Iterator[str]:
    for sharing, noun, verdict in (
        (audit.sharing(exact=True), "group", "of equal recordings under several speakers: one of the names is wrong"),
        (audit.sharing(exact=False), "pair", "of recordings under several speakers share a stretch of sound"),
    ):
        sets = Counter(speakers for speakers in sharing if "" not in speakers and len(speakers) > 1)
        if sets:
            where = [f"{' and '.join(speakers)} {count}" for speakers, count in sets.most_common()]
            total = counted(sets.total(), noun)
            many = f" across {len(sets)} sets of speakers" if len(sets) > _NAMED else ""
            words, colon, end = verdict.partition(":")
            yield f"{total} {words}{many} ({_some(where)}){colon}{end}"
        if unknown := sum("" in speakers for speakers in sharing):
            yield f"{counted(unknown, noun)} of recordings of unknown speakers with common sound: folds may part them"


def _shared_by_one_speaker(audit: Audit) -> Iterator[str]:
    sharing = [*audit.sharing(exact=True), *audit.sharing(exact=False)]
    if inside := sum(len(speakers) == 1 and "" not in speakers for speakers in sharing):
        sets = counted(inside, "set")
        yield f"{sets} of one speaker's recordings with common sound: splits not by speaker would leak"


def _given_away(audit: Audit) -> Iterator[str]:
    """Compare each label's recordings without stereo with the same speaker's of other labels."""
    if not audit.needs_stereo:
        return
    every = Counter((one.speaker, one.label) for one in audit.measured)
    flat = Counter((one.speaker, one.label) for one in audit.measured if not one.facts.stereo)
    labels = sorted({label for _, label in every})
    of_speaker, flat_of_speaker = Counter[str](), Counter[str]()
    for (speaker, label), count in every.items():
        of_speaker[speaker] += count
        flat_of_speaker[speaker] += flat[speaker, label]
    # Where all or none of a speaker's recordings are without stereo, that tells nothing.
    mixed = [speaker for speaker, count in sorted(of_speaker.items()) if 0 < flat_of_speaker[speaker] < count]
    cells = [
        (speaker, label) for label in labels for speaker in mixed if 0 < every[speaker, label] < of_speaker[speaker]
    ]
    tests = len(cells) + len(labels)
    for silent in (True, False):
        said = False
        for label in labels:
            tables = {
                speaker: _Table(
                    flat[speaker, label], every[speaker, label], flat_of_speaker[speaker], of_speaker[speaker]
                )
                for speaker, of_label in cells
                if of_label == label
            }
            if not silent:
                tables = {speaker: table.inverted() for speaker, table in tables.items()}
            sign = "a silent Side" if silent else "a Side that is not silent"
            alone = {speaker: table for speaker, table in tables.items() if _gives_away([table], tests)}
            if alone:
                names = [
                    f"{speaker or 'unknown'} ({table.words()}, {chance_text(tests * chance([table]))})"
                    for speaker, table in alone.items()
                ]
                whose = "speaker" if len(alone) == 1 else f"{len(alone)} speakers,"
                yield f"{sign} gives {label} away for {whose} {_some(names)}"
                said = True
            elif len(tables) > 1 and _gives_away(list(tables.values()), tests):
                together = _Table(*(sum(column) for column in zip(*map(_Table.cells, tables.values()), strict=True)))
                p = chance_text(tests * chance(list(tables.values())))
                yield f"{sign} gives {label} away over {len(tables)} speakers ({together.words()}, {p})"
                said = True
        if said:
            return


@dataclass(frozen=True)
class _Table:
    """Of how many recordings of a label, and of a speaker's recordings in all, something is true."""

    hits: int
    drawn: int
    marked: int
    total: int

    def cells(self) -> tuple[int, int, int, int]:
        return self.hits, self.drawn, self.marked, self.total

    def inverted(self) -> _Table:
        return _Table(self.drawn - self.hits, self.drawn, self.total - self.marked, self.total)

    def words(self) -> str:
        return f"{self.hits} of {self.drawn}, of other labels {self.marked - self.hits} of {self.total - self.drawn}"


def _gives_away(tables: Sequence[_Table], tests: int) -> bool:
    hits, drawn, marked, total = (sum(column) for column in zip(*map(_Table.cells, tables), strict=True))
    more = hits / drawn - (marked - hits) / (total - drawn)
    return more >= _GIVEN_AWAY and tests * chance(tables) <= _CHANCE


def chance(tables: Sequence[_Table]) -> float:
    """Return how likely at least so many hits are, labels dealt by chance within each speaker: Fisher's exact test."""
    from scipy.stats import hypergeom

    sums = np.ones(1)
    for one in tables:
        sums = np.convolve(sums, hypergeom.pmf(np.arange(one.drawn + 1), one.total, one.marked, one.drawn))
    return float(min(1.0, sums[sum(one.hits for one in tables) :].sum()))


def chance_text(chance: float) -> str:
    """Return a chance as articles write it.

    >>> chance_text(0.0004), chance_text(0.0312)
    ('p < .001', 'p = .031')
    """
    return "p < .001" if chance < 0.001 else f"p = {chance:.3f}".replace("0.", ".", 1)


def _unknown_speakers(audit: Audit) -> Iterator[str]:
    unknown = sum(not one.speaker for one in audit.corpus.utterances)
    if unknown:
        whole = len(audit.corpus.utterances)
        whose = "speakers are unknown" if unknown == whole else f"the speakers of {unknown} of {whole} are unknown"
        yield (
            f"{whose}: whether labels go with speakers, speakers share sound, or training and test share speakers "
            "cannot be checked"
        )


def _confounds(audit: Audit) -> Iterator[str]:
    count, spelling = Counter[tuple[str, str]](), audit.spelling
    for (speaker, label), number in audit.corpus.count().items():
        if speaker:
            count[spelling[speaker], label] += number
    speakers, labels = sorted({speaker for speaker, _ in count}), audit.corpus.labels
    if not speakers:
        return
    if len(speakers) == 1:
        yield f"all recordings are of one speaker ({speakers[0]}): how others are recognised cannot be told"
        return
    lacking = {speaker: [label for label in labels if not count[speaker, label]] for speaker in speakers}
    single = sum(len(labels) - len(lacks) == 1 for lacks in lacking.values()) if len(labels) > 1 else 0
    if single > len(speakers) / 2:
        yield f"{single} of {len(speakers)} speakers have one label only: who speaks tells the label"
    elif without := [f"{speaker}: {', '.join(lacks)}" for speaker, lacks in lacking.items() if lacks]:
        verb = "lacks" if len(without) == 1 else "lack"
        yield (
            f"{len(without)} of {len(speakers)} speakers {verb} a label altogether ({_some(without, '; ')}): tested on "
            "them, fewer classes are told apart"
        )
    having = {label: sum(count[speaker, label] > 0 for speaker in speakers) for label in labels}
    few = [f"{label} {number}" for label, number in having.items() if number < max(2, len(speakers) / 2)]
    if few:
        noun = "a label comes" if len(few) == 1 else "labels come"
        yield f"{noun} from few of the {len(speakers)} speakers ({_some(few)}): the two are confounded"
    totals = Counter[str]()
    for (speaker, _), number in count.items():
        totals[speaker] += number
    (speaker, most), *_ = totals.most_common(1)
    if most > max(0.15, 2 / len(speakers)) * len(audit.corpus.utterances):
        yield f"speaker {speaker} alone has {most} of {len(audit.corpus.utterances)} recordings"


def _explained(audit: Audit) -> Iterator[str]:
    values = {"level": [one.level_db for one in audit.measured]}
    if audit.needs_stereo:
        # A channel that recorded nothing has neither; that is a finding of its own.
        both = [
            (math.nan, math.nan) if one.facts.silent else (one.right_to_left_db, one.delay_ms) for one in audit.measured
        ]
        values["balance of right and left"] = [balance for balance, _ in both]
        values["inter-channel delay"] = [delay for _, delay in both]
    speakers = [one.speaker for one in audit.measured]
    groups = {"label": [one.label for one in audit.measured]}
    # Unknown speakers are no group.
    groups = {"speaker": speakers, **groups} if all(speakers) else groups
    for name, numbers in values.items():
        for what, names in groups.items():
            share = epsilon_squared(numbers, names)
            if share > _LARGE_EPSILON and (p := epsilon_squared_p(numbers, names)) <= _VARIANCE_CHANCE:
                size = f"epsilon squared {share:.2f}".replace("0.", ".")
                yield f"the {what} explains {share:.0%} of the variance of the {name} ({size}, {chance_text(p)})"


def epsilon_squared(values: Sequence[float], groups: Sequence[str]) -> float:
    """Return the share of the values' variance that lies between groups: epsilon squared, zero where it is negative.

    That is eta squared less what chance would give. Values that are not finite are left out.
    """
    chosen, codes = _finite(values, groups)
    kinds = len(np.unique(codes))
    total = float(((chosen - chosen.mean()) ** 2).sum()) if len(chosen) else 0.0
    if total <= 1e-12 or kinds < 2 or len(chosen) <= kinds:
        return 0.0
    within = total - _between(chosen - chosen.mean(), codes)
    return max(0.0, 1 - (within / (len(chosen) - kinds)) / (total / (len(chosen) - 1)))


def epsilon_squared_p(values: Sequence[float], groups: Sequence[str]) -> float:
    """Return how often as much variance lies between groups that are drawn anew, a permutation test of 1,999 draws."""
    chosen, codes = _finite(values, groups)
    chosen = chosen - chosen.mean()
    generator = np.random.default_rng(0)
    found = _between(chosen, codes)
    as_much = sum(_between(generator.permutation(chosen), codes) >= found * (1 - 1e-9) for _ in range(_PERMUTATIONS))
    return (1 + as_much) / (1 + _PERMUTATIONS)


def _finite(values: Sequence[float], groups: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    known = np.isfinite(values)
    return np.asarray(values, dtype=float)[known], np.unique(np.asarray(groups)[known], return_inverse=True)[1]


def _between(centred: np.ndarray, codes: np.ndarray) -> float:
    sizes = np.bincount(codes)
    return float((np.bincount(codes, weights=centred) ** 2 / np.maximum(sizes, 1)).sum())


def _silent_channels(audit: Audit) -> Iterator[str]:
    for side, other in (("left", "right"), ("right", "left")):
        if dead := [one for one in audit.measured if one.facts.silent == side]:
            yield (
                f"the {side} channel is silent in {counted(len(dead), 'recording')} ({_where(audit, dead)}): all that "
                f"is to be learned there is in the {other} one"
            )


def _without_stereo(audit: Audit) -> Iterator[str]:
    if not audit.needs_stereo:
        return
    flat = [one for one in audit.measured if not one.facts.stereo and not one.facts.silent]
    if flat and len(flat) == len(audit.measured):
        yield f"all {len(flat)} recordings are without stereo: learn from them with --channels mono"
    elif flat:
        is_are = "recording is" if len(flat) == 1 else "recordings are"
        yield f"{len(flat)} {is_are} without stereo ({_where(audit, flat)}): a silent Side would mark them"
    if equal := [one.item for one in audit.measured if one.facts.channels == 2 and one.facts.equal]:
        files = "two-channel file has" if len(equal) == 1 else "two-channel files have"
        yield f"{len(equal)} {files} left equal to right ({_some(equal)})"


def _quality(audit: Audit) -> Iterator[str]:
    if clipped := sum(one.facts.clipped > CLIPPED_SHARE for one in audit.measured):
        verb = "has" if clipped == 1 else "have"
        yield f"{counted(clipped, 'recording')} {verb} more than {CLIPPED_SHARE:.1%} of the samples at full scale"
    rates = Counter(one.facts.sample_rate for one in audit.measured)
    if len(rates) > 1:
        listed = ", ".join(f"{rate} Hz {count}" for rate, count in rates.most_common())
        yield f"sampling rates differ ({listed}): see that they do not go with a label"
    if audit.unusable:
        yield f"{counted(len(audit.unusable), 'recording')} cannot be used"


def _where(audit: Audit, ones: Iterable[Measured]) -> str:
    """Say how many recordings of which speakers and labels these are; of a speaker all of whose they are, how many."""
    ones = list(ones)
    of_speaker, every = Counter(one.speaker for one in ones), Counter(one.speaker for one in audit.measured)
    counts = Counter(
        (one.speaker or "unknown",)
        if of_speaker[one.speaker] == every[one.speaker]
        else (one.speaker or "unknown", one.label)
        for one in ones
    )
    return _some([f"{' '.join(names)} {count}" for names, count in counts.most_common()])


def _some(names: Sequence[str], between: str = ", ") -> str:
    """Return the first few of a list, and how many more there are."""
    more = [f"{_CUT}{len(names) - _NAMED}"] if len(names) > _NAMED else []
    return between.join([*names[:_NAMED], *more])
