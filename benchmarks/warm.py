"""How long does a run take whose features are there already, and how much less than the first?

    python benchmarks/warm.py CORPUS WEIGHTS [--cache DIR] [--rounds 3] [--json FILE]

CORPUS is EMOVO's folder, WEIGHTS a state dict of torchvision's SqueezeNet 1.1. The first run computes features into a
fresh folder below --cache; then another pooler and fusion run on them, each in a process of its own, from the command
to its end. The quickest of several rounds counts: what slows a round down is the machine. What no run can do without is
measured beside it: a process that imports the tracking store, scikit-learn and the drawing library, and ends.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from figures import Figure, parser, report

WARM = ("--pooler", "global-avg", "--fusion", "feature")
IMPORTS = "import bserkit.cli, matplotlib.figure, mlflow, mlflow.store.tracking.sqlalchemy_store, sklearn.svm"


def main() -> None:
    """Run cold once and warm several times."""
    options = parser(__doc__)
    options.add_argument("corpus", type=Path)
    options.add_argument("weights", type=Path)
    options.add_argument("--cache", type=Path, help="where features go and stay [default: a folder that is deleted]")
    options.add_argument("--rounds", type=int, default=3)
    given = options.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        cache = (given.cache or Path(folder) / "cache").resolve()
        if any(cache.glob("features-*")):
            sys.exit(f"{cache} holds features already, so there is no cold run to measure: name an empty folder.")
        corpus, weights = given.corpus.resolve(), given.weights.resolve()
        start = "from bserkit.cli import main; main(prog_name='bserkit')"
        command = [sys.executable, "-c", start, "run", corpus, "--mono", "duplicate", "--cache", cache, "-q"]
        command += ["--precision", "fp32", "--backbone", f"torchvision:arch=squeezenet1_1,weights={weights}"]

        def timed(*words: str | Path) -> float:
            began = time.perf_counter()
            own = os.environ | {"MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow.db"}
            subprocess.run(words, cwd=folder, check=True, env=own, stdout=subprocess.DEVNULL)
            return time.perf_counter() - began

        cold = timed(*command)
        warm, imports = (
            min(timed(*words) for _ in range(given.rounds))
            for words in ([*command, *WARM], [sys.executable, "-W", "ignore", "-c", IMPORTS])
        )
    figures = {
        "warm run, another pooler and fusion": Figure(warm, "s", "lower", 5.0),
        "warm run, times faster than cold": Figure(cold / warm, "times", "higher", 50.0),
        "cold run": Figure(cold, "s", "lower"),
        "of a warm run, importing libraries": Figure(imports, "s", "lower"),
    }
    report("warm", figures, given.json)


if __name__ == "__main__":
    main()
