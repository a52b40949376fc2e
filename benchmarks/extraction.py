"""How near is extraction to what the network alone allows, and how far ahead of the obvious script?

    python benchmarks/extraction.py DATA --backbone alexnet:weights=random [--files 60] [--precision fp32]

Three rates in one run, in segments a second: the network's forward pass alone on batches that are already in memory, at
the best of several batch sizes; from audio files to features on disk, as bserkit does it; and the obvious script, file
by file and channel by channel in fp32, resized by the general routine. Each is the best of several rounds, the three in
turn, so that a machine that slows down slows all of them.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import soundfile
import torch
from torch.nn import functional
from torchaudio.functional import resample

from bserkit.audio import content_digest
from bserkit.config import resolve
from bserkit.corpus import Utterance, read_corpus
from bserkit.extraction import BATCH_SEGMENTS, Extraction, extract, pending
from bserkit.plugins import load_plugins
from bserkit.progress import Silent
from bserkit.store import FeatureStore

ROUNDS = 3


def forward_alone(extraction: Extraction, batch: int, segments: int = 256) -> float:
    """Return the segments a second of the network alone, pictures resident in memory and in its own layout."""
    dtype = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[extraction.precision]
    module = extraction.backbone.load(extraction.device).to(dtype).to(memory_format=torch.channels_last)
    with torch.inference_mode():
        planes = torch.randn(batch, 3, 64, 64, device=extraction.device, dtype=dtype)
        pictures = module.reader(planes).contiguous(memory_format=torch.channels_last)
        module.network(pictures)
        rounds = max(1, segments // batch)
        began = time.perf_counter()
        for _ in range(rounds):
            module.network(pictures)
        if extraction.device != "cpu":
            torch.cuda.synchronize()
        return rounds * batch / (time.perf_counter() - began)


def files_to_disk(extraction: Extraction, utterances: list[Utterance]) -> float:
    """Return the segments a second from audio files to features on disk, the network being loaded already."""
    with tempfile.TemporaryDirectory() as folder:
        store = FeatureStore(Path(folder))
        work = pending(utterances, [content_digest(utterance) for utterance in utterances], extraction, store)
        began = time.perf_counter()
        segments = extract(work, store, Silent())
        return segments / (time.perf_counter() - began)


def obvious_script(extraction: Extraction, utterances: list[Utterance]) -> float:
    """Return the segments a second of a plain loop."""
    module = extraction.backbone.load("cpu")
    size = extraction.backbone.picture_size()
    segments = 0
    began = time.perf_counter()
    with torch.inference_mode(), tempfile.TemporaryDirectory() as folder:
        for index, utterance in enumerate(utterances):
            samples, rate = soundfile.read(utterance.path, dtype="float32", always_2d=True)
            left, right = resample(torch.from_numpy(np.ascontiguousarray(samples.T)), rate, 16000).expand(2, -1)
            for channel, wave in enumerate((left, right, left + right, left - right)):
                planes = extraction.frontend.segments(wave[None], 16000).planes[0]
                low, high = planes.amin((-2, -1), keepdim=True), planes.amax((-2, -1), keepdim=True)
                grey = (planes - low) / (high - low).clamp(min=1e-4)
                pictures = functional.interpolate(
                    (grey - module.reader.mean) / module.reader.std, size=(size, size), mode="bilinear"
                )
                np.save(Path(folder) / f"{index}-{channel}.npy", module.network(pictures).flatten(1).numpy())
                segments += len(planes)
    return segments / (time.perf_counter() - began)


def main() -> None:
    """Measure and print a table and a line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--backbone", default="alexnet:weights=random")
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--files", type=int, default=60)
    given = parser.parse_args()
    settings = resolve(
        {"data": given.data, "backbone": given.backbone, "precision": given.precision}, load_plugins((), False)
    )
    utterances = list(read_corpus(given.data, settings.corpus).utterances)
    utterances = utterances[:: max(1, len(utterances) // given.files)][: given.files]
    extraction = settings.extraction
    batches = sorted(
        {BATCH_SEGMENTS["cpu"], 8, 16, 32, 64, BATCH_SEGMENTS["cuda"] if extraction.device != "cpu" else 64}
    )
    measures: dict[str, Callable[[], float]] = {
        "network alone": lambda: max(forward_alone(extraction, batch) for batch in batches),
        "files to disk": lambda: files_to_disk(extraction, utterances),
        "obvious script": lambda: obvious_script(extraction, utterances),
    }
    best = dict.fromkeys(measures, 0.0)
    for _ in range(ROUNDS):
        for name, measured in measures.items():
            best[name] = max(best[name], measured())
    result = {
        "backbone": extraction.backbone.spec,
        "precision": extraction.precision,
        "files": len(utterances),
        **{name: round(rate, 1) for name, rate in best.items()},
        "share of the network alone": round(best["files to disk"] / best["network alone"], 3),
        "times the obvious script": round(best["files to disk"] / best["obvious script"], 2),
    }
    for name, value in result.items():
        print(f"{name:<28}{value}")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
