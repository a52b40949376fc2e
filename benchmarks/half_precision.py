"""What do half as precise numbers change: computing in bfloat16, and keeping features in half the room?

    python benchmarks/half_precision.py DATA --backbone SPEC [--mono duplicate] [--every 4] [--cache DIR] [--json FILE]

Features of every Nth utterance of each speaker are computed in fp32 and in bf16, or read where they are kept; their
cosine is taken segment by segment. Then both are evaluated with every built-in pooler, two-stage and feature fusion,
and the decisions that differ are counted; so are those that differ once fp32 features are rounded to float16. That is
why features are kept in float16 only where the network computed in bfloat16, whose values float16 holds exactly.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from figures import Figure, parser, report

from bserkit import Fuser, Pooler
from bserkit.corpora.checking import Checked
from bserkit.corpora.protocols import split
from bserkit.evaluation.cross_validation import evaluate
from bserkit.experiments.run import prepare
from bserkit.experiments.settings import SETTINGS, resolve
from bserkit.features.extraction import Extraction, extract, pending
from bserkit.learning.pooled import pool_features
from bserkit.plugins.registry import load_plugins
from bserkit.progress import Silent
from bserkit.schema import FUSION
from bserkit.store import FeatureStore, default_folder
from bserkit.workspace import Workspace

POOLERS, FUSIONS = ("block-max", "block-avg", "global-max", "global-avg"), ("two-stage", "feature")


def rounded(pooler: Pooler) -> Pooler:
    """Return the pooler, given features that were rounded to half precision."""

    class Rounded(type(pooler)):
        def pool(self, segments):
            return super().pool(segments.astype(np.float16).astype(np.float32))

    return Rounded(**pooler.parameters)


def thinned(checked: Checked, every: int) -> Checked:
    """Return every Nth utterance of each speaker and label."""
    seen: dict[tuple[str, str], int] = {}
    rows = []
    for row, one in enumerate(checked.corpus.utterances):
        count = seen[one.speaker, one.label] = seen.get((one.speaker, one.label), -1) + 1
        rows += [row] * (count % every == 0)
    return replace(
        checked,
        corpus=replace(checked.corpus, utterances=tuple(checked.corpus.utterances[row] for row in rows)),
        digests=tuple(checked.digests[row] for row in rows),
        facts=tuple(checked.facts[row] for row in rows),
    )


def cosines(checked: Checked, one: Extraction, other: Extraction, store: FeatureStore) -> np.ndarray:
    """Return the ``(segment,)`` cosine of the features of both, over all channels and utterances."""
    found = []
    for channel, recipe in one.recipes().items():
        for digest in checked.digests:
            kept = (store.read_features(way, digest)[0] for way in (recipe, other.recipes()[channel]))
            left, right = (features.astype(np.float64) for features in kept)
            lengths = np.linalg.norm(left, axis=1) * np.linalg.norm(right, axis=1)
            # A segment without any feature, such as of a silent Side, is the same in both or has no direction.
            found.append((left * right).sum(axis=1)[lengths > 0] / lengths[lengths > 0])
    return np.concatenate(found)


def main() -> None:
    """Compare features, then decisions."""
    options = parser(__doc__)
    options.add_argument("data", type=Path)
    options.add_argument("--backbone", default="alexnet:weights=random")
    options.add_argument("--mono", default="refuse")
    options.add_argument("--every", type=int, default=4)
    options.add_argument("--cache", type=Path, default=default_folder())
    given = options.parse_args()
    store, plugins = FeatureStore(given.cache), load_plugins(outside=False)
    settings = resolve(
        {"data": given.data, "backbone": given.backbone, "mono": given.mono, "precision": "fp32"}, plugins
    )
    checked = thinned(prepare(settings, Workspace(store)).checked, given.every)
    folds = split(settings.protocol, checked.corpus)
    exact = settings.extraction
    half = replace(exact, precision="bf16")
    for way in (exact, half):
        extract(pending(checked.corpus.utterances, checked.digests, way, store), Workspace(store))
    cosine = cosines(checked, exact, half, store)

    changed = {"bf16": 0, "float16": 0}
    decisions = 0
    for name in POOLERS:
        pooler = plugins.make(Pooler, name)
        views = {
            "fp32": pool_features(checked, exact, pooler, Workspace(store)),
            "bf16": pool_features(checked, half, pooler, Workspace(store)),
            "float16": pool_features(checked, exact, rounded(pooler), Workspace(store)),
        }
        for fusion in FUSIONS:
            fuser = plugins.make(Fuser, fusion)
            decided = {
                way: evaluate(seen, folds, fuser, settings.classifier, Silent()).decisions(FUSION)
                for way, seen in views.items()
            }
            decisions += len(decided["fp32"])
            for way in changed:
                changed[way] += int((decided[way] != decided["fp32"]).sum())
    figures = {
        "cosine of bf16 and fp32 features, lowest": Figure(float(cosine.min()), "", "higher", 0.999),
        "cosine of bf16 and fp32 features, mean": Figure(float(cosine.mean()), "", "higher"),
        "decisions that bf16 changes": Figure(100 * changed["bf16"] / decisions, "%", "lower"),
        "decisions that float16 storage changes": Figure(100 * changed["float16"] / decisions, "%", "lower"),
    }
    network = SETTINGS["backbone"].short(exact.backbone)
    which = f"{network}: {len(cosine)} segments of {len(checked.digests)} utterances, {decisions} decisions"
    report("half_precision", figures, given.json, [which])


if __name__ == "__main__":
    main()
