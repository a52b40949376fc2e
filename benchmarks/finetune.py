"""How fast does a network learn, against a plain PyTorch loop of the same network on the same device?

    python benchmarks/finetune.py [--backbone alexnet:weights=random] [--batches 3] [--device auto] [--json FILE]

The plain loop is what a tutorial writes: planes resized by the general routine, fp32, the default memory layout, SGD,
the loss read after each step. Both learn batches of 30 random segments of seven classes; they take turns, and the
quickest round of each counts. How far the package is from what the processor can do at all is told by the fastest
product of large matrices, which multiplies and adds and does nothing else. On a GPU, 300 epochs of four channels of
5,141 segments each, the paper's largest training, are foretold from the speed.
"""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import torch
from figures import Figure, parser, report
from torch import nn
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from bserkit.corpora.reading import Utterance
from bserkit.experiments.settings import resolve
from bserkit.features.extraction import Extraction
from bserkit.features.finetuning import Item, Sgd, Training
from bserkit.features.training import _begin, _one_epoch, _Segments, _steps
from bserkit.plugins.registry import load_plugins

ROUNDS = 3
CLASSES = [f"class{number}" for number in range(7)]
PAPERS_SEGMENTS, PAPERS_EPOCHS, PAPERS_CHANNELS = 5141, 300, 4


def training_of(extraction: Extraction) -> Training:
    """Return what the package would learn from: the benchmark brings the segments along."""
    items = tuple(Item(name, name, Utterance(Path(name), name, "")) for name in CLASSES)
    return Training(Sgd(), extraction.of_channel("left"), "left", "fold", items, ())


def package_loop(extraction: Extraction, planes: torch.Tensor, labels: torch.Tensor) -> float:
    """Return the seconds of one epoch as the package does it, after one that warms up."""
    training = training_of(extraction)
    model, optimiser = _begin(training)
    steps = _steps(training, model, optimiser, torch.ones(len(CLASSES), device=extraction.device))
    # On a GPU until steps are recorded.
    first = 30 if extraction.device == "cpu" else 150
    _one_epoch(training, steps, _Segments(planes[:first], labels[:first]).near(extraction.device))
    return _one_epoch(training, steps, _Segments(planes, labels).near(extraction.device))["seconds"]


def plain_loop(extraction: Extraction, planes: torch.Tensor, labels: torch.Tensor) -> float:
    """Return the seconds of the same epoch in a plain loop."""
    device, module = extraction.device, extraction.backbone.load(extraction.device)
    size = extraction.backbone.picture_size()
    model = nn.Sequential(
        module.network, nn.Flatten(), nn.Dropout(0.5), nn.Linear(extraction.backbone.feature_size(), len(CLASSES))
    ).to(device)
    optimiser = torch.optim.SGD(model.parameters(), lr=0.001, momentum=0.9, weight_decay=5e-4)
    mean, std = module.reader.mean, module.reader.std
    model.train()

    def step(rows: torch.Tensor) -> float:
        batch = planes[rows].to(device)
        low, high = batch.amin((-2, -1), keepdim=True), batch.amax((-2, -1), keepdim=True)
        grey = ((batch - low) / (high - low).clamp(min=1e-4) - mean) / std
        pictures = functional.interpolate(grey, size=(size, size), mode="bilinear", align_corners=False)
        loss = functional.cross_entropy(model(pictures), labels[rows].to(device))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        return loss.item()

    step(torch.arange(30))
    began = time.perf_counter()
    for rows in torch.randperm(len(labels)).split(30):
        step(rows)
    return time.perf_counter() - began


def operations(extraction: Extraction, planes: torch.Tensor, labels: torch.Tensor) -> float:
    """Return the multiplications and additions that a segment costs: forwards, backwards, but no optimiser."""
    model, _ = _begin(training_of(extraction))
    with FlopCounterMode(display=False) as counter:
        functional.cross_entropy(model(planes), labels).backward()
    return counter.get_total_flops() / len(planes)


def fastest_product(size: int = 4096) -> float:
    """Return the most multiplications and additions a second, of a product of two square fp32 matrices."""
    left, right = torch.randn(2, size, size)
    seconds = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        torch.mm(left, right)
        seconds.append(time.perf_counter() - began)
    return 2 * size**3 / min(seconds)


def main() -> None:
    """Measure both loops in turn."""
    options = parser(__doc__)
    options.add_argument("--backbone", default="alexnet:weights=random")
    options.add_argument("--batches", type=int, default=3, help="of 30 segments; a GPU wants 100 or more")
    options.add_argument("--device", default="auto")
    given = options.parse_args()
    settings = resolve({"backbone": given.backbone, "device": given.device}, load_plugins(outside=False))
    extraction, notes = settings.extraction, []
    gpu = extraction.device != "cpu"
    torch.manual_seed(0)
    planes = torch.randn(30 * given.batches, 3, 64, 64)
    labels = torch.arange(len(planes)) % len(CLASSES)
    ways = {extraction.precision: extraction}
    if extraction.precision == "fp32":
        ways["bf16"] = replace(extraction, precision="bf16")
    seconds: dict[str, list[float]] = {}
    for _ in range(ROUNDS):
        seconds.setdefault("plain", []).append(plain_loop(extraction, planes, labels))
        for precision, way in ways.items():
            seconds.setdefault(precision, []).append(package_loop(way, planes, labels))
    best = {name: len(planes) / min(taken) for name, taken in seconds.items()}
    place = "GPU" if gpu else "processor"
    figures = {
        f"fine-tuning on a {place}, times a plain loop": Figure(
            best[extraction.precision] / best["plain"], "times", "higher", None if gpu else 1.5
        )
    }
    for name, rate in best.items():
        figures[f"fine-tuning on a {place}, {name}"] = Figure(rate, "segments/s", "higher")
    notes.append(f"the first figure is in {extraction.precision}, what a run computes in unless asked")
    if gpu:
        whole = PAPERS_SEGMENTS * PAPERS_EPOCHS * PAPERS_CHANNELS / best[extraction.precision]
        figures["fine-tuning on a GPU, the paper's 300 epochs of four channels"] = Figure(whole, "s", "lower", 200.0)
    else:
        if extraction.precision == "fp32":
            arithmetic = best["fp32"] * operations(extraction, planes[:30], labels[:30])
            figures["fine-tuning on a processor, fp32, share of its fastest product of matrices"] = Figure(
                arithmetic / fastest_product(), "of 1", "higher"
            )
        notes.append("no GPU here: the paper's 300 epochs of four channels (goal: under 200 s) were not measured")
    report("finetune", figures, given.json, notes)


if __name__ == "__main__":
    main()
