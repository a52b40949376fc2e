"""Comparing finished runs: which ones, on what, and where the comparison is kept."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from bserkit.errors import UsageError
from bserkit.evaluation.comparison import ComparisonRow, RunPart, compare, comparison_rows
from bserkit.evaluation.results import NEEDED, read_results
from bserkit.evaluation.statistics import RESAMPLES, SEED
from bserkit.reporting.comparison import markdown
from bserkit.rows import plain, write_rows
from bserkit.schema import COMPARISON_PAGE, COMPARISON_ROWS, FUSION
from bserkit.tracking.finished import best_runs, find_run, read_artifacts
from bserkit.tracking.runs import log_comparison

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pandas import DataFrame

    from bserkit.evaluation.comparison import Comparison


@dataclass(frozen=True)
class Compared:
    """A comparison and where it is kept.

    Attributes:
        run_id: of the MLflow run that keeps it.
        place: the address of its files.
    """

    comparison: Comparison
    experiment: str
    run_id: str
    place: str

    @property
    def table(self) -> DataFrame:
        """One row a number: of each run, of each pair (run minus other) and of each run and speaker."""
        import pandas

        return pandas.DataFrame(map(plain, comparison_rows(self.comparison)))

    def _repr_markdown_(self) -> str:
        return markdown(self.comparison)


def compare_runs(
    references: Sequence[str],
    experiment: str,
    best: int | None = None,
    part: str = FUSION,
    resamples: int = RESAMPLES,
    seed: int = SEED,
) -> Compared:
    """Compare the finished runs that are named, or the ``best`` of an experiment by UAR, and keep that in MLflow.

    Args:
        part: a channel, a transform or the fusion.

    Raises:
        UsageError: there are not two runs, or their utterances, labels or folds differ.
    """
    if best and references:
        raise UsageError("Give runs or --best N, not both.")
    runs = best_runs(experiment, best) if best else [find_run(one, experiment) for one in references]
    ids = [run.run_id for run in runs]
    if len(runs) < 2:
        found = f"experiment {experiment!r} has {len(runs)} that finished" if best else f"{len(runs)} given"
        raise UsageError(f"A comparison needs two runs; {found}. Try: bserkit compare RUN RUN, or --best 2.")
    if twice := [reference for reference, one in zip(references, ids, strict=False) if ids.count(one) > 1]:
        raise UsageError(f"{', '.join(twice)} mean the same run. Runs of one name are told apart by their ids.")
    parts = [RunPart.of(run, read_results(read_artifacts(run, NEEDED), run.run_id), part) for run in runs]
    chosen = ["The runs were chosen for being best on these very utterances: the best owes some of its lead to luck."]
    comparison = compare(parts, part, resamples, seed, notes=chosen if best else [])
    written = markdown(comparison)
    run_id, place = log_comparison(
        runs[0].experiment,
        f"compare {' '.join(one[:8] for one in ids)}",
        {"runs": " ".join(ids), "part": part, "resamples": str(resamples), "seed": str(seed)},
        {
            COMPARISON_ROWS: write_rows(ComparisonRow, comparison_rows(comparison)),
            COMPARISON_PAGE: written,
        },
        written,
    )
    return Compared(comparison, runs[0].experiment, run_id, place)
