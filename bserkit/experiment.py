"""An experiment: a corpus is prepared, its features are pooled, and each fold is learned and evaluated."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from bserkit.audio import AudioFacts, BadAudioError, content_digest, inspect_audio, unchanged
from bserkit.classifier import ClassifierError
from bserkit.contracts import asked, class_scores_of, pooled
from bserkit.corpus import Corpus, Skipped
from bserkit.decoding import open_sound
from bserkit.errors import BserkitError, UsageError
from bserkit.extraction import from_features
from bserkit.fusion import FUSION as FUSION
from bserkit.fusion import OracleFusion, Trial, Views
from bserkit.metrics import Measures, measure
from bserkit.parallel import in_threads
from bserkit.progress import Silent
from bserkit.protocol import Fold
from bserkit.statistics import Interval, speaker_confusions, speaker_intervals
from bserkit.text import counted

if TYPE_CHECKING:
    from bserkit.audio import Microphones, MonoPolicy
    from bserkit.channels import ChannelTransform
    from bserkit.classifier import Classifier
    from bserkit.corpus import Utterance
    from bserkit.extraction import Extraction
    from bserkit.fusion import Fuser
    from bserkit.pooling import Pooler
    from bserkit.progress import Reporter
    from bserkit.store import FeatureStore

#: How many files a refusal names before it only counts.
_NAMED = 30
_SILENT = Silent()
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


@dataclass(frozen=True)
class FoldOutcome:
    """What was learned in one fold: see ``FittedFuser``."""

    fold: Fold
    weights: Mapping[str, float]
    trials: Sequence[Trial]
    notes: Sequence[str]
    choices: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


@dataclass(frozen=True)
class Evaluation:
    """The scores of every evaluated item, each made by a model that never saw its speaker.

    Attributes:
        items: indices of the evaluated utterances; all arrays below follow them.
        labels: ``(item,)`` what is true.
        speakers: ``(item,)`` who speaks.
        fold_of: ``(item,)`` which fold evaluated it.
        scores: ``(item, class)`` by part: each channel, each transform and, last, the fusion.
        outcomes: one a fold.
        oracle: fusion tuned on the evaluated items themselves, if asked for; never the result.
    """

    classes: tuple[str, ...]
    items: np.ndarray
    labels: np.ndarray
    speakers: np.ndarray
    fold_of: np.ndarray
    scores: Mapping[str, np.ndarray]
    outcomes: Sequence[FoldOutcome]
    oracle: OracleFusion | None

    def decisions(self, part: str = FUSION) -> np.ndarray:
        """Return the ``(item,)`` decided classes of a part."""
        return np.asarray(self.classes)[self.scores[part].argmax(axis=1)]

    def measures(self, part: str = FUSION, fold: int | None = None) -> Measures:
        """Measure a part over all evaluated items, or those of one fold."""
        chosen = np.ones(len(self.items), dtype=bool) if fold is None else self.fold_of == fold
        return measure(self.labels[chosen], self.decisions(part)[chosen], self.classes)

    def intervals(self, part: str = FUSION) -> dict[str, Interval]:
        """Return accuracy, UAR and macro F1 of a part with their 95% intervals over speakers."""
        _, confusions = speaker_confusions(self.speakers, self.labels, self.decisions(part), self.classes)
        return speaker_intervals(confusions)

    def oracle_measures(self, part: str = FUSION) -> Measures | None:
        """Measure the oracle fusion, or a transform as it is fused in it, if there is one."""
        if self.oracle is None:
            return None
        scores = self.oracle.scores if part == FUSION else self.oracle.parts[part]
        return measure(self.labels, np.asarray(self.classes)[scores.argmax(axis=1)], self.classes)

    def notes(self) -> list[str]:
        """Return each note once, with the folds that it is about."""
        folds_of: dict[str, list[str]] = {}
        for outcome in self.outcomes:
            for note in outcome.notes:
                folds_of.setdefault(note, []).append(outcome.fold.name)
        every = len(self.outcomes)
        return [
            f"{note} ({'all folds' if len(names) == every else ', '.join(names)})" for note, names in folds_of.items()
        ]


def look_at(corpus: Corpus, store: FeatureStore, reporter: Reporter) -> list[tuple[str, AudioFacts]]:
    """Read every recording once and return its audio by content, and what was found out about it, problems included."""

    def look(utterance: Utterance) -> tuple[str, AudioFacts]:
        try:
            digest = content_digest(utterance)
        except BadAudioError as error:
            return "", AudioFacts(0, 0, 0.0, False, 0.0, str(error))
        facts = store.facts(digest, lambda: inspect(utterance, digest), usable=AudioFacts.usable)
        return digest, AudioFacts.from_dict(facts)

    def inspect(utterance: Utterance, digest: str) -> dict[str, Any]:
        with unchanged(utterance, digest):
            return inspect_audio(utterance).as_dict()

    store.tell_old_formats(reporter.say)
    looked = in_threads("Checking audio", look, corpus.utterances, "files", reporter)
    store.tell_damage(reporter.say)
    return looked


def choose_microphones(corpus: Corpus, microphones: Microphones, reporter: Reporter) -> Corpus:
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

    counts = in_threads("Counting channels", count, corpus.utterances, "files", reporter)
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
    transforms: Sequence[ChannelTransform],
    mono: MonoPolicy,
    microphones: Microphones,
    store: FeatureStore,
    reporter: Reporter,
) -> Checked:
    """Read every recording once, leave out those that cannot be used, and apply the policies for those not of two ears.

    A recording with more than two channels is read from the chosen microphones. Of a recording one of whose channels is
    silent, ``duplicate`` takes the other one for both.

    Raises:
        UsageError: recordings are not stereo, or have more than two channels, and the policy refuses them; they are
            named.
        BserkitError: nothing usable is left.
    """
    _check_labels(corpus)
    corpus = choose_microphones(corpus, microphones, reporter)
    utterances = list(corpus.utterances)
    looked = look_at(corpus, store, reporter)
    facts = [one for _, one in looked]
    items = corpus.items
    many = [f"{item}: {one.channels} channels" for item, one in zip(items, facts, strict=True) if one.channels > 2]
    if many and microphones == "refuse":
        raise UsageError(_refusal_of_many(many, len(items)))
    skipped = [Skipped(item, one.problem) for item, one in zip(items, facts, strict=True) if one.problem]
    kept = [index for index, one in enumerate(facts) if not one.problem]
    notes: list[str] = []
    flat = [index for index in kept if not facts[index].stereo]
    if flat and any(transform.needs_stereo for transform in transforms):
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


def pool_features(
    checked: Checked, extraction: Extraction, pooler: Pooler, store: FeatureStore, reporter: Reporter
) -> Views:
    """Read the store's segment features and pool them to one vector an utterance and channel.

    Raises:
        BserkitError: features vanished from the store meanwhile, or the pooler's output has no fixed length.
    """
    utterances, items = checked.corpus.utterances, checked.corpus.items

    def pool(index: int, channel: str, segments: np.ndarray, _: np.ndarray) -> np.ndarray:
        return pooled(pooler, segments.astype(np.float32, copy=False), f"channel {channel} of {items[index]}")

    vectors = from_features(utterances, checked.digests, extraction, store, pool, reporter, "Pooling")
    features = {}
    for channel, of_channel in zip(extraction.transform_of(), zip(*vectors, strict=True), strict=True):
        first, other = (
            of_channel[0],
            next((row for row, one in enumerate(of_channel) if len(one) != len(of_channel[0])), 0),
        )
        if other:
            raise BserkitError(
                f"pooler {pooler.name} made {len(first)} numbers of channel {channel} of {items[0]} and "
                f"{len(of_channel[other])} of {items[other]}; expected one length whatever the number of segments."
            )
        features[channel] = np.stack(of_channel)
    return Views(
        features=features,
        transforms=extraction.transform_of(),
        classes=checked.corpus.labels,
        labels=np.array([utterance.label for utterance in utterances]),
        speakers=np.array([utterance.speaker for utterance in utterances]),
        sessions=np.array([utterance.session for utterance in utterances]),
    )


def pool_by_channel(
    checked: Checked,
    extractions: Sequence[Extraction],
    pooler: Pooler,
    store: FeatureStore,
    reporter: Reporter = _SILENT,
) -> Views:
    """Pool features as ``pool_features`` does where each channel has a network of its own."""
    single = [pool_features(checked, extraction, pooler, store, reporter) for extraction in extractions]
    return replace(
        single[0],
        features={channel: values for views in single for channel, values in views.features.items()},
        transforms={channel: transform for views in single for channel, transform in views.transforms.items()},
    )


def evaluate(
    views: Views | Callable[[int], Views],
    folds: Sequence[Fold],
    fuser: Fuser,
    classifier: Classifier,
    reporter: Reporter,
) -> Evaluation:
    """Fit on each fold's training items alone, and score its test items, whose labels the fuser is never given.

    Args:
        views: of all items; where networks are fine-tuned in each fold, what gives them by the fold's number.
    """
    if isinstance(views, Views):
        of_all = views
        return evaluate(lambda _: of_all, folds, fuser, classifier, reporter)
    parts: dict[str, list[np.ndarray]] = {}
    outcomes = []
    with reporter.stage("Learning and evaluating", len(folds), "folds") as advance:
        for index, fold in enumerate(folds):
            seen = views(index)
            with _told(fold, fuser, classifier):
                training = seen.take(fold.train)
                fitted = fuser.fit(training, classifier.make)
                test = seen.take(fold.test).without_labels()
                # Last, so that no part can stand for the decision.
                scored = {**fitted.parts(test), FUSION: fitted.scores(test)}
            shape = len(fold.test), len(seen.classes)
            for part, scores in scored.items():
                where = f"{part} in fold {fold.name}"
                parts.setdefault(part, []).append(class_scores_of(fuser, scores, shape, where))
            notes = [*fitted.notes, *_flat_channels(training)]
            outcomes.append(FoldOutcome(fold, fitted.weights, fitted.trials, notes, fitted.choices))
            advance(1)
    order = np.argsort(np.concatenate([fold.test for fold in folds]), kind="stable")
    items = np.concatenate([fold.test for fold in folds])[order]
    fold_of = np.repeat(np.arange(len(folds)), [len(fold.test) for fold in folds])[order]
    every = {part: np.concatenate(pieces)[order] for part, pieces in parts.items()}
    # Only features differ from fold to fold.
    labels = seen.labels[items]
    by_channel = {channel: every[channel].copy() for channel in seen.features if channel in every}
    with asked(fuser, "the oracle's decision"):
        oracle = fuser.oracle(by_channel, dict(seen.transforms), labels.copy(), seen.classes)
    return Evaluation(seen.classes, items, labels, seen.speakers[items], fold_of, every, outcomes, oracle)


def _flat_channels(training: Views) -> list[str]:
    flat = [channel for channel, values in training.features.items() if (values == values[:1]).all()]
    told = f"nothing can be learned from {', '.join(flat)}: the features of all training items are equal"
    return [told] if flat else []


@contextmanager
def _told(fold: Fold, fuser: Fuser, classifier: Classifier) -> Iterator[None]:
    """Say of a failure which component it is of, and in which fold."""
    try:
        yield
    except ClassifierError as error:
        raise BserkitError(f"classifier {classifier.name}, fold {fold.name}: {error}") from error
    except BserkitError as error:
        raise BserkitError(f"fusion {fuser.name}, fold {fold.name}: {error}") from error
    except Exception as error:
        said = f"fusion {fuser.name}, fold {fold.name}: {type(error).__name__}: {error}"
        raise BserkitError(f"{said}\nThe same command with -v before it shows where: bserkit -v ...") from error


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
    """Return so many items as a refusal names, and how many more there are."""
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
