"""A comparison in words and tables."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from bserkit.evaluation.comparison import TESTED
from bserkit.evaluation.statistics import nobody, over_speakers
from bserkit.reporting.tables import TextTable
from bserkit.schema import MEASURES
from bserkit.text import counted

if TYPE_CHECKING:
    from bserkit.evaluation.comparison import Comparison, Pair


def permutation_text(pair: Pair, measure: str) -> str:
    """Spell the p of a pair's permutation test, after Holm in brackets; nothing where there was no test."""
    p = pair.permutation[measure]
    return "" if np.isnan(p) else f"{p:.2g} ({pair.permutation_holm[measure]:.2g})"


def tables(comparison: Comparison) -> list[TextTable]:
    """Write a comparison as tables: the runs, their differences, their UAR by speaker."""
    runs = TextTable(
        f"{comparison.part} of {comparison.utterances} utterances of "
        f"{'unknown' if nobody(comparison.speakers) else len(comparison.speakers)} speakers"
        f"{over_speakers(comparison.speakers)}",
        ["", "run", "id", "what differs", *MEASURES.values()],
        [
            [
                str(index + 1),
                run.name,
                run.run_id[:8],
                " ".join(f"{name}={value}" for name, value in comparison.differing[index].items()) or "nothing",
                *(str(comparison.intervals[index][measure]) for measure in MEASURES),
            ]
            for index, run in enumerate(comparison.runs)
        ],
        names=4,
    )
    pairs = TextTable(
        "Differences; b: utterances that only the run named first got right, c: only the other; p (p after Holm for "
        f"{counted(len(comparison.pairs), 'comparison')})",
        ["", "accuracy", "UAR", "b", "c", "McNemar p", "permutation p, accuracy", "permutation p, UAR"],
        [
            [
                f"{pair.run + 1} - {pair.other + 1}",
                *(format(pair.difference[measure], "+.3f") for measure in TESTED),
                str(pair.utterances.b),
                str(pair.utterances.c),
                f"{pair.utterances.p:.2g} ({pair.mcnemar_holm:.2g})",
                *(permutation_text(pair, measure) for measure in TESTED),
            ]
            for pair in comparison.pairs
        ],
        names=1,
    )
    speakers = TextTable(
        "UAR of each speaker",
        ["speaker", *(str(index + 1) for index in range(len(comparison.runs)))],
        [
            [name or "unknown", *(f"{uar:.3f}" for uar in comparison.speaker_uar[:, column])]
            for column, name in enumerate(comparison.speakers)
        ],
        names=1,
    )
    return [runs, pairs, speakers]


def remarks(comparison: Comparison) -> list[str]:
    """Write what belongs below the tables, a paragraph each: chance, how to read the tests, what to beware of."""
    without = comparison.chance
    return [
        f"Chance: UAR {without.uar:.3f}; always {without.majority!r}: accuracy {without.accuracy:.3f}.",
        (
            ""
            if nobody(comparison.speakers)
            else "Intervals draw speakers and permutation tests swap speakers whole, so both are about new speakers. "
        )
        + "McNemar's test takes the utterances of a speaker for independent, so its p is usually too small.",
        *comparison.notes,
    ]


def markdown(comparison: Comparison) -> str:
    """Write a comparison as a Markdown document."""
    blocks = ["# Comparison of " + ", ".join(run.run_id[:8] for run in comparison.runs)]
    blocks += [table.markdown() for table in tables(comparison)]
    return "\n\n".join([*blocks, *remarks(comparison)]) + "\n"
