"""A run's result in a few lines of Markdown, as MLflow shows it above everything else that it keeps of the run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bserkit.corpora.protocols import warnings_of
from bserkit.evaluation.statistics import interval_warning
from bserkit.reporting.tables import TextTable
from bserkit.schema import COMMAND, MEASURES

if TYPE_CHECKING:
    from bserkit.evaluation.results import Results
    from bserkit.tracking.finished import KeptRun


def description(run: KeptRun, results: Results) -> str:
    """Return the measures of each part, the fusion's intervals, what a reader must know, and the command."""
    rows = []
    for part, one in results.predictions.items():
        measures = one.measures().overall()
        rows.append([part, *(f"{measures[name]:.3f}" for name in MEASURES)])
    intervals = results.fusion.intervals()
    told = ", ".join(f"{words} {intervals[name]}" for name, words in MEASURES.items())
    speakers = results.fusion.by_speaker()[0]
    blocks = [
        TextTable(f"Fusion: {told}", ["", *MEASURES.values()], rows, 1).markdown(),
        interval_warning(speakers),
        *warnings_of(run.tags),
        f"```console\n{run.tags[COMMAND]}\n```" if COMMAND in run.tags else "",
    ]
    return "\n\n".join(block for block in blocks if block)
