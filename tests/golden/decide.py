"""Evaluate a run in this process and print its predictions: ``decide.py CACHE SETTINGS``, SETTINGS in JSON."""

import json
import sys
from pathlib import Path

from bserkit.evaluation.cross_validation import evaluate
from bserkit.evaluation.results import results_of
from bserkit.experiments.features import planned_features
from bserkit.experiments.run import prepare
from bserkit.experiments.settings import resolve
from bserkit.plugins.registry import load_plugins
from bserkit.schema import PREDICTIONS
from bserkit.store import FeatureStore
from bserkit.workspace import Workspace

if __name__ == "__main__":
    workspace = Workspace(FeatureStore(Path(sys.argv[1])))
    settings = resolve(json.loads(sys.argv[2]), load_plugins(outside=False))
    prepared = prepare(settings, workspace)
    source = planned_features(settings, prepared.checked, prepared.folds, workspace)(None)
    chosen = settings.fusion, settings.classifier, workspace.reporter
    evaluation = evaluate(source, prepared.folds, *chosen, normaliser=settings.normaliser)
    print(results_of(evaluation, prepared.corpus, []).files()[PREDICTIONS], end="")
