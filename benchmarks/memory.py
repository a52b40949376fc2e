"""Does memory grow with the corpus, or with the length of a recording?

    python benchmarks/memory.py CORPUS [--backbone none] [--quick] [--json FILE]

A few recordings of CORPUS are read and extracted in four channels, each time in a process of its own: once, in fifty
copies that all differ a little, and once more beside a recording of an hour. The peak of resident memory is taken when
the features are on disk, and when they are pooled too; goal: the first grows by no more than a tenth.

An hour through AlexNet takes some five minutes on two cores. ``--backbone none`` is quicker and stricter: no network,
only 4096 numbers of each segment, so that the rest of the memory shows what it does.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from itertools import cycle
from pathlib import Path

import numpy as np
import soundfile
import torch
from figures import Figure, parser, report

from bserkit import Backbone, Pooler
from bserkit.corpora.audio import read_stereo
from bserkit.corpora.checking import check_corpus
from bserkit.corpora.reading import read_corpus
from bserkit.experiments.settings import resolve
from bserkit.features.extraction import extract, pending
from bserkit.learning.pooled import pool_features
from bserkit.plugins.registry import load_plugins
from bserkit.store import FeatureStore
from bserkit.workspace import Workspace

RECORDINGS = 8


class Numbers(Backbone):
    """No network: as many numbers of each segment as AlexNet has features."""

    name = "numbers"

    def weights_digest(self) -> str:
        """Return the same for all."""
        return "none"

    def feature_size(self) -> int:
        """Return AlexNet's."""
        return 4096

    def load(self, device: str) -> torch.nn.Module:
        """Return what takes the static plane of 64 x 64."""

        class First(torch.nn.Module):
            def forward(self, planes: torch.Tensor) -> torch.Tensor:
                return planes[:, 0].flatten(1)

        return First().eval()


def measured(manifest: Path, backbone: str) -> dict[str, float]:
    """Extract and pool; return the peaks of this process's memory, MB, and what there was to do."""
    plugins = load_plugins((), False)
    spec = "alexnet:weights=random" if backbone == "none" else backbone
    settings = resolve({"data": manifest, "backbone": spec, "corpus": "csv"}, plugins)
    extraction = settings.extraction if backbone != "none" else replace(settings.extraction, backbone=Numbers())
    corpus = read_corpus(manifest, settings.corpus)
    with tempfile.TemporaryDirectory(dir=manifest.parent) as folder:
        store = FeatureStore(Path(folder))
        checked = check_corpus(corpus, extraction.needs_stereo, "duplicate", "refuse", Workspace(store))
        work = pending(checked.corpus.utterances, checked.digests, extraction, store)
        segments = extract(work, Workspace(store))
        extracted = peak()
        pool_features(checked, extraction, plugins.make(Pooler, "block-max"), Workspace(store))
    return {"segments": segments, "extracted": extracted, "pooled": peak()}


def peak() -> float:
    """Return the most memory that this process was resident in, MB."""
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most / (1 << 20 if sys.platform == "darwin" else 1 << 10)


def write_manifest(folder: Path, name: str, files: list[Path]) -> Path:
    """Write what the csv reader reads; labels and speakers matter to nobody here."""
    manifest = folder / f"{name}.csv"
    rows = [f"{file.name},{'ab'[number % 2]},{number % 4}" for number, file in enumerate(files)]
    manifest.write_text("\n".join(["path,label,speaker", *rows]) + "\n")
    return manifest


def manifests(data: Path, folder: Path, copies: int, minutes: float) -> Iterator[tuple[str, Path]]:
    """Write the corpora and yield the manifest of each by name."""
    corpus = read_corpus(data, resolve({"data": data}, load_plugins((), False)).corpus)
    found = [read_stereo(one) for one in corpus.utterances[:: max(1, len(corpus.utterances) // RECORDINGS)]]
    found = found[:RECORDINGS]
    files = []
    for copy in range(copies):
        for number, (samples, rate) in enumerate(found):
            files.append(folder / f"{copy}-{number}.wav")
            soundfile.write(files[-1], samples.T * (1 - copy / (4 * copies)), rate, "PCM_16")
    yield "1 copy", write_manifest(folder, "one", files[:RECORDINGS])
    yield f"{copies} copies", write_manifest(folder, "copies", files)
    rate = 48000
    long = folder / "long.wav"
    with soundfile.SoundFile(long, "w", rate, 2, "PCM_16") as file:
        for samples, _ in cycle(found):
            file.write(np.ascontiguousarray(samples.T))
            if file.frames >= 60 * minutes * rate:
                break
    yield f"{minutes:g} minutes", write_manifest(folder, "long", [*files[:RECORDINGS], long])


def main() -> None:
    """Measure each corpus in a process of its own."""
    options = parser(__doc__)
    options.add_argument("corpus", type=Path)
    options.add_argument("--backbone", default="alexnet:weights=random")
    options.add_argument("--quick", action="store_true", help="five copies and two minutes: a test of the benchmark")
    options.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    given = options.parse_args()
    if given.child:
        print(json.dumps(measured(given.corpus, given.backbone)))
        return
    copies, minutes = (5, 2.0) if given.quick else (50, 60.0)
    figures: dict[str, Figure] = {}
    base: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, manifest in manifests(given.corpus, Path(folder), copies, minutes):
            command = [sys.executable, __file__, str(manifest), "--backbone", given.backbone, "--child"]
            said = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
            found = json.loads(said.splitlines()[-1])
            base = base or found
            print(f"{name}: {found['segments']} segments", file=sys.stderr)
            for step in ("extracted", "pooled"):
                figures[f"{step}, {name}"] = Figure(found[step], "MB", "lower")
                if found is not base:
                    goal = 1.1 if step == "extracted" else None
                    figures[f"{step}, {name}, of 1 copy"] = Figure(found[step] / base[step], "times", "lower", goal)
    report("memory", figures, given.json)


if __name__ == "__main__":
    main()
