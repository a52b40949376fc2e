"""How near is extraction to what the network alone allows, and how far ahead of the obvious script?

    python benchmarks/extraction.py CORPUS [--backbone SPEC] [--precision fp32] [--device auto] [--files 60]
        [--plain-files 60] [--quick] [--json FILE]

Rates in one run, in segments a second: the network's forward pass alone on pictures that are already in memory, at the
best of several batch sizes; from planes that are in memory to features; from waveforms that are in the device's memory
to features; from audio files to features on disk, as bserkit does it; and the obvious script, file by file and channel
by channel in fp32 on the processor, resized by the general routine. They are measured in turn, round by round, so that
a machine that slows down slows all of them; a ratio is the median of those within the rounds. What each step costs by
itself on one core tells where the rest goes.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from statistics import median

import numpy as np
import soundfile
import torch
from figures import Figure, parser, report
from torch.nn import functional
from torchaudio.functional import resample

from bserkit.corpora.audio import content_digest
from bserkit.corpora.reading import Utterance, read_corpus
from bserkit.devices import memory_kept
from bserkit.experiments.settings import resolve
from bserkit.features.batches import BATCH_SEGMENTS, Network, batched
from bserkit.features.extraction import Extraction, extract, pending
from bserkit.features.preparing import Piece, prepared, waveforms
from bserkit.plugins.registry import load_plugins
from bserkit.store import FeatureStore
from bserkit.workspace import Workspace


def every_channel(extraction: Extraction, utterances: list[Utterance]) -> dict[str, tuple[Utterance, list[str]]]:
    """Return, by digest, each utterance with the channels that are made of it."""
    channels = list(extraction.transform_of())
    return {content_digest(utterance): (utterance, channels) for utterance in utterances}


def forward_alone(extraction: Extraction, batches: list[int]) -> float:
    """Return the segments a second of the network alone at its best: its own layout, pictures in its memory."""
    dtype = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[extraction.precision]
    module = extraction.backbone.load(extraction.device).to(dtype).to(memory_format=torch.channels_last)
    rates, segments = [], 256 if extraction.device == "cpu" else 4096
    with torch.inference_mode(), memory_kept():
        for batch in batches:
            planes = torch.randn(batch, 3, 64, 64, device=extraction.device, dtype=dtype)
            pictures = module.reader(planes).contiguous(memory_format=torch.channels_last)
            module.network(pictures)
            finish(extraction)
            rounds = max(1, segments // batch)
            began = time.perf_counter()
            for _ in range(rounds):
                module.network(pictures)
            finish(extraction)
            rates.append(rounds * batch / (time.perf_counter() - began))
    return max(rates)


def finish(extraction: Extraction) -> None:
    """Wait for what a GPU is at."""
    if extraction.device != "cpu":
        torch.cuda.synchronize()


def files_to_disk(extraction: Extraction, utterances: list[Utterance]) -> float:
    """Return the segments a second from audio files to features on disk, the network being loaded already."""
    with tempfile.TemporaryDirectory() as folder:
        store = FeatureStore(Path(folder))
        work = pending(utterances, [content_digest(utterance) for utterance in utterances], extraction, store)
        began = time.perf_counter()
        segments = extract(work, Workspace(store))
        return segments / (time.perf_counter() - began)


def planes_to_features(extraction: Extraction, utterances: list[Utterance]) -> float:
    """Return the segments a second of what is left of ``files_to_disk`` once the frontend is done with all files."""
    wanted = every_channel(extraction, utterances)
    pieces, network = list(prepared(wanted, extraction)), Network(extraction)
    with memory_kept():
        began = time.perf_counter()
        segments = sum(len(features) for _, features in batched(pieces, network, wanted))
        return segments / (time.perf_counter() - began)


def resident_audio(extraction: Extraction, utterances: list[Utterance]) -> float:
    """Return the segments a second from waveforms of all channels in the device's memory to features."""
    wanted, network = every_channel(extraction, utterances), Network(extraction)
    channels = list(extraction.transform_of())
    whole = [next(waveforms(one, channels, extraction.transforms, 1 << 30)) for one in utterances]
    held = [(waveform.to(extraction.device), rate) for waveform, rate in whole]
    with memory_kept(), torch.inference_mode():
        began = time.perf_counter()
        pieces = (
            Piece(digest, channel, extraction.frontend.segments(one, rate), last=True)
            for digest, (waveform, rate) in zip(wanted, held, strict=True)
            for channel, one in zip(channels, waveform.split(1), strict=True)
        )
        segments = sum(len(features) for _, features in batched(pieces, network, wanted))
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


