"""A run's fine-tuned networks, one a channel and fold: learned now or restored, each a nested run."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

from bserkit.experiments.restoring import changed_code, restorable
from bserkit.features.finetuning import FromRun, trainings
from bserkit.schema import CURVES, NETWORK_RUN, RECIPE, REUSED, WEIGHTS_PATH
from bserkit.tracking.finished import find_run

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from contextlib import AbstractContextManager
    from typing import Any

    from bserkit.corpora.checking import Checked
    from bserkit.corpora.protocols import Fold
    from bserkit.experiments.restoring import Restorable
    from bserkit.features.extraction import Extraction
    from bserkit.features.finetuning import Sgd, Trained, Training
    from bserkit.tracking.runs import TrackedRun
    from bserkit.workspace import Workspace


def planned_networks(
    finetune: Sgd | FromRun,
    experiment: str,
    extraction: Extraction,
    checked: Checked,
    folds: Sequence[Fold],
    workspace: Workspace,
) -> Callable[[TrackedRun], list[Extraction]]:
    """Find out whether each fold's and channel's network can be had, and return what gets them, in the given run.

    What it returns gives how each network makes features, fold by fold and channel by channel.

    Raises:
        UsageError: the corpus, the folds or an earlier run's networks do not allow it.
    """
    if isinstance(finetune, FromRun):
        chosen = restorable(find_run(finetune.run, experiment), extraction, checked, folds, workspace.store)
        if changed := changed_code(chosen):
            workspace.reporter.say(
                f"Note: the code of {', '.join(changed)} is not what it was when the networks learned."
            )
        return lambda tracked: _restore(chosen, tracked, workspace)

    from bserkit.features.training import check_trainable

    planned = trainings(finetune, extraction, checked.corpus.utterances, checked.digests, folds)
    check_trainable(finetune, extraction.backbone)
    return lambda tracked: _learn(planned, tracked, workspace)


def _learn(planned: Sequence[Training], tracked: TrackedRun, workspace: Workspace) -> list[Extraction]:
    """Fine-tune every fold's and channel's network."""
    from bserkit.features.training import is_trained, train

    made, store, reporter = [], workspace.store, workspace.reporter
    if (hint := planned[0].extraction.faster()) and not all(is_trained(one, store) for one in planned):
        reporter.say(hint)
    with reporter.stage("Fine-tuning", sum(one.recipe.epochs for one in planned), "epochs") as advance:
        for number, training in enumerate(planned, start=1):
            with _nested(tracked, training) as child:

                def note(epoch: int, numbers: dict[str, float], child: TrackedRun = child) -> None:
                    child.log_metrics(numbers, step=epoch)
                    advance(1)

                trained = train(training, store, note)
                store.tell_damage(reporter.say)
                # Epochs that stopping early saved are done with too.
                advance(training.recipe.epochs - len(trained.curves))
                _log(child, trained, training.identity())
            last = trained.curves[-1]
            reporter.say(
                f"Network {number} of {len(planned)}, {training.channel} without {training.fold}: "
                f"{'kept from before, ' * trained.reused}{len(trained.curves)} epochs, at last training loss "
                f"{last['train/loss']:.3f}, accuracy {last['train/accuracy']:.3f}"
            )
            made.append(replace(training.extraction, backbone=trained.backbone))
    return made


def _restore(chosen: Sequence[Restorable], tracked: TrackedRun, workspace: Workspace) -> list[Extraction]:
    """Restore every fold's and channel's network."""
    made, store, reporter = [], workspace.store, workspace.reporter
    with reporter.stage("Restoring networks", len(chosen), "networks") as advance:
        for one in chosen:
            with _nested(tracked, one) as child:
                trained = one.trained(store)
                for epoch, numbers in enumerate(trained.curves, start=1):
                    child.log_metrics(numbers, step=epoch)
                child.tag(NETWORK_RUN, one.network.run.run_id)
                _log(child, trained, one.network.identity)
            made.append(replace(one.extraction, backbone=trained.backbone))
            advance(1)
    store.tell_damage(reporter.say)
    return made


def _nested(tracked: TrackedRun, one: Training | Restorable) -> AbstractContextManager[TrackedRun]:
    return tracked.child(f"{one.channel} without {one.fold}", {"channel": one.channel, "fold": one.fold})


def _log(child: TrackedRun, trained: Trained, identity: Mapping[str, Any]) -> None:
    """Log all that a later run needs to use the network again, the weights once however many runs use them."""
    child.tag(WEIGHTS_PATH, str(trained.weights))
    child.tag(REUSED, str(trained.reused).lower())
    child.log_text(RECIPE, json.dumps(identity, sort_keys=True, indent=1))
    child.log_text(CURVES, json.dumps(trained.curves, indent=1))
    child.log_network(trained.weights, trained.backbone.weights_digest())
