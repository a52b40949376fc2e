"""A report: what a finished run logged, as one HTML page that needs nothing but itself.

Nothing is learned or predicted here: numbers come from the run's predictions. The words stand in ``templates/``.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from bserkit.corpora.protocols import CAUTIONS, warnings_of
from bserkit.corpora.speakers import one_spelling
from bserkit.evaluation import results
from bserkit.evaluation.results import LeftOut, Results, read_results
from bserkit.evaluation.statistics import chance, interval_warning, nobody
from bserkit.features.example import Level
from bserkit.rows import read_rows
from bserkit.schema import (
    COMMAND,
    CONFIG,
    FUSION_NOTES,
    LEARNING_POOLER,
    LEVELS,
    LEVELS_FIGURE,
    MACHINE,
    MEASURES,
    NOTES,
    SKIPPED,
    UNLABELLED,
    measure_of,
)
from bserkit.text import counted

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from bserkit.evaluation.results import Predictions
    from bserkit.evaluation.statistics import Chance, Interval
    from bserkit.tracking.finished import KeptRun

#: The files of a run that a report is made of, and those that it shows where there are any.
NEEDED = results.NEEDED
WANTED = (*results.WANTED, CONFIG, SKIPPED, LEVELS, LEVELS_FIGURE)
#: The measures, the one to look at first.
SHOWN = {name: MEASURES[name] for name in ("uar", "accuracy", "macro_f1")}
#: Beginnings of tags that have a place of their own, or that say nothing to a reader.
_OWN_TAGS = (
    "mlflow.", "bserkit.", "version.", "plugin.", "corpus.",
    COMMAND, MACHINE, NOTES, FUSION_NOTES, LEARNING_POOLER, *CAUTIONS,
)  # fmt: skip


@dataclass(frozen=True)
class Network:
    """A nested run: how one network was fine-tuned.

    Attributes:
        curves: by metric, its (epoch, value) after each epoch.
    """

    parameters: Mapping[str, str]
    tags: Mapping[str, str]
    curves: Mapping[str, Sequence[tuple[int, float]]]


@dataclass(frozen=True)
class Report:
    """What a run logged, read once.

    Attributes:
        networks: how its networks were fine-tuned, if they were.
        config: the configuration that gives the run again; empty where it was not kept.
        example: how loud one utterance is in each channel, and its picture.
    """

    run: KeptRun
    results: Results
    networks: Sequence[Network]
    config: str
    skipped: Sequence[LeftOut]
    example: Sequence[Level]
    picture: bytes

    @property
    def fusion(self) -> Predictions:
        """What all channels together predicted."""
        return self.results.fusion

    @cached_property
    def speakers(self) -> list[str]:
        """The speakers of the test utterances, each once however it is spelt."""
        return sorted(set(one_spelling(self.fusion.speakers).tolist()))

    @property
    def speakers_known(self) -> bool:
        """Whether anybody is named."""
        return not nobody(self.speakers)

    @cached_property
    def intervals(self) -> dict[str, Interval]:
        """The fusion's measures with their intervals over speakers."""
        return self.fusion.intervals()

    @property
    def chance(self) -> Chance:
        """What is reached without listening."""
        return chance(self.fusion.labels, self.fusion.classes)

    @property
    def has_oracle(self) -> bool:
        """Whether the fusion's weights were searched on the test utterances too."""
        return all(measure_of(name, oracle=True) in self.run.metrics for name in SHOWN)

    @property
    def unlabelled(self) -> bool:
        """Whether test recordings were used without their labels."""
        return UNLABELLED in self.run.tags

    @property
    def choices(self) -> dict[str, dict[str, str]]:
        """By fold, what the classifier of each part chose by searching."""
        found: dict[str, dict[str, str]] = {}
        for one in self.results.parts:
            if one.chosen:
                found.setdefault(one.fold, {})[one.part] = one.chosen
        return found

    @property
    def command(self) -> str:
        """What does the run again, as it is typed; empty where it was not kept."""
        return self.run.tags.get(COMMAND, "")

    @property
    def warnings(self) -> list[str]:
        """What a reader of the numbers must know, a sentence each."""
        tags = self.run.tags
        untrained = self.run.parameters.get("backbone.weights") == "random" and not self.networks
        said = [
            *warnings_of(tags),
            interval_warning(self.speakers),
            "The network's weights are random: it was never trained on anything." if untrained else "",
            *(f"{tags[name]}." for name in (NOTES, FUSION_NOTES) if tags.get(name)),
            *(f"{name}: {tags[name]}" for name in sorted(tags) if not name.startswith(_OWN_TAGS)),
        ]
        return [one for one in said if one]

    @property
    def sections(self) -> dict[str, str]:
        """The titles of the sections that there is something for, by the names of their templates."""
        found = {
            "result": "Result",
            "protocol": "Protocol",
            "tables": "Channels, folds, speakers, emotions",
            "confusion": "Confusion matrices",
            "fusion": "Fusion weights" if self.has_oracle or self.results.weights or self.results.search else "",
            "fine-tuning": "Fine-tuning" if self.networks else "",
            "channels": "What the channels look like" if self.example and self.picture else "",
            "again": "Running it again" if self.config else "",
            "everything": "Parameters and versions",
        }
        return {name: title for name, title in found.items() if title}


def gather(run: KeptRun, artifacts: Mapping[str, bytes], networks: Sequence[Network]) -> Report:
    """Gather what a finished run logged.

    Args:
        artifacts: the contents of the files ``NEEDED`` and of those ``WANTED`` that the run has.

    Raises:
        BserkitError: a file of the run is damaged.
        UsageError: the run has no predictions of a fusion.
    """
    return Report(
        run=run,
        results=read_results(artifacts, run.run_id),
        networks=networks,
        config=artifacts.get(CONFIG, b"").decode(),
        skipped=read_rows(LeftOut, artifacts[SKIPPED].decode()) if SKIPPED in artifacts else [],
        example=read_rows(Level, artifacts[LEVELS].decode()) if LEVELS in artifacts else [],
        picture=artifacts.get(LEVELS_FIGURE, b""),
    )


def page(report: Report) -> str:
    """Return a report as one HTML page; the same report is always the same page.

    It loads nothing and runs nothing, and whatever a run's names hold is shown as text.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined

    from bserkit.reporting import report_pictures, report_tables

    templates = Environment(
        loader=PackageLoader("bserkit.reporting"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    known = {"tables": report_tables, "pictures": report_pictures, "measures": SHOWN, "counted": counted}
    return templates.get_template("report.html").render(report=report, sections=report.sections, **known)
