"""How many decisions change if segment features are kept in half precision?

    python benchmarks/half_precision.py DATA --backbone SPEC [--precision bf16] [--mono duplicate] [--cache DIR]

None do where the network computes in bfloat16, whose values float16 holds exactly, so those are kept in half the room.
Some do where it computes in fp32, so those are kept whole. Features that the store lacks are computed first.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from bserkit import Fuser, Pooler
from bserkit.config import resolve
from bserkit.console import ConsoleReporter
from bserkit.experiment import FUSION, evaluate, pool_features
from bserkit.extraction import extract, pending
from bserkit.plugins import load_plugins
from bserkit.progress import Silent
from bserkit.run import prepare
from bserkit.store import FeatureStore, default_folder


def rounded(pooler: Pooler) -> Pooler:
    """Return the pooler, given features that were rounded to half precision."""

    class Rounded(type(pooler)):
        def pool(self, segments):
            return super().pool(segments.astype(np.float16).astype(np.float32))

    return Rounded(**pooler.parameters)


def main() -> None:
    """Evaluate every built-in pooler with score and feature fusion, on both."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    for option in ("--backbone", "--precision", "--mono", "--cache"):
        parser.add_argument(option)
    given = {key: value for key, value in vars(parser.parse_args()).items() if value is not None}
    store = FeatureStore(Path(given.pop("cache", default_folder())))
    plugins = load_plugins(outside=False)
    settings = resolve(given, plugins)
    checked, folds = prepare(settings, store, Silent())
    work = pending(checked.corpus.utterances, checked.digests, settings.extraction, store)
    extract(work, store, ConsoleReporter())
    print(f"{settings.extraction.backbone.spec} in {settings.extraction.precision}")
    print("pooler, fusion: changed decisions of all parts, of the fusion, largest change of a score")
    for name in ("block-max", "block-avg", "global-max", "global-avg"):
        pooler = plugins.make(Pooler, name)
        both = [pool_features(checked, settings.extraction, one, store, Silent()) for one in (pooler, rounded(pooler))]
        for fusion in ("two-stage", "feature"):
            fuser = plugins.make(Fuser, fusion)
            whole, half = (evaluate(views, folds, fuser, settings.classifier, Silent()) for views in both)
            changed = {part: int((whole.decisions(part) != half.decisions(part)).sum()) for part in whole.scores}
            largest = max(float(np.abs(whole.scores[part] - half.scores[part]).max()) for part in whole.scores)
            count = len(whole.items) * len(changed)
            print(f"{name}, {fusion}: {sum(changed.values())} of {count}, {changed[FUSION]}, {largest:.1e}", flush=True)


if __name__ == "__main__":
    main()