def processor_time(extraction: Extraction, utterances: list[Utterance]) -> dict[str, float]:
    """Return what each step costs by itself on one core, milliseconds of processor time a segment."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        wanted = every_channel(extraction, utterances)
        began = time.process_time()
        pieces = list(prepared(wanted, extraction))
        planes = torch.cat([piece.segments.planes.flatten(0, 1) for piece in pieces])
        spent = {"decoding and frontend": 1000 * (time.process_time() - began) / len(planes)}
        module = extraction.backbone.load("cpu").to(memory_format=torch.channels_last)
        batches = list(planes.split(BATCH_SEGMENTS["cpu"]))[:4]
        count = sum(map(len, batches))
        with torch.inference_mode(), memory_kept():
            module(batches[0])
            began = time.process_time()
            pictures = [module.reader(batch).contiguous(memory_format=torch.channels_last) for batch in batches]
            read = time.process_time()
            for picture in pictures:
                module.network(picture)
            spent["planes to pictures"] = 1000 * (read - began) / count
            spent["network"] = 1000 * (time.process_time() - read) / count
        return spent
    finally:
        torch.set_num_threads(threads)


def main() -> None:
    """Measure in turn, print a table and write the figures."""
    options = parser(__doc__)
    options.add_argument("corpus", type=Path)
    options.add_argument("--backbone", default="alexnet:weights=random")
    options.add_argument("--precision", default="fp32")
    options.add_argument("--device", default="auto")
    options.add_argument("--files", type=int, default=60)
    options.add_argument("--plain-files", type=int, default=60, help="how many of them the obvious script is given")
    options.add_argument("--rounds", type=int, default=5)
    options.add_argument("--quick", action="store_true", help="one round of six files: a test of the benchmark")
    given = options.parse_args()
    files, rounds = (6, 1) if given.quick else (given.files, given.rounds)
    asked = {name: getattr(given, name) for name in ("backbone", "precision", "device")} | {"data": given.corpus}
    settings = resolve(asked, load_plugins((), False))
    utterances = list(read_corpus(given.corpus, settings.corpus).utterances)
    utterances = utterances[:: max(1, len(utterances) // files)][:files]
    extraction = settings.extraction
    batches = sorted({8, 16, 32, 64, 128, BATCH_SEGMENTS[extraction.device.partition(":")[0]]})
    measures: dict[str, Callable[[], float]] = {
        "network alone": lambda: forward_alone(extraction, batches),
        "planes to features": lambda: planes_to_features(extraction, utterances),
        "audio in memory to features": lambda: resident_audio(extraction, utterances),
        "files to disk": lambda: files_to_disk(extraction, utterances),
        "obvious script": lambda: obvious_script(extraction, utterances[: given.plain_files]),
    }
    found: dict[str, list[float]] = {name: [] for name in measures}
    for _ in range(rounds):
        for name, measured in measures.items():
            found[name].append(measured())

    def ratio(one: str, other: str) -> float:
        return median(ours / theirs for ours, theirs in zip(found[one], found[other], strict=True))

    figures = {
        "files to disk, share of the network alone": Figure(
            ratio("files to disk", "network alone"), "of 1", "higher", 0.9
        ),
        "planes to features, share of the network alone": Figure(
            ratio("planes to features", "network alone"), "of 1", "higher"
        ),
        "files to disk, times the obvious script": Figure(
            ratio("files to disk", "obvious script"), "times", "higher", 3.0
        ),
    }
    gpu = extraction.device != "cpu"
    goals = {"audio in memory to features": 30000.0} if gpu else {}
    figures |= {name: Figure(median(rates), "segments/s", "higher", goals.get(name)) for name, rates in found.items()}
    notes = [f"{len(utterances)} files, {rounds} rounds, {extraction.backbone.spec} in {extraction.precision}"]
    if not gpu:
        notes.append("no GPU here: its extraction from audio in memory (goal: 30,000 segments/s) was not measured")
        spent = processor_time(replace(extraction, precision="fp32"), utterances[:6])
        figures |= {f"fp32 on one core: {step}": Figure(ms, "ms/segment", "lower") for step, ms in spent.items()}
        most = median(found["network alone"]) / median(found["obvious script"])
        notes.append(
            f"with nothing but the network, extraction would be {most:.2f} times the obvious script: in fp32 both "
            "spend most of their time in the same products of matrices, and only faster arithmetic sets them apart"
        )
    report("extraction", figures, given.json, notes)


if __name__ == "__main__":
    main()
