"""A comparison: runs that predicted the same utterances of the same speakers, side by side and tested in pairs."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np

from bserkit.corpora.protocols import warnings_of
from bserkit.errors import UsageError, nearest
from bserkit.evaluation.metrics import overall_of
from bserkit.evaluation.statistics import (
    Chance,
    Interval,
    McNemar,
    chance,
    difference_intervals,
    holm,
    interval_warning,
    mcnemar,
    nobody,
    power_warning,
    sign_flip_p,
    speaker_intervals,
)
from bserkit.rows import column
from bserkit.schema import FINGERPRINT

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from bserkit.evaluation.results import Predictions, Results
    from bserkit.tracking.finished import KeptRun

#: Up to so many runs every pair is tested; of more, each is tested against the first.
EVERY_PAIR = 4
#: The measures of which differences are tested.
TESTED = ("accuracy", "uar")
#: How many differing utterances a refusal names.
_NAMED = 3


@dataclass(frozen=True)
class RunPart:
    """One run of a comparison: the part that is compared, and who was in training in each fold."""

    run: KeptRun
    predictions: Predictions
    training: Mapping[str, tuple[str, ...]]

    @classmethod
    def of(cls, run: KeptRun, results: Results, part: str) -> RunPart:
        """Take a part of a run's results.

        Raises:
            UsageError: the run has no such part.
        """
        if part not in results.predictions:
            known = list(results.predictions)
            raise UsageError(
                f"Run {_named(run)} has no part {part!r}{nearest(part, known)}. It has: {', '.join(known)}."
            )
        training = {one.fold: one.speakers_in_training for one in results.folds}
        return cls(run, results.predictions[part], training)


@dataclass(frozen=True)
class Pair:
    """One run against an earlier one, by their positions; differences are the run's number minus the other's.

    Attributes:
        difference: of accuracy, UAR and macro F1 over all utterances.
        utterances: those that only one got right: ``b`` the run, ``c`` the other.
        permutation: p of the mean over speakers of each speaker's difference in accuracy, and in UAR; not a number
            where nobody knows who speaks.
        mcnemar_holm: McNemar's p, corrected for the number of pairs.
        permutation_holm: the permutation p, corrected for the number of pairs.
    """

    run: int
    other: int
    difference: Mapping[str, Interval]
    utterances: McNemar
    permutation: Mapping[str, float]
    mcnemar_holm: float
    permutation_holm: Mapping[str, float]


@dataclass(frozen=True)
class Comparison:
    """Runs beside one another.

    Attributes:
        differing: for each run, its values of the parameters in which the runs differ.
        intervals: for each run, accuracy, UAR and macro F1 over all utterances.
        speakers: by name.
        speaker_uar: ``(run, speaker)``, over the classes that a speaker has.
        notes: what a reader must know, in words.
    """

    runs: Sequence[KeptRun]
    part: str
    utterances: int
    differing: Sequence[Mapping[str, str]]
    intervals: Sequence[Mapping[str, Interval]]
    pairs: Sequence[Pair]
    speakers: Sequence[str]
    speaker_uar: np.ndarray
    chance: Chance
    notes: Sequence[str]


def check_comparable(first: RunPart, other: RunPart) -> None:
    """See that two runs predicted the same utterances, with the same labels, in the same folds.

    Raises:
        UsageError: they did not; the message counts what differs and names the first few.
    """
    found = _difference(first, other)
    if found:
        raise UsageError(
            f"Runs {_named(first.run)} and {_named(other.run)} cannot be compared: {found}. Compare runs on the same "
            "utterances with the same speakers in training: the same data, --mono and --protocol."
        )


def compare(
    runs: Sequence[RunPart],
    part: str,
    resamples: int,
    seed: int,
    notes: Sequence[str] = (),
    against_first: bool = False,
) -> Comparison:
    """Compare two runs or more; ``notes`` say what a reader must know of how they were chosen.

    Up to four runs are tested in every pair, more, or if so asked, against the first only. Each kind of test is
    corrected for the number of pairs by Holm's method.

    Raises:
        UsageError: a run cannot be compared with the first.
    """
    for other in runs[1:]:
        check_comparable(runs[0], other)
    every, first = [one.predictions for one in runs], runs[0].predictions
    names = first.by_speaker()[0]
    confusions = [one.by_speaker()[1] for one in every]
    by_speaker = [overall_of(counts) for counts in confusions]
    every_pair = len(runs) <= EVERY_PAIR and not against_first
    tested = list(combinations(range(len(runs)), 2)) if every_pair else [(0, run) for run in range(1, len(runs))]
    utterances = [
        mcnemar(every[run].predicted == first.labels, every[other].predicted == first.labels) for other, run in tested
    ]
    unknown = nobody(names)
    permutation = {
        measure: [
            float("nan")
            if unknown
            else sign_flip_p(by_speaker[run][measure] - by_speaker[other][measure], resamples, seed)
            for other, run in tested
        ]
        for measure in TESTED
    }
    mcnemar_holm = holm([one.p for one in utterances])
    permutation_holm = {name: p_values if unknown else holm(p_values) for name, p_values in permutation.items()}
    pairs = [
        Pair(
            run=run,
            other=other,
            difference=difference_intervals(confusions[run], confusions[other], resamples, seed),
            utterances=utterances[index],
            permutation={measure: permutation[measure][index] for measure in TESTED},
            mcnemar_holm=mcnemar_holm[index],
            permutation_holm={measure: permutation_holm[measure][index] for measure in TESTED},
        )
        for index, (other, run) in enumerate(tested)
    ]
    warnings = [interval_warning(names), "" if unknown else power_warning(len(names), len(pairs))]
    warnings += dict.fromkeys(one for run in runs for one in warnings_of(run.run.tags))
    if len({one.run.tags.get(FINGERPRINT) for one in runs}) > 1:
        warnings.append("The utterances are the same by name, but their recordings differ in content.")
    return Comparison(
        runs=[one.run for one in runs],
        part=part,
        utterances=len(first.utterances),
        differing=_differing([one.run.parameters for one in runs]),
        intervals=[speaker_intervals(counts, resamples, seed) for counts in confusions],
        pairs=pairs,
        speakers=names,
        speaker_uar=np.stack([one["uar"] for one in by_speaker]),
        chance=chance(first.labels, first.classes),
        notes=[*(warning for warning in warnings if warning), *notes],
    )


def _named(run: KeptRun) -> str:
    return f"{run.run_id[:8]} ({run.name})"


def _difference(first: RunPart, other: RunPart) -> str:
    """Say in words how the utterances of two runs differ, or nothing."""
    one, another = first.predictions, other.predictions
    ours, theirs = set(one.utterances.tolist()), set(another.utterances.tolist())
    if ours != theirs:
        lone = [
            f"{len(names)} only in {run.run_id[:8]}" + (f" ({_few(sorted(names))})" if names else "")
            for run, names in ((first.run, ours - theirs), (other.run, theirs - ours))
        ]
        return f"their utterances differ: {len(ours & theirs)} are in both, {', '.join(lone)}"
    if one.classes != another.classes:
        return f"their classes differ: {', '.join(one.classes)} and {', '.join(another.classes)}"
    for what in ("labels", "speakers", "folds"):
        mine, its = getattr(one, what), getattr(another, what)
        where = np.flatnonzero(mine != its)
        if len(where):
            named = [f"{one.utterances[index]}: {mine[index]}, {its[index]}" for index in where[: _NAMED + 1]]
            return f"the {what} of {len(where)} of {len(mine)} utterances differ ({_few(named, '; ')})"
    # Older runs part speakers by blanks, so that names with blanks can only be compared together.
    unlike = [name for name, who in first.training.items() if " ".join(who) != " ".join(other.training.get(name, ()))]
    if unlike:
        return f"{len(unlike)} of {len(first.training)} folds have other speakers in training ({_few(unlike)})"
    return ""


def _few(names: Sequence[str], between: str = ", ") -> str:
    return between.join([*names[:_NAMED], *(["..."] if len(names) > _NAMED else [])])


def _differing(parameters: Sequence[Mapping[str, str]]) -> list[dict[str, str]]:
    """Return each run's values of those parameters that are not the same in all runs.

    >>> _differing([{"pooler": "a", "seed": "0"}, {"pooler": "b", "seed": "0", "b.size": "2"}])
    [{'pooler': 'a'}, {'pooler': 'b', 'b.size': '2'}]
    """
    names = dict.fromkeys(name for one in parameters for name in one)
    differing = [name for name in names if len({one.get(name) for one in parameters}) > 1]
    return [{name: one[name] for name in differing if name in one} for one in parameters]


@dataclass(frozen=True)
class ComparisonRow:
    """A number of a comparison."""

    kind: str = column("`run`, `pair` (the run minus the other) or `speaker`.")
    run: str = column("The run's id.")
    name: str = column("Its name.")
    measure: str = column("`accuracy`, `uar` or `macro_f1`.")
    value: float = column("The number.")
    low: float | None = column("Where its 95% interval begins.", default=None)
    high: float | None = column("Where it ends.", default=None)
    other: str = column("The id of a pair's other run.", default="")
    speaker: str = column("Whose number it is, where it is one speaker's.", default="")
    b: int | None = column("How many utterances only the run got right.", default=None)
    c: int | None = column("How many only the other got right.", default=None)
    mcnemar_p: float | None = column("The p of McNemar's test over utterances.", default=None)
    mcnemar_holm_p: float | None = column("The same, corrected for the number of pairs.", default=None)
    permutation_p: float | None = column("The p of the permutation test over speakers.", default=None)
    permutation_holm_p: float | None = column("The same, corrected for the number of pairs.", default=None)


def comparison_rows(comparison: Comparison) -> list[ComparisonRow]:
    """Return one row a number: of each run, of each pair and of each run and speaker."""
    runs, pairs = comparison.runs, comparison.pairs
    rows = [
        ComparisonRow("run", runs[index].run_id, runs[index].name, measure, one.value, one.low, one.high)
        for index, intervals in enumerate(comparison.intervals)
        for measure, one in intervals.items()
    ]
    rows += [_pair_row(pair, measure, runs) for pair in pairs for measure in TESTED]
    rows += [
        ComparisonRow("speaker", run.run_id, run.name, "uar", value, speaker=speaker)
        for run, own in zip(runs, comparison.speaker_uar.tolist(), strict=True)
        for speaker, value in zip(comparison.speakers, own, strict=True)
    ]
    return rows


def _pair_row(pair: Pair, measure: str, runs: Sequence[KeptRun]) -> ComparisonRow:
    difference, run = pair.difference[measure], runs[pair.run]
    return ComparisonRow(
        "pair",
        run.run_id,
        run.name,
        measure,
        *(difference.value, difference.low, difference.high),
        other=runs[pair.other].run_id,
        b=pair.utterances.b,
        c=pair.utterances.c,
        mcnemar_p=pair.utterances.p,
        mcnemar_holm_p=pair.mcnemar_holm,
        permutation_p=pair.permutation[measure],
        permutation_holm_p=pair.permutation_holm[measure],
    )
