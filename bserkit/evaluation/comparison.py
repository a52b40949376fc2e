"""A comparison: runs that decided on the same items of the same speakers, beside one another and tested in pairs."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Any

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
    speaker_confusions,
    speaker_intervals,
)
from bserkit.text import csv_rows

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from bserkit.tracking.finished import KeptRun

#: Up to so many runs every pair is tested; of more, each is tested against the first.
EVERY_PAIR = 4
#: The measures of which differences are tested.
TESTED = ("accuracy", "uar")
#: How many differing items a refusal names.
_NAMED = 3


@dataclass(frozen=True)
class Predictions:
    """What one part of a run decided on each item, in the order of the items' names.

    Attributes:
        items: ``(item,)`` names; the arrays below follow them.
        speakers: ``(item,)`` who speaks.
        folds: ``(item,)`` the fold that evaluated it.
        labels: ``(item,)`` what is true.
        decided: ``(item,)`` what was decided.
        learned_from: the speakers that each fold learned from.
    """

    run: KeptRun
    classes: tuple[str, ...]
    items: np.ndarray
    speakers: np.ndarray
    folds: np.ndarray
    labels: np.ndarray
    decided: np.ndarray
    learned_from: Mapping[str, str]


@dataclass(frozen=True)
class Pair:
    """One run against an earlier one, by their positions; differences are the run's number minus the other's.

    Attributes:
        difference: of accuracy, UAR and macro F1 over all items.
        items: those that only one got right: ``b`` the run, ``c`` the other.
        permutation: p of the mean over speakers of each speaker's difference in accuracy, and in UAR; not a number
            where nobody knows who speaks.
        mcnemar_holm: McNemar's p, corrected for the number of pairs.
        permutation_holm: the permutation p, corrected for the number of pairs.
    """

    run: int
    other: int
    difference: Mapping[str, Interval]
    items: McNemar
    permutation: Mapping[str, float]
    mcnemar_holm: float
    permutation_holm: Mapping[str, float]


@dataclass(frozen=True)
class Comparison:
    """Runs beside one another.

    Attributes:
        differing: for each run, its values of the parameters in which the runs differ.
        intervals: for each run, accuracy, UAR and macro F1 over all items.
        speakers: by name.
        speaker_uar: ``(run, speaker)``, over the classes that a speaker has.
        notes: what a reader must know, in words.
    """

    runs: Sequence[KeptRun]
    part: str
    items: int
    differing: Sequence[Mapping[str, str]]
    intervals: Sequence[Mapping[str, Interval]]
    pairs: Sequence[Pair]
    speakers: Sequence[str]
    speaker_uar: np.ndarray
    chance: Chance
    notes: Sequence[str]


def read_predictions(run: KeptRun, predictions: str, folds: str, part: str) -> Predictions:
    """Read what a run logged: the text of its predictions.csv and of its folds_summary.csv.

    Raises:
        UsageError: the run has no such part.
    """
    rows = csv_rows(predictions)
    of_part = sorted((row for row in rows if row["part"] == part), key=utterance_of)
    if not of_part:
        known = list(dict.fromkeys(row["part"] for row in rows))
        raise UsageError(f"Run {_named(run)} has no part {part!r}{nearest(part, known)}. It has: {', '.join(known)}.")
    columns = {name: np.array([row[name] for row in of_part]) for name in ("speaker", "fold", "label", "decided")}
    return Predictions(
        run=run,
        classes=tuple(name.removeprefix("score_") for name in of_part[0] if name.startswith("score_")),
        items=np.array([utterance_of(row) for row in of_part]),
        speakers=columns["speaker"],
        folds=columns["fold"],
        labels=columns["label"],
        decided=columns["decided"],
        learned_from={row["fold"]: row["train_speakers"] for row in csv_rows(folds)},
    )


def utterance_of(row: Mapping[str, str]) -> str:
    """Return the utterance that a row of a run's table is about; older runs call the column item."""
    return row["utterance"] if "utterance" in row else row["item"]


def check_comparable(first: Predictions, other: Predictions) -> None:
    """See that two runs decided on the same items, with the same labels, in the same folds.

    Raises:
        UsageError: they did not; the message counts what differs and names the first few.
    """
    found = _difference(first, other)
    if found:
        raise UsageError(
            f"Runs {_named(first.run)} and {_named(other.run)} cannot be compared: {found}. Compare runs on the same "
            "items, learned from the same speakers: the same data, --mono and --protocol."
        )


