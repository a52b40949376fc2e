"""The audit: what in a corpus could fool the numbers, found before anything is learned."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from bserkit.corpora.audio import unchanged
from bserkit.corpora.audit.findings import CLIPPED_SHARE, Finding, findings
from bserkit.corpora.audit.measuring import measure
from bserkit.corpora.audit.near_duplicates import Fingerprint, NearDuplicate, near_duplicates
from bserkit.corpora.checking import choose_microphones, look_at
from bserkit.corpora.demo import demo_corpus
from bserkit.corpora.reading import read_corpus
from bserkit.corpora.speakers import one_spelling
from bserkit.identity.meaning import meaning
from bserkit.text import counted, markdown_table

if TYPE_CHECKING:
    from pathlib import Path

    from bserkit.corpora.audio import AudioFacts, Microphones
    from bserkit.corpora.reading import Corpus, CorpusReader, Utterance
    from bserkit.store import FeatureStore
    from bserkit.workspace import Workspace


@dataclass(frozen=True)
class Measured:
    """What one usable recording was measured to be.

    Attributes:
        level_db: root mean square of both channels, dB of full scale.
        side_to_mid_db: energy of L - R over that of L + R, dB; minus infinity where left equals right.
        right_to_left_db: energy of the right channel over that of the left, dB.
        delay_ms: how much later the right channel is than the left; not a number where they are equal or one is silent.
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
        unusable: (utterance, reason) of each recording that a run leaves out.
        exact: groups of recordings whose samples are the same.
        near: pairs that share a stretch of sound, the exact ones left out.
        needs_stereo: whether channels are learned from that are made of what differs between left and right.
    """

    corpus: Corpus
    measured: tuple[Measured, ...]
    unusable: tuple[tuple[str, str], ...]
    exact: tuple[tuple[Measured, ...], ...]
    near: tuple[NearDuplicate, ...]
    needs_stereo: bool = True

    @cached_property
    def findings(self) -> tuple[Finding, ...]:
        """What could fool the numbers, in words, the most serious first."""
        return tuple(findings(self))

    @cached_property
    def spelling(self) -> dict[str, str]:
        """Each speaker's name, by every way in which it is spelt."""
        return _spelling(self.corpus)

    def _repr_markdown_(self) -> str:
        return markdown(self)

    def metrics(self) -> dict[str, float]:
        """Return the counts that a run logs, by their names in MLflow."""
        sharing = [*self.sharing(exact=True), *self.sharing(exact=False)]
        between = sum(len(speakers) > 1 for speakers in sharing)
        return {
            "audit/findings": len(self.findings),
            "audit/without_stereo": sum(not one.facts.stereo for one in self.measured),
            "audit/clipped": sum(one.facts.clipped > CLIPPED_SHARE for one in self.measured),
            "audit/left_out": len(self.unusable),
            "audit/shared_between_speakers": between,
            "audit/shared_by_one_speaker": len(sharing) - between,
        }

    def sharing(self, exact: bool) -> list[tuple[str, ...]]:
        """Return the speakers of each group of recordings that are the same, or of each pair that shares sound."""
        groups = (
            [{one.speaker for one in group} for group in self.exact]
            if exact
            else [{self.measured[pair.first].speaker, self.measured[pair.second].speaker} for pair in self.near]
        )
        return [tuple(sorted(speakers)) for speakers in groups]


def audit(
    corpus: Corpus, looked: Sequence[tuple[str, AudioFacts]], workspace: Workspace, needs_stereo: bool = True
) -> Audit:
    """Measure every recording and compare them all; what was measured once is kept in the store.

    Args:
        looked: each utterance's audio by content and its facts, as ``look_at`` gives them.
        needs_stereo: as ``Audit`` has it.
    """
    usable = [index for index, (_, facts) in enumerate(looked) if not facts.problem]
    by_content = {looked[index][0]: corpus.utterances[index] for index in usable}
    sounds = _sounds(by_content, workspace)
    items = corpus.items
    unusable = [(one.item, one.reason) for one in corpus.skipped]
    unusable += [(items[index], facts.problem) for index, (_, facts) in enumerate(looked) if facts.problem]
    spelling = _spelling(corpus)
    measured = []
    for index in usable:
        digest, facts = looked[index]
        utterance, numbers = corpus.utterances[index], dict(sounds[digest])
        del numbers["words"], numbers["signs"]
        measured.append(Measured(items[index], utterance.label, spelling[utterance.speaker], facts, **numbers))
    groups: dict[str, list[int]] = {}
    for index, one in enumerate(measured):
        groups.setdefault(one.digest, []).append(index)
    same = {index: group[0] for group in groups.values() for index in group}
    alike = _alike([looked[index][0] for index in usable], sounds, workspace.store)
    near = [pair for pair in alike if same[pair.first] != same[pair.second]]
    exact = tuple(tuple(measured[index] for index in group) for group in groups.values() if len(group) > 1)
    return Audit(corpus, tuple(measured), tuple(unusable), exact, tuple(near), needs_stereo)


def audit_data(data: Path | None, reader: CorpusReader, microphones: Microphones, workspace: Workspace) -> Audit:
    """Read a corpus, without data the demonstration's, and audit it, whatever its recordings are."""
    corpus = choose_microphones(read_corpus(data or demo_corpus(workspace.store.root), reader), microphones, workspace)
    return audit(corpus, look_at(corpus, workspace), workspace)


