"""The audit: what in a corpus could fool the numbers, found before anything is learned."""

from __future__ import annotations

import base64
import hashlib
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from bserkit.likeness import Fingerprint, Likeness, likenesses
from bserkit.meaning import meaning
from bserkit.measuring import measure
from bserkit.text import counted, markdown_table

if TYPE_CHECKING:
    from bserkit.audio import AudioFacts
    from bserkit.corpus import Corpus, Utterance
    from bserkit.progress import Reporter
    from bserkit.store import FeatureStore

#: Pairs that share sound which a run's audit.md lists.
_TOLD = 200
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
        unusable: (item, reason) of each recording that a run leaves out.
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

    def metrics(self) -> dict[str, float]:
        """Return the counts that a run logs, by their names in MLflow."""
        return {
            "audit/findings": len(self.findings()),
            "audit/without_stereo": sum(not one.facts.stereo for one in self.measured),
            "audit/clipped": self._clipped(),
            "audit/left_out": len(self.unusable),
            "audit/shared_between_speakers": sum(len(speakers) > 1 for speakers in self._sharing()),
            "audit/shared_by_one_speaker": sum(len(speakers) == 1 for speakers in self._sharing()),
        }

    def _sharing(self) -> list[tuple[str, ...]]:
        """Return the speakers of each group of recordings that are the same and of each pair that shares sound."""
        groups = [{one.speaker for one in group} for group in self.exact]
        groups += [{self.measured[pair.first].speaker, self.measured[pair.second].speaker} for pair in self.near]
        return [tuple(sorted(speakers)) for speakers in groups]

    def _clipped(self) -> int:
        return sum(one.facts.clipped > CLIPPED_SHARE for one in self.measured)

    def _across_speakers(self) -> Iterable[str]:
        sharing = self._sharing()
        same, alike = Counter(sharing[: len(self.exact)]), Counter(sharing[len(self.exact) :])
        for speakers, count in sorted(same.items()):
            if len(speakers) > 1:
                names = " and ".join(speakers)
                groups = counted(count, "group")
                yield f"{groups} of equal recordings under several speakers ({names}): one of the names is wrong"
        for speakers, count in sorted(alike.items()):
            if len(speakers) > 1:
                names = " and ".join(speakers)
                pairs = counted(count, "pair")
                yield f"{pairs} of recordings with a common stretch of sound under several speakers ({names})"
        if inside := sum(len(speakers) == 1 for speakers in sharing):
            sets = counted(inside, "set")
            yield f"{sets} of one speaker's recordings with common sound: splits not by speaker would leak"

    def _giveaways(self) -> Iterable[str]:
        yield from self._without_stereo()
        if equal := [one.item for one in self.measured if one.facts.channels == 2 and one.facts.equal]:
            more = f" and {len(equal) - 5} more" if len(equal) > 5 else ""
            yield f"{len(equal)} two-channel files have left equal to right ({', '.join(equal[:5])}{more})"

    def _without_stereo(self) -> Iterable[str]:
        flat = [one for one in self.measured if not one.facts.stereo]
        if not flat or len(flat) == len(self.measured):
            if flat:
                yield f"all {len(flat)} recordings are without stereo: learn from them with --channels mono"
            return
        where = Counter((one.speaker, one.label) for one in flat)
        every = self.corpus.count()
        listed = ", ".join(f"{speaker} {label} {count}" for (speaker, label), count in where.most_common(8))
        yield f"{len(flat)} recordings are without stereo ({listed}): a silent Side would mark them"
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
        if clipped := self._clipped():
            yield f"{clipped} recordings have more than {CLIPPED_SHARE:.1%} of their samples at full scale"
        rates = Counter(one.facts.sample_rate for one in self.measured)
        if len(rates) > 1:
            listed = ", ".join(f"{rate} Hz {count}" for rate, count in rates.most_common())
            yield f"sampling rates differ ({listed}): see that they do not go with a label"
        if self.unusable:
            yield f"{len(self.unusable)} recordings cannot be used"