def compare(
    decisions: Sequence[Predictions],
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
    first = decisions[0]
    for other in decisions[1:]:
        check_comparable(first, other)
    count = len(decisions)
    names, _ = speaker_confusions(first.speakers, first.labels, first.decided, first.classes)
    confusions = [speaker_confusions(one.speakers, one.labels, one.decided, one.classes)[1] for one in decisions]
    by_speaker = [overall_of(counts) for counts in confusions]
    every_pair = count <= EVERY_PAIR and not against_first
    tested = list(combinations(range(count), 2)) if every_pair else [(0, run) for run in range(1, count)]
    items = [
        mcnemar(decisions[run].decided == first.labels, decisions[other].decided == first.labels)
        for other, run in tested
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
    items_holm = holm([one.p for one in items])
    permutation_holm = {name: p_values if unknown else holm(p_values) for name, p_values in permutation.items()}
    pairs = [
        Pair(
            run=run,
            other=other,
            difference=difference_intervals(confusions[run], confusions[other], resamples, seed),
            items=items[index],
            permutation={measure: permutation[measure][index] for measure in TESTED},
            mcnemar_holm=items_holm[index],
            permutation_holm={measure: permutation_holm[measure][index] for measure in TESTED},
        )
        for index, (other, run) in enumerate(tested)
    ]
    warnings = [interval_warning(names), "" if unknown else power_warning(len(names), len(pairs))]
    warnings += dict.fromkeys(one for run in decisions for one in warnings_of(run.run.tags))
    if len({one.run.tags.get("corpus.fingerprint") for one in decisions}) > 1:
        warnings.append("The items are the same by name, but their recordings differ in content.")
    return Comparison(
        runs=[one.run for one in decisions],
        part=part,
        items=len(first.items),
        differing=_differing([one.run.parameters for one in decisions]),
        intervals=[speaker_intervals(counts, resamples, seed) for counts in confusions],
        pairs=pairs,
        speakers=names,
        speaker_uar=np.stack([one["uar"] for one in by_speaker]),
        chance=chance(first.labels, first.classes),
        notes=[*(warning for warning in warnings if warning), *notes],
    )


def _named(run: KeptRun) -> str:
    return f"{run.run_id[:8]} ({run.name})"


def _difference(first: Predictions, other: Predictions) -> str:
    """Say in words how the items of two runs differ, or nothing."""
    ours, theirs = set(first.items.tolist()), set(other.items.tolist())
    if ours != theirs:
        lone = [
            f"{len(names)} only in {run.run_id[:8]}" + (f" ({_few(sorted(names))})" if names else "")
            for run, names in ((first.run, ours - theirs), (other.run, theirs - ours))
        ]
        return f"their items differ: {len(ours & theirs)} are in both, {', '.join(lone)}"
    if first.classes != other.classes:
        return f"their classes differ: {', '.join(first.classes)} and {', '.join(other.classes)}"
    sides = (
        ("labels", first.labels, other.labels),
        ("speakers", first.speakers, other.speakers),
        ("folds", first.folds, other.folds),
    )
    for what, one, another in sides:
        where = np.flatnonzero(one != another)
        if len(where):
            named = [f"{first.items[index]}: {one[index]}, {another[index]}" for index in where[: _NAMED + 1]]
            return f"the {what} of {len(where)} of {len(first.items)} items differ ({_few(named, '; ')})"
    unlike = [name for name in first.learned_from if first.learned_from[name] != other.learned_from.get(name)]
    if unlike:
        return f"{len(unlike)} of {len(first.learned_from)} folds learned from other speakers ({_few(unlike)})"
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


def comparison_rows(comparison: Comparison) -> list[dict[str, Any]]:
    """Return one row a number: of each run, of each pair (run minus other) and of each run and speaker."""
    ids = [run.run_id for run in comparison.runs]
    rows: list[dict[str, Any]] = [
        {
            "kind": "run",
            "run": ids[index],
            "name": comparison.runs[index].name,
            "measure": measure,
            "value": interval.value,
            "low": interval.low,
            "high": interval.high,
        }
        for index, intervals in enumerate(comparison.intervals)
        for measure, interval in intervals.items()
    ]
    rows += [
        {
            "kind": "pair",
            "run": ids[pair.run],
            "name": comparison.runs[pair.run].name,
            "other": ids[pair.other],
            "measure": measure,
            "value": pair.difference[measure].value,
            "low": pair.difference[measure].low,
            "high": pair.difference[measure].high,
            "b": pair.items.b,
            "c": pair.items.c,
            "mcnemar_p": pair.items.p,
            "mcnemar_holm_p": pair.mcnemar_holm,
            "permutation_p": pair.permutation[measure],
            "permutation_holm_p": pair.permutation_holm[measure],
        }
        for pair in comparison.pairs
        for measure in TESTED
    ]
    rows += [
        {
            "kind": "speaker",
            "run": ids[index],
            "name": comparison.runs[index].name,
            "speaker": speaker,
            "measure": "uar",
            "value": float(comparison.speaker_uar[index, column]),
        }
        for index in range(len(ids))
        for column, speaker in enumerate(comparison.speakers)
    ]
    return rows
