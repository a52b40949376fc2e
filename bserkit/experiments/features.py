"""A run's features: of one backbone for all folds, or of networks that are fine-tuned in each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

from bserkit.experiments.networks import planned_networks
from bserkit.features.extraction import extract, pending
from bserkit.features.pooling import LearningPooler, Pooler
from bserkit.learning.pooled import LearnedPooler, fit_pooler, pool_by_channel, pool_features
from bserkit.learning.views import FeatureSource
from bserkit.progress import Silent, Unstaged
from bserkit.tracking.runs import TrackedRun

if TYPE_CHECKING:
    from bserkit.corpora.checking import Checked
    from bserkit.corpora.protocols import Fold
    from bserkit.experiments.settings import Settings
    from bserkit.features.extraction import Extraction, Pending
    from bserkit.learning.views import Views
    from bserkit.workspace import Workspace

#: Makes the features in the run that it is given, where networks are logged.
PlannedFeatures: TypeAlias = Callable[[TrackedRun], FeatureSource]


@dataclass(frozen=True)
class PooledByFold:
    """Features of networks or of a pooler that learn in each fold, pooled when the fold is learned from.

    Attributes:
        by_fold: how the network of each channel makes features, for every fold.
        fitted: what a pooler that learns has learned so far, by fold, so that a sweep learns it once.
    """

    checked: Checked
    by_fold: Sequence[Sequence[Extraction]]
    folds: Sequence[Fold]
    pooler: Pooler
    workspace: Workspace
    fitted: dict[int, LearnedPooler] = field(default_factory=dict)

    def views(self, fold: int) -> Views:
        """Return the views of one fold's networks and pooler."""
        pooler: Pooler | LearnedPooler = self.pooler
        if isinstance(self.pooler, LearningPooler):
            pooler = self.fitted[fold] = self.fitted.get(fold) or fit_pooler(
                self.checked, self.by_fold[fold], self.pooler, self.folds[fold].train, self.workspace
            )
        return pool_by_channel(self.checked, self.by_fold[fold], pooler, self.workspace)


def planned_features(
    settings: Settings, checked: Checked, folds: Sequence[Fold], workspace: Workspace
) -> PlannedFeatures:
    """Find out whether the features can be made, and return what makes them.

    Raises:
        UsageError: the corpus, the folds or an earlier run's networks do not allow it.
        BserkitError: the weights cannot be had or do not fit the architecture.
    """
    extraction, pooler = settings.extraction, settings.pooler
    inside = workspace.telling(Unstaged(workspace.reporter))

    def pending_of(one: Extraction) -> Pending:
        return pending(checked.corpus.utterances, checked.digests, one, workspace.store)

    if settings.finetune is None:
        work = pending_of(extraction)

        def frozen(_: TrackedRun) -> FeatureSource:
            extract(work, workspace)
            if isinstance(pooler, LearningPooler):
                return PooledByFold(checked, [[extraction]] * len(folds), folds, pooler, inside)
            return pool_features(checked, extraction, pooler, workspace)

        return frozen

    networks = planned_networks(settings.finetune, settings.experiment, extraction, checked, folds, workspace)

    def fine_tuned(tracked: TrackedRun) -> FeatureSource:
        made = networks(tracked)
        with workspace.reporter.stage("Extracting features", len(made), "networks") as advance:
            for network in made:
                extract(pending_of(network), workspace.telling(Silent()))
                advance(1)
        each = len(made) // len(folds)
        by_fold = [made[start : start + each] for start in range(0, len(made), each)]
        return PooledByFold(checked, by_fold, folds, pooler, inside)

    return fine_tuned
