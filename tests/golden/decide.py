"""Evaluate a run in this process and print every decision and score: ``decide.py CACHE SETTINGS``, SETTINGS in JSON."""

import json
import sys
from pathlib import Path

from bserkit.evaluation.cross_validation import evaluate
from bserkit.evaluation.results import prediction_rows
from bserkit.experiments.run import planned_features, prepare
from bserkit.experiments.settings import resolve
from bserkit.plugins.registry import load_plugins
from bserkit.progress import Silent
from bserkit.store import FeatureStore
from bserkit.text import csv_text

if __name__ == "__main__":
    store, silent = FeatureStore(Path(sys.argv[1])), Silent()
    settings = resolve(json.loads(sys.argv[2]), load_plugins(outside=False))
    prepared = prepare(settings, store, silent)
    views = planned_features(settings, prepared, store, silent)(None)
    evaluation = evaluate(views, prepared.folds, settings.fusion, settings.classifier, silent)
    print(csv_text(prediction_rows(evaluation, prepared.corpus)))