def audit(corpus: Corpus, looked: Sequence[tuple[str, AudioFacts]], store: FeatureStore, reporter: Reporter) -> Audit:
    """Measure every recording and compare them all; what was measured once is kept in the store.

    Args:
        looked: each utterance's audio by content and its facts, as ``look_at`` gives them.
    """
    usable = [index for index, (_, facts) in enumerate(looked) if not facts.problem]
    by_content = {looked[index][0]: corpus.utterances[index] for index in usable}
    sounds = _sounds(by_content, store, reporter)
    items = corpus.items
    unusable = [(one.item, one.reason) for one in corpus.skipped]
    unusable += [(items[index], facts.problem) for index, (_, facts) in enumerate(looked) if facts.problem]
    measured = []
    for index in usable:
        digest, facts = looked[index]
        utterance, numbers = corpus.utterances[index], dict(sounds[digest])
        del numbers["words"], numbers["signs"]
        measured.append(Measured(items[index], utterance.label, utterance.speaker, facts, **numbers))
    groups: dict[str, list[int]] = {}
    for index, one in enumerate(measured):
        groups.setdefault(one.digest, []).append(index)
    same = {index: group[0] for group in groups.values() for index in group}
    alike = _alike([looked[index][0] for index in usable], sounds, store)
    near = [pair for pair in alike if same[pair.first] != same[pair.second]]
    exact = tuple(tuple(measured[index] for index in group) for group in groups.values() if len(group) > 1)
    return Audit(corpus, tuple(measured), tuple(unusable), exact, tuple(near))


def _sounds(by_content: Mapping[str, Utterance], store: FeatureStore, reporter: Reporter) -> dict[str, dict[str, Any]]:
    """Return what each recording was measured to be, and the words of its fingerprint, measuring what is not kept."""
    kind = f"sound-{_code()}"
    kept = {digest: store.known_facts(digest, kind) for digest in by_content}
    sounds = {digest: facts for digest, facts in kept.items() if facts is not None}
    if missing := [digest for digest in by_content if digest not in sounds]:

        def kept_measure(digest: str) -> dict[str, Any]:
            return store.facts(digest, lambda: measure(by_content[digest]), kind)

        with (
            ThreadPoolExecutor(os.cpu_count()) as pool,
            reporter.stage("Measuring audio", len(missing), "files") as advance,
        ):
            for digest, facts in zip(missing, pool.map(kept_measure, missing), strict=True):
                sounds[digest] = facts
                advance(1)
    return sounds


def _alike(digests: Sequence[str], sounds: Mapping[str, dict[str, Any]], store: FeatureStore) -> list[Likeness]:
    """Return the pairs of recordings that share sound, comparing them where these were not compared before."""

    def compare() -> dict[str, Any]:
        pairs = likenesses([_kept_fingerprint(sounds[digest]) for digest in digests])
        return {"pairs": [[pair.first, pair.second, pair.share] for pair in pairs]}

    together = hashlib.sha256("\n".join(digests).encode()).hexdigest()
    return [Likeness(*pair) for pair in store.facts(together, compare, f"likeness-{_code()}")["pairs"]]


@cache
def _code() -> str:
    """Name the code that measures and compares, so that what another version kept is measured anew."""
    return meaning(measure, likenesses)[:12]


def _kept_fingerprint(sound: Mapping[str, Any]) -> Fingerprint:
    words, signs = (base64.b64decode(sound[name]) for name in ("words", "signs"))
    return Fingerprint(np.frombuffer(words, "<u4").astype(np.uint32), np.frombuffer(signs, np.uint8))


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


def summary(audit: Audit) -> str:
    """Say in one line what was found."""
    if not (findings := audit.findings()):
        return "Audit: nothing was found that could fool the numbers."
    more = f" and {counted(len(findings) - 1, 'more finding')}" if len(findings) > 1 else ""
    return f"Audit: {findings[0]}{more}; all stand in the run's audit.md, and bserkit audit DATA shows them."


def markdown(audit: Audit) -> str:
    """Write an audit as a Markdown document: the findings, what was measured, and which recordings share sound."""
    findings = [f"- {finding}" for finding in audit.findings()] or ["Nothing was found that could fool the numbers."]
    blocks = ["# What could fool the numbers", "\n".join(findings)]
    for by in ("speaker", "label"):
        if rows := summary_rows(audit, by):
            blocks += [f"By {by}: median ± deviation", markdown_table([list(rows[0]), *map(_values, rows)])]
    if shared := duplicate_rows(audit):
        told = f", the first {_TOLD} of them" if len(shared) > _TOLD else ""
        table = markdown_table([list(shared[0]), *map(_values, shared[:_TOLD])], names=5)
        blocks += [f"{len(shared)} pairs share sound{told}", table]
    return "\n\n".join(blocks) + "\n"


def _values(row: Mapping[str, str]) -> list[str]:
    return list(row.values())


def _spread(values: Sequence[float], digits: int = 1) -> str:
    known = [value for value in values if np.isfinite(value)]
    return f"{np.median(known):+.{digits}f} ± {np.std(known):.{digits}f}" if known else ""