def _spelling(corpus: Corpus) -> dict[str, str]:
    return dict(zip(corpus.speakers, one_spelling(corpus.speakers).tolist(), strict=True))


def _sounds(by_content: Mapping[str, Utterance], workspace: Workspace) -> dict[str, dict[str, Any]]:
    """Return what each recording was measured to be, and the words of its fingerprint, measuring what is not kept."""
    kind = f"sound-{_code()}"
    store = workspace.store
    kept = {digest: store.known_facts(digest, kind) for digest in by_content}
    sounds = {digest: facts for digest, facts in kept.items() if facts is not None}
    if missing := [digest for digest in by_content if digest not in sounds]:

        def kept_measure(digest: str) -> dict[str, Any]:
            return store.facts(digest, lambda: measured(digest), kind)

        def measured(digest: str) -> dict[str, Any]:
            with unchanged(by_content[digest], digest):
                return measure(by_content[digest])

        sounds |= zip(missing, workspace.each("Measuring audio", kept_measure, missing, "files"), strict=True)
    return sounds


def _alike(digests: Sequence[str], sounds: Mapping[str, dict[str, Any]], store: FeatureStore) -> list[NearDuplicate]:
    """Return the pairs of recordings that share sound, comparing them where these were not compared before."""

    def compare() -> dict[str, Any]:
        pairs = near_duplicates([_kept_fingerprint(sounds[digest]) for digest in digests])
        return {"pairs": [[pair.first, pair.second, pair.share] for pair in pairs]}

    together = hashlib.sha256("\n".join(digests).encode()).hexdigest()
    return [NearDuplicate(*pair) for pair in store.facts(together, compare, f"near-duplicates-{_code()}")["pairs"]]


@cache
def _code() -> str:
    """Name the code that measures and compares, so that what another version kept is measured anew."""
    return meaning(measure, near_duplicates)[:12]


def _kept_fingerprint(sound: Mapping[str, Any]) -> Fingerprint:
    words, signs = (base64.b64decode(sound[name]) for name in ("words", "signs"))
    return Fingerprint(np.frombuffer(words, "<u4").astype(np.uint32), np.frombuffer(signs, np.uint8))


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


def count_rows(audit: Audit) -> list[dict[str, str]]:
    """Return one row a speaker: how many recordings there are of each label, and in all."""
    count, labels = audit.corpus.count(), audit.corpus.labels
    return [
        {"speaker": speaker or "unknown"}
        | {label: str(count[speaker, label]) for label in labels}
        | {"all": str(sum(count[speaker, label] for label in labels))}
        for speaker in audit.corpus.speakers
    ]


def remark_rows(audit: Audit) -> list[dict[str, str]]:
    """Return one row for each recording of which something is to be said: not stereo, clipped, unusable."""
    rows = []
    all_mono = all(one.facts.channels == 1 for one in audit.measured)
    for one in audit.measured:
        remarks = []
        if one.facts.channels == 1:
            remarks += [] if all_mono else ["mono"]
        elif one.facts.equal:
            remarks.append("left equals right")
        elif one.facts.silent:
            remarks.append(f"the {one.facts.silent} channel is silent")
        if one.facts.clipped > CLIPPED_SHARE:
            remarks.append(f"{one.facts.clipped:.1%} of the samples at full scale")
        if remarks:
            rows.append({"recording": one.item, "speaker": one.speaker, "label": one.label, "what": "; ".join(remarks)})
    return rows + [{"recording": item, "speaker": "", "label": "", "what": why} for item, why in audit.unusable]


def summary(audit: Audit) -> str:
    """Say in one line what was found: the most serious finding, and how many more there are."""
    if not audit.findings:
        return "Audit: nothing was found that could fool the numbers."
    others = len(audit.findings) - 1
    more = f"{counted(others, 'more finding')} in the run's audit.md" if others else "More in the run's audit.md"
    return f"Audit: {audit.findings[0].text}. {more}; bserkit audit DATA shows all."


def markdown(audit: Audit) -> str:
    """Write an audit as a Markdown document: the findings, and every table in full."""
    said = [f"- {one.text}" for one in audit.findings] or ["Nothing was found that could fool the numbers."]
    blocks = ["# What could fool the numbers", "\n".join(said)]
    shared, remarks = duplicate_rows(audit), remark_rows(audit)
    for title, rows, names in (
        ("By speaker: median ± deviation", summary_rows(audit, "speaker"), 1),
        ("By label: median ± deviation", summary_rows(audit, "label"), 1),
        ("Recordings of each speaker and label", count_rows(audit), 1),
        (f"{counted(len(shared), 'pair')} with common sound", shared, 5),
        (f"{counted(len(remarks), 'recording')} to look at", remarks, 4),
    ):
        if rows:
            blocks += [title, markdown_table([list(rows[0]), *(list(row.values()) for row in rows)], names=names)]
    return "\n\n".join(blocks) + "\n"


def _spread(values: Sequence[float], digits: int = 1) -> str:
    known = [value for value in values if np.isfinite(value)]
    return f"{np.median(known):+.{digits}f} ± {np.std(known):.{digits}f}" if known else ""
