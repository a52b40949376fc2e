"""Checking: every recording of a corpus is read once, and what cannot be used is told or left out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, cast

from bserkit.corpora.audio import AudioFacts, BadAudioError, content_digest, inspect_audio, unchanged
from bserkit.corpora.decoding import open_sound
from bserkit.corpora.reading import Corpus, Skipped
from bserkit.errors import BserkitError, UsageError
from bserkit.text import counted

if TYPE_CHECKING:
    from bserkit.corpora.audio import Microphones, MonoPolicy
    from bserkit.corpora.reading import Utterance
    from bserkit.workspace import Workspace

#: How many files a refusal names before it only counts.
_NAMED = 30
#: Why recordings are not stereo, one by one and in a count.
_FLAT = {
    "it is mono": "mono",
    "left and right are the same": "with left equal to right",
    "its left channel is silent": "with a silent left channel",
    "its right channel is silent": "with a silent right channel",
}


@dataclass(frozen=True)
class Checked:
    """A corpus whose every recording was read and found usable.

    Attributes:
        digests: each utterance's audio by content.
        facts: what was found out about each utterance's audio.
        notes: what a reader of the results must know.
    """

    corpus: Corpus
    digests: tuple[str, ...]
    facts: tuple[AudioFacts, ...]
    notes: tuple[str, ...]


def look_at(corpus: Corpus, workspace: Workspace) -> list[tuple[str, AudioFacts]]:
    """Read every recording once and return its audio by content, and what was found out about it, problems included."""

    def look(utterance: Utterance) -> tuple[str, AudioFacts]:
        try:
            digest = content_digest(utterance)
        except BadAudioError as error:
            return "", AudioFacts(0, 0, 0.0, False, 0.0, str(error))
        facts = workspace.store.facts(digest, lambda: inspect(utterance, digest), usable=AudioFacts.usable)
        return digest, AudioFacts.from_dict(facts)

    def inspect(utterance: Utterance, digest: str) -> dict[str, Any]:
        with unchanged(utterance, digest):
            return inspect_audio(utterance).as_dict()

    workspace.store.tell_old_formats(workspace.reporter.say)
    looked = workspace.each("Checking audio", look, corpus.utterances, "files")
    workspace.store.tell_damage(workspace.reporter.say)
    return looked


def read_microphones(value: object) -> Microphones:
    """Read which channels are left and right: ``1,3``, or what to do with recordings of more than two channels.

    Raises:
        UsageError: it is neither two different numbers from 1 on, nor refuse or skip.
    """
    if value in ("refuse", "skip"):
        return cast("Microphones", value)
    numbers = value.split(",") if isinstance(value, str) else value if isinstance(value, list) else []
    found = [int(str(number)) for number in numbers if str(number).strip().isdecimal()]
    if len(numbers) != 2 or len(found) != 2 or min(found) < 1 or found[0] == found[1]:
        raise UsageError(
            f"--microphones {value} is not known; expected the numbers of two channels, counted from 1, such as 1,3 "
            "for left and right, or refuse or skip."
        )
    return found[0], found[1]


def choose_microphones(corpus: Corpus, microphones: Microphones, workspace: Workspace) -> Corpus:
    """Choose the two channels of every recording that has more than two; one with two is left and right as ever.

    Raises:
        UsageError: recordings have fewer channels than are chosen from; they are named.
    """
    if isinstance(microphones, str):
        return corpus

    def count(utterance: Utterance) -> int:
        try:
            with open_sound(utterance.path) as sound:
                return sound.channels
        except BadAudioError:
            return 0

    counts = workspace.each("Counting channels", count, corpus.utterances, "files")
    if few := [
        f"{item}: {n} channels" for item, n in zip(corpus.items, counts, strict=True) if 2 < n < max(microphones)
    ]:
        left, right = microphones
        raise UsageError(
            f"{len(few)} of {len(counts)} recordings have fewer channels than --microphones {left},{right} names:\n  "
            + "\n  ".join(_some(few))
        )
    chosen = [
        replace(utterance, microphones=microphones) if n > 2 else utterance
        for utterance, n in zip(corpus.utterances, counts, strict=True)
    ]
    return replace(corpus, utterances=tuple(chosen))


def check_corpus(
    corpus: Corpus,
    needs_stereo: bool,
    mono: MonoPolicy,
    microphones: Microphones,
    workspace: Workspace,
) -> Checked:
    """Read every recording once, leave out those that cannot be used, and apply the policies for those not of two ears.

    Args:
        needs_stereo: whether recordings must be of two ears that differ; else those that are not are used as they are.

    A recording with more than two channels is read from the chosen microphones. Of a recording one of whose channels is
    silent, ``duplicate`` takes the other one for both.

    Raises:
        UsageError: recordings are not stereo, or have more than two channels, and the policy refuses them; they are
            named.
        BserkitError: nothing usable is left.
    """
    _check_labels(corpus)
    corpus = choose_microphones(corpus, microphones, workspace)
    utterances = list(corpus.utterances)
    looked = look_at(corpus, workspace)
    facts = [one for _, one in looked]
    items = corpus.items
    many = [f"{item}: {one.channels} channels" for item, one in zip(items, facts, strict=True) if one.channels > 2]
    if many and microphones == "refuse":
        raise UsageError(_refusal_of_many(many, len(items)))
    skipped = [Skipped(item, one.problem) for item, one in zip(items, facts, strict=True) if one.problem]
    kept = [index for index, one in enumerate(facts) if not one.problem]
    notes: list[str] = []
    flat = [index for index in kept if not facts[index].stereo]
    if flat and needs_stereo:
        if mono == "refuse":
            raise UsageError(_refusal([items[index] for index in flat], [facts[index] for index in flat], len(kept)))
        if mono == "skip":
            skipped += [Skipped(items[index], f"{_flatness(facts[index])} (--mono skip)") for index in flat]
            kept = sorted(set(kept) - set(flat))
        notes.append(_flat_note(mono, [utterances[index] for index in flat]))
    digests = [digest for digest, _ in looked]
    if mono == "duplicate":
        for index in kept:
            if silent := facts[index].silent:
                left, right = utterances[index].microphones or (1, 2)
                live = right if silent == "left" else left
                utterances[index] = replace(utterances[index], microphones=(live, live))
                digests[index] = content_digest(utterances[index])
    if not kept:
        reasons = "; ".join(f"{one.item}: {one.reason}" for one in skipped[:3])
        raise BserkitError(f"None of the {len(utterances)} recordings in {corpus.root} can be used. {reasons}.")
    checked = replace(
        corpus,
        utterances=tuple(utterances[index] for index in kept),
        skipped=(*corpus.skipped, *skipped),
    )
    _check_labels(checked)
    kept_digests = tuple(digests[index] for index in kept)
    notes += _twins(checked, kept_digests)
    return Checked(checked, kept_digests, tuple(facts[index] for index in kept), tuple(notes))


def _check_labels(corpus: Corpus) -> None:
    if len(corpus.labels) < 2:
        raise UsageError(f"All recordings in {corpus.root} are labelled {corpus.labels[0]!r}; two classes are needed.")


def _refusal(items: Sequence[str], facts: Sequence[AudioFacts], total: int) -> str:
    kinds = Counter(_flatness(one) for one in facts)
    counts = ", ".join(f"{kinds[kind]} {words}" for kind, words in _FLAT.items() if kinds[kind])
    return (
        f"{len(items)} of {total} recordings are not stereo ({counts}), but the chosen channels are made of what "
        "differs between left and right:\n  " + "\n  ".join(_some(items)) + "\n"
        "Say what to do with them:\n"
        "  --mono duplicate   keep them; their Side channel is silent\n"
        + ("  --mono skip        leave them out\n" if len(items) < total else "")
        + "  --channels mono    learn from the mean of both channels instead"
    )


def _refusal_of_many(many: Sequence[str], total: int) -> str:
    return (
        f"{len(many)} of {total} recordings have more than two channels:\n  " + "\n  ".join(_some(many)) + "\n"
        "Say what to do with them:\n"
        "  --microphones 1,2    channel 1 is left, channel 2 is right; any two numbers up to the count\n"
        "  --microphones skip   leave them out"
    )


def _some(items: Sequence[str]) -> list[str]:
    """Return so many utterances as a refusal names, and how many more there are."""
    return [*items[:_NAMED], *[f"and {len(items) - _NAMED} more"] * (len(items) > _NAMED)]


def _flatness(facts: AudioFacts) -> str:
    """Say why a recording is not stereo, as ``_FLAT`` and a list of what was left out do."""
    if facts.channels == 1:
        return "it is mono"
    return f"its {facts.silent} channel is silent" if facts.silent else "left and right are the same"


def _flat_note(mono: MonoPolicy, flat: Sequence[Utterance]) -> str:
    groups = sorted(Counter(f"{one.speaker or 'unknown'} {one.label}" for one in flat).items())
    where = ", ".join(f"{name} {count}" for name, count in groups[:12])
    if len(groups) > 12:
        where += f" and {len(groups) - 12} more, which audit.md lists"
    what = f"{counted(len(flat), 'recording')} without stereo {'was' if len(flat) == 1 else 'were'}"
    if mono == "skip":
        return f"{what} left out: {where}"
    return f"{what} kept with a silent Side, which can give label or speaker away: {where}"


def _twins(corpus: Corpus, digests: Sequence[str]) -> list[str]:
    """Note recordings whose bytes are the same but whose speakers are not: a split by speaker does not part them."""
    speakers_of: dict[str, set[str]] = {}
    for utterance, digest in zip(corpus.utterances, digests, strict=True):
        speakers_of.setdefault(digest, set()).add(utterance.speaker)
    shared = [sorted(speakers) for speakers in speakers_of.values() if len(speakers) > 1]
    if not shared:
        return []
    pairs = ", ".join(sorted({" and ".join(speakers) for speakers in shared}))
    return [f"{len(shared)} recordings stand under several speakers ({pairs}); a split by speaker does not part them"]
