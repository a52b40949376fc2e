"""The audit: what in a corpus could fool the numbers, found before anything is learned."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from bserkit.audio import AudioFacts, inspect_audio, read_stereo
from bserkit.likeness import Likeness, fingerprint, likenesses

if TYPE_CHECKING:
    from bserkit.corpus import Corpus
    from bserkit.progress import Reporter

#: An inter-channel delay is looked for this far either way, seconds: more than any head or pair of microphones makes.
_LONGEST_DELAY = 0.002
#: Samples that one step of the delay's estimate spans.
_DELAY_BLOCK = 8192
#: From this share of samples at full scale on a recording counts as clipped.
CLIPPED_SHARE = 0.001


@dataclass(frozen=True)
class Measured:
    """What one usable recording was measured to be.

    Attributes:
        level_db: root mean square of both channels, dB of full scale.
        side_to_mid_db: energy of L - R over that of L + R, dB; minus infinity where left equals right.
        right_to_left_db: energy of the right channel over that of the left, dB.
        delay_ms: how much later the right channel is than the left; not a number where they are equal.
        digest: the samples by content, whatever file format holds them.
    """

    item: str
    label: str
    speaker: str
    facts: AudioFacts
    level_db: float
    side_to_mid_db: float
    right_to_left_db: float
    delay_ms: float
    digest: str


@dataclass(frozen=True)
class Audit:
    """Everything that was found.

    Attributes:
        unusable: (item, reason) of each recording that a run would leave out.
        exact: groups of recordings whose samples are the same.
        near: pairs that share a stretch of sound, the exact ones left out.
    """

    corpus: Corpus
    measured: tuple[Measured, ...]
    unusable: tuple[tuple[str, str], ...]
    exact: tuple[tuple[Measured, ...], ...]
    near: tuple[Likeness, ...]

    def findings(self) -> list[str]:
        """Say in words what could fool the numbers, the gravest first."""
        return [*self._across_speakers(), *self._giveaways(), *self._confounds(), *self._quality()]

    def _across_speakers(self) -> Iterable[str]:
        pairs: Counter[str] = Counter()
        for group in self.exact:
            if len(speakers := sorted({one.speaker for one in group})) > 1:
                pairs[" and ".join(speakers)] += 1
        for names, count in sorted(pairs.items()):
            yield f"{count} recordings are the same under several speakers ({names}): one of the names is wrong"
        shared: Counter[str] = Counter()
        for pair in self.near:
            speakers = sorted({self.measured[pair.first].speaker, self.measured[pair.second].speaker})
            if len(speakers) > 1:
                shared[" and ".join(speakers)] += 1
        for names, count in sorted(shared.items()):
            yield f"{count} pairs of recordings share a stretch of sound under several speakers ({names})"
        inside = sum(len({one.speaker for one in group}) == 1 for group in self.exact) + sum(
            self.measured[pair.first].speaker == self.measured[pair.second].speaker for pair in self.near
        )
        if inside:
            yield f"{inside} pairs or groups of one speaker's recordings share sound: splits not by speaker would leak"

    def _giveaways(self) -> Iterable[str]:
        flat = [one for one in self.measured if not one.facts.stereo]
        if not flat or len(flat) == len(self.measured):
            if flat:
                yield f"all {len(flat)} recordings are without stereo: learn from them with --channels mono"
            return
        where = Counter((one.speaker, one.label) for one in flat)
        every = self.corpus.count()
        listed = ", ".join(f"{speaker} {label} {count}" for (speaker, label), count in where.most_common(8))
        yield f"{len(flat)} recordings are without stereo ({listed}): their silent Side marks them"
        for (speaker, label), count in where.items():
            if count >= 3 and count > every[speaker, label] / 2:
                yield f"a silent Side gives {label} away for speaker {speaker} ({count} of {every[speaker, label]})"

    def _confounds(self) -> Iterable[str]:
        count = self.corpus.count()
        totals = Counter(utterance.speaker for utterance in self.corpus.utterances)
        speakers = self.corpus.speakers
        single = [
            speaker for speaker in speakers if sum(count[speaker, label] > 0 for label in self.corpus.labels) == 1
        ]
        if len(single) > len(speakers) / 2:
            yield f"{len(single)} of {len(speakers)} speakers have one label only: who speaks tells the label"
        for label in self.corpus.labels:
            having = [speaker for speaker in speakers if count[speaker, label]]
            if len(having) < max(2, len(speakers) / 2):
                yield f"the label {label} comes from {len(having)} of {len(speakers)} speakers: the two are confounded"
        (speaker, most), *_ = totals.most_common(1)
        if most > max(0.15, 2 / len(speakers)) * len(self.corpus.utterances):
            yield f"speaker {speaker} alone has {most} of {len(self.corpus.utterances)} recordings"
        for name, values in (
            ("level", [one.level_db for one in self.measured]),
            ("balance of right and left", [one.right_to_left_db for one in self.measured]),
            ("inter-channel delay", [one.delay_ms for one in self.measured]),
        ):
            for what, groups in (
                ("speaker", [one.speaker for one in self.measured]),
                ("label", [one.label for one in self.measured]),
            ):
                share = explained_share(values, groups)
                # Of fewer recordings a group, such a share is as likely chance.
                if share > 0.3 and len(groups) >= 5 * len(set(groups)):
                    yield f"the {what} explains {share:.0%} of the variance of the {name}: a network can read it there"

    def _quality(self) -> Iterable[str]:
        if clipped := sum(one.facts.clipped > CLIPPED_SHARE for one in self.measured):
            yield f"{clipped} recordings have more than {CLIPPED_SHARE:.1%} of their samples at full scale"
        rates = Counter(one.facts.sample_rate for one in self.measured)
        if len(rates) > 1:
            listed = ", ".join(f"{rate} Hz {count}" for rate, count in rates.most_common())
            yield f"sampling rates differ ({listed}): see that they do not go with a label"
        if self.unusable:
            yield f"{len(self.unusable)} recordings cannot be used"


def audit(corpus: Corpus, reporter: Reporter) -> Audit:
    """Read every recording once and compare them all."""
    items = corpus.items

    def look(index: int) -> tuple[Measured, np.ndarray] | tuple[str, str]:
        utterance = corpus.utterances[index]
        facts = inspect_audio(utterance)
        if facts.problem:
            return items[index], facts.problem
        samples, sample_rate = read_stereo(utterance)
        return _measure(items[index], utterance.label, utterance.speaker, facts, samples), fingerprint(
            samples, sample_rate
        )

    measured: list[Measured] = []
    prints: list[np.ndarray] = []
    unusable: list[tuple[str, str]] = []
    with ThreadPoolExecutor(os.cpu_count()) as pool, reporter.stage("Measuring audio", len(items), "files") as advance:
        for found in pool.map(look, range(len(items))):
            if isinstance(found[0], Measured):
                measured.append(found[0])
                prints.append(np.asarray(found[1]))
            else:
                unusable.append((str(found[0]), str(found[1])))
            advance(1)
    groups: dict[str, list[int]] = {}
    for index, one in enumerate(measured):
        groups.setdefault(one.digest, []).append(index)
    same = {index: group[0] for group in groups.values() for index in group}
    near = [pair for pair in likenesses(prints) if same[pair.first] != same[pair.second]]
    exact = tuple(tuple(measured[index] for index in group) for group in groups.values() if len(group) > 1)
    return Audit(corpus, tuple(measured), tuple(unusable), exact, tuple(near))


def _measure(item: str, label: str, speaker: str, facts: AudioFacts, samples: np.ndarray) -> Measured:
    left, right = samples.astype(np.float64)
    energy_left, energy_right = float(left @ left), float(right @ right)
    return Measured(
        item=item,
        label=label,
        speaker=speaker,
        facts=facts,
        level_db=_decibel(energy_left + energy_right, samples.size),
        side_to_mid_db=_decibel(float(((left - right) ** 2).sum()), float(((left + right) ** 2).sum())),
        right_to_left_db=_decibel(energy_right, energy_left),
        delay_ms=1000 * delay(samples, facts.sample_rate) if facts.stereo else float("nan"),
        digest=hashlib.sha256(np.ascontiguousarray(samples).tobytes()).hexdigest(),
    )


def delay(samples: np.ndarray, sample_rate: int) -> float:
    """Return how many seconds the right channel of ``(2, time)`` comes after the left: their correlation's peak."""
    length = samples.shape[1]
    blocks = max(1, length // _DELAY_BLOCK)
    used = samples[:, : blocks * _DELAY_BLOCK] if length >= _DELAY_BLOCK else samples
    left, right = used.reshape(2, blocks, -1).astype(np.float64)
    points = 2 * left.shape[1]
    spectrum = np.conj(np.fft.rfft(left, points)) * np.fft.rfft(right, points)
    correlation = np.fft.irfft(spectrum.sum(axis=0), points)
    reach = max(1, round(_LONGEST_DELAY * sample_rate))
    near = np.concatenate([correlation[-reach:], correlation[: reach + 1]])
    return float(np.argmax(near) - reach) / sample_rate


def explained_share(values: Sequence[float], groups: Sequence[str]) -> float:
    """Return the share of the values' variance that lies between groups: eta squared, less what chance would give.

    Values that are not finite are left out. Zero is no more than chance, one is all.
    """
    known = np.isfinite(values)
    chosen, names = np.asarray(values, dtype=float)[known], np.asarray(groups)[known]
    kinds = np.unique(names)
    items = len(chosen)
    total = float(((chosen - chosen.mean()) ** 2).sum()) if items else 0.0
    if total <= 1e-12 or len(kinds) < 2 or items <= len(kinds):
        return 0.0
    within = sum(float(((chosen[names == kind] - chosen[names == kind].mean()) ** 2).sum()) for kind in kinds)
    return max(0.0, 1 - (within / (items - len(kinds))) / (total / (items - 1)))


def summary_rows(audit: Audit, by: str) -> list[dict[str, str]]:
    """Return one row a speaker, or a label: recordings, seconds, level, Side, balance, delay and their spread."""
    groups: dict[str, list[Measured]] = {}
    for one in audit.measured:
        groups.setdefault(getattr(one, by) or "unknown", []).append(one)
    return [
        {
            by: name,
            "files": str(len(ones)),
            "seconds": f"{np.mean([one.facts.seconds for one in ones]):.1f}",
            "no stereo": str(sum(not one.facts.stereo for one in ones)),
            "clipped": str(sum(one.facts.clipped > CLIPPED_SHARE for one in ones)),
            "level dB": _spread([one.level_db for one in ones]),
            "Side/Mid dB": _spread([one.side_to_mid_db for one in ones]),
            "right/left dB": _spread([one.right_to_left_db for one in ones]),
            "delay ms": _spread([one.delay_ms for one in ones], digits=2),
        }
        for name, ones in sorted(groups.items())
    ]


def duplicate_rows(audit: Audit) -> list[Mapping[str, str]]:
    """Return one row a pair of recordings that share sound, those of several speakers first."""
    pairs = [(group[0], other, 1.0, "exact") for group in audit.exact for other in group[1:]]
    pairs += [(audit.measured[pair.first], audit.measured[pair.second], pair.share, "near") for pair in audit.near]
    pairs.sort(key=lambda pair: (pair[0].speaker == pair[1].speaker, pair[0].item))
    return [
        {
            "first": first.item,
            "second": second.item,
            "speakers": " ".join(sorted({first.speaker, second.speaker})),
            "labels": " ".join(sorted({first.label, second.label})),
            "kind": kind,
            "shared": f"{share:.0%}",
        }
        for first, second, share, kind in pairs
    ]


def _decibel(energy: float, of: float) -> float:
    return float(10 * np.log10(energy / of)) if energy > 0 and of > 0 else float("-inf" if energy <= 0 else "inf")


def _spread(values: Sequence[float], digits: int = 1) -> str:
    known = [value for value in values if np.isfinite(value)]
    return f"{np.median(known):+.{digits}f} ± {np.std(known):.{digits}f}" if known else ""
