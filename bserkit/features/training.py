"""The torch side of fine-tuning: one network learns, epoch by epoch; imported only where networks are fine-tuned.

After every epoch all that the next one needs is kept in the store, so that a killed run goes on from there. What an
epoch draws at random depends on its number alone (``Training.seed_of``), so no generator has to be kept.
"""

from __future__ import annotations

import json
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from filelock import FileLock
from safetensors.torch import load_file, save
from torch import Tensor, nn

from bserkit.devices import compute_whole_fp32, memory_kept
from bserkit.errors import BserkitError, UsageError
from bserkit.features.backbones import Backbone
from bserkit.features.batches import BATCH_SEGMENTS
from bserkit.features.contracts import loaded
from bserkit.features.finetuning import Epoch, Sgd, Trained, improves, is_over
from bserkit.features.preparing import prepared

if TYPE_CHECKING:
    from bserkit.features.finetuning import Item, Training
    from bserkit.store import FeatureStore

_CURVES = "curves.json"
_HELD_OUT_LOSS = "validation/loss"
#: An epoch's numbers that depend on the machine's clock.
_CLOCK = ("seconds", "segments_per_second")
_WEIGHTS = "weights.safetensors"
#: A backbone has frames whatever a segment's length is.
_ANY_STEPS = 64
#: Steps of each size of batch that are computed call by call before they are recorded, as CUDA asks for.
_UNRECORDED = 3


class _Decider(nn.Module):
    """An embedding with the new last layer: ``(segment, 3, mel, frame) -> (segment, class)``, before the softmax."""

    def __init__(self, embedding: nn.Module, features: int, classes: int, dropout: float) -> None:
        super().__init__()
        self.embedding = embedding
        self.dropout = nn.Dropout(dropout)
        self.last = nn.Linear(features, classes)

    def forward(self, planes: Tensor) -> Tensor:
        scores: Tensor = self.last(self.dropout(self.embedding(planes)))
        return scores.float()


@dataclass(frozen=True)
class _Segments:
    """``(segment, 3, mel, frame)`` planes and the ``(segment,)`` class number of each, in one device's memory."""

    planes: Tensor
    labels: Tensor

    def near(self, device: str) -> _Segments:
        """Return them in a device's memory, if they take no more than half of what is free there."""
        if device == "cpu" or 2 * self.planes.nbytes > torch.cuda.mem_get_info(device)[0]:
            return self
        return _Segments(self.planes.to(device), self.labels.to(device))


class _Steps:
    """Takes steps of learning, and sums up what they say of an epoch.

    Attributes:
        model: what learns.
        loss_sum: the losses of all segments since it was last set to zero.
        right: how many of these were decided as they are labelled.
    """

    def __init__(self, training: Training, model: _Decider, optimiser: torch.optim.SGD, weights: Tensor) -> None:
        self.model = model
        self._training, self._optimiser, self._weights = training, optimiser, weights
        self._device = device = training.extraction.device
        self.loss_sum, self.right = torch.zeros((), device=device), torch.zeros((), device=device)

    def take(self, planes: Tensor, labels: Tensor) -> None:
        """Learn from one batch, ``(segment, 3, mel, frame)`` and ``(segment,)``, on any device."""
        labels = labels.to(self._device)
        with _arithmetic(self._training):
            scores = self.model(planes.to(self._device))
        loss = nn.functional.cross_entropy(scores, labels, self._weights)
        self._optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        self._optimiser.step()
        self.loss_sum += loss.detach() * len(labels)
        self.right += (scores.argmax(dim=1) == labels).sum()


class _ReplayedSteps(_Steps):
    """Steps on a GPU, recorded as CUDA graphs, one for each size of batch, and replayed.

    A step is hundreds of operations; to ask for each takes longer than the GPU needs for them. The first steps of each
    size are taken as they are, and show whether they can be recorded. Dropout draws the same numbers either way.
    """

    def __init__(self, training: Training, model: _Decider, optimiser: torch.optim.SGD, weights: Tensor) -> None:
        super().__init__(training, model, optimiser, weights)
        self._possible = True
        self._stream = torch.cuda.Stream(self._device)  # type: ignore[no-untyped-call]
        self._taken: Counter[int] = Counter()
        self._recorded: dict[int, tuple[torch.cuda.CUDAGraph, Tensor, Tensor]] = {}

    def take(self, planes: Tensor, labels: Tensor) -> None:
        """Learn from one batch, ``(segment, 3, mel, frame)`` and ``(segment,)``, on any device."""
        size = len(labels)
        if self._possible and size not in self._recorded and self._taken[size] == _UNRECORDED:
            self._recorded[size] = self._record(planes, labels)
        if size in self._recorded:
            graph, own_planes, own_labels = self._recorded[size]
            own_planes.copy_(planes)
            own_labels.copy_(labels)
            graph.replay()
            return
        planes, labels = planes.to(self._device), labels.to(self._device)
        if not self._possible:
            super().take(planes, labels)
            return
        around = torch.cuda.current_stream(self._device)
        self._stream.wait_stream(around)
        with torch.cuda.stream(self._stream):
            # Its first time a network may wait for the GPU, to make ready.
            if self._taken[size]:
                self._possible = not self._take_watched(planes, labels)
            else:
                super().take(planes, labels)
        around.wait_stream(self._stream)
        self._taken[size] += 1

    def _take_watched(self, planes: Tensor, labels: Tensor) -> bool:
        """Take a step, and say whether it waited for the GPU, which no graph can."""
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            torch.cuda.set_sync_debug_mode("warn")
            try:
                super().take(planes, labels)
            finally:
                torch.cuda.set_sync_debug_mode("default")
        return any("called a synchronizing" in str(one.message) for one in told)

    def _record(self, planes: Tensor, labels: Tensor) -> tuple[torch.cuda.CUDAGraph, Tensor, Tensor]:
        """Return a step, which is not taken, and the memory from which it reads a batch of this size."""
        graph = torch.cuda.CUDAGraph()
        own_planes, own_labels = (one.to(self._device, copy=True) for one in (planes, labels))
        # Only one is replayed at a time, so they share the memory that they compute in.
        pool = next((one.pool() for one, _, _ in self._recorded.values()), None)
        self._optimiser.zero_grad()
        with torch.cuda.device(self._device), torch.cuda.graph(graph, pool, self._stream):
            super().take(own_planes, own_labels)
        return graph, own_planes, own_labels


def check_trainable(recipe: Sgd, backbone: Backbone) -> None:
    """Load the backbone once, so that what cannot be fine-tuned is told before any work.

    Raises:
        UsageError: nothing in it can be changed, or nothing is left to change; or it makes several vectors a segment.
        BserkitError: the weights cannot be had or do not fit the architecture.
    """
    network, _ = loaded(backbone, "cpu")
    if backbone.frame_bounds(_ANY_STEPS) is not None:
        raise UsageError(
            f"--finetune learns from one vector a segment, but backbone {backbone.spec} makes one a frame. Leave "
            "--finetune out."
        )
    if not any(value.requires_grad for value in network.parameters()):
        raise UsageError(f"backbone {backbone.spec} has nothing that can be fine-tuned; leave --finetune out.")
    _freeze(network, recipe)
    if not any(value.requires_grad for value in network.parameters()):
        raise UsageError(
            f"backbone {backbone.spec} is made of convolutions alone, so freeze=conv leaves nothing to fine-tune; use "
            "freeze=none."
        )


def is_trained(training: Training, store: FeatureStore) -> bool:
    """Say whether the store keeps the network, trained to the end."""
    return (store.training_folder(training.identity()) / _WEIGHTS).exists()


def train(training: Training, store: FeatureStore, note: Callable[[int, Epoch], None]) -> Trained:
    """Fine-tune one network, going on from the last epoch that the store keeps of it.

    All of its segments are held in memory, 49 kB each where planes are 3 x 64 x 64: 600 MB an hour of speech,
    and twice that while they are read. On a GPU they are held in its memory while they take half of it at most.

    Args:
        note: called with each epoch's number, from 1, and its numbers; epochs of an earlier run come first.

    Raises:
        BserkitError: audio cannot be read, the disk is full, or the loss is not a number.
    """
    folder = store.open_training(training.identity())
    weights = folder / _WEIGHTS
    # A second process that needs the same network waits for it rather than train it too.
    with FileLock(folder / "lock"):
        kept = store.read_notes(weights)
        if kept is None:
            state, curves = _learn(training, store, folder / "checkpoint.safetensors", note)
            store.write_json(folder / _CURVES, curves)
            # Where the weights are, everything is: they hold the curves too, but for the clock's numbers, so that the
            # same training gives the same file.
            timeless = [{name: one[name] for name in one if name not in _CLOCK} for one in curves]
            store.write_network(weights, save(state), {"curves": json.dumps(timeless)})
            (folder / "checkpoint.safetensors").unlink(missing_ok=True)
        else:
            curves = store.read_json(folder / _CURVES) or json.loads(kept["curves"])
            for epoch, numbers in enumerate(curves, start=1):
                note(epoch, numbers)
    return Trained(training.extraction.backbone.with_weights(weights), weights, curves, reused=kept is not None)


def _learn(
    training: Training, store: FeatureStore, checkpoint: Path, note: Callable[[int, Epoch], None]
) -> tuple[dict[str, Tensor], list[Epoch]]:
    """Return what the weights file must hold, and the curves."""
    recipe, device = training.recipe, training.extraction.device
    with _own_generator(device):
        learned = _load(training, training.learned)
        held_out = _load(training, training.held_out) if training.held_out else None
        torch.manual_seed(training.seed_of(0))
        model, optimiser = _begin(training)
        learned, held_out = learned.near(device), held_out.near(device) if held_out else None
        # After whatever the backbone's own code has set.
        compute_whole_fp32()
        best: dict[str, Tensor] = {}
        curves = _resume(store, checkpoint, model, optimiser, best)
        for epoch, numbers in enumerate(curves, start=1):
            note(epoch, numbers)
        weights = torch.tensor(training.class_weights(), device=device)
        steps = _steps(training, model, optimiser, weights)
        while len(curves) < recipe.epochs and not is_over(_held_out_losses(curves), recipe.patience):
            epoch = len(curves) + 1
            torch.manual_seed(training.seed_of(epoch))
            numbers = _one_epoch(training, steps, learned)
            if held_out:
                numbers |= _judge(training, model, held_out, weights)
            curves.append(numbers)
            if held_out and improves(_held_out_losses(curves))[-1]:
                best = _plain(model.embedding.state_dict())
            _keep(store, checkpoint, model, optimiser, best, curves)
            note(epoch, numbers)
        if best:
            model.embedding.load_state_dict(best)
    return _plain(training.extraction.backbone.state(model.embedding)), curves


@contextmanager
def _own_generator(device: str) -> Iterator[None]:
    """Draw from torch's generators and leave them as they were."""
    with torch.random.fork_rng(devices=[device] if device != "cpu" else []):
        yield


def _load(training: Training, items: Sequence[Item]) -> _Segments:
    """Read the segments of one channel of the items; each has its utterance's label."""
    wanted = {item.digest: (item.utterance, [training.channel]) for item in items}
    planes: dict[str, list[Tensor]] = {}
    with closing(prepared(wanted, training.extraction)) as pieces:
        for piece in pieces:
            planes.setdefault(piece.digest, []).append(piece.segments.planes[0])
    number_of = {name: number for number, name in enumerate(training.classes)}
    counts = torch.tensor([sum(map(len, planes[item.digest])) for item in items])
    labels = torch.tensor([number_of[item.label] for item in items])
    return _Segments(
        torch.cat([part for item in items for part in planes[item.digest]]), labels.repeat_interleave(counts)
    )


def _begin(training: Training) -> tuple[_Decider, torch.optim.SGD]:
    """Return the backbone with a new last layer, and what will change it."""
    recipe, extraction = training.recipe, training.extraction
    embedding, size = loaded(extraction.backbone, extraction.device)
    _freeze(embedding, recipe)
    model = _Decider(embedding, size, len(training.classes), recipe.dropout)
    model.to(extraction.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    changed = [value for value in model.parameters() if value.requires_grad]
    # In one pass over the values, which for AlexNet's 57 million takes half the time of several.
    return model, torch.optim.SGD(changed, recipe.lr, recipe.momentum, weight_decay=recipe.weight_decay, fused=True)


def _steps(training: Training, model: _Decider, optimiser: torch.optim.SGD, weights: Tensor) -> _Steps:
    """Return what takes steps as fast as the device and the backbone allow."""
    replayed = training.extraction.device != "cpu" and training.extraction.backbone.replayable
    return (_ReplayedSteps if replayed else _Steps)(training, model, optimiser, weights)


def _freeze(network: nn.Module, recipe: Sgd) -> None:
    """Keep the values of the layers that the recipe names."""
    if recipe.freeze == "conv":
        for module in network.modules():
            if isinstance(module, nn.Conv1d | nn.Conv2d | nn.Conv3d):
                module.requires_grad_(False)


@memory_kept()
def _one_epoch(training: Training, steps: _Steps, segments: _Segments) -> Epoch:
    """Learn from every segment once, in an order drawn anew, by the softmax loss (eqs. 1-2)."""
    recipe, began = training.recipe, time.monotonic()
    count = len(segments.labels)
    steps.model.train()
    steps.loss_sum.zero_()
    steps.right.zero_()
    # The same order on every device. Batches are made equally large, since batch normalisation learns nothing from a
    # last one of a single segment.
    order = torch.randperm(count).to(segments.planes.device)
    for rows in order.tensor_split(-(-count // recipe.batch)):
        steps.take(segments.planes[rows], segments.labels[rows])
    if not torch.isfinite(steps.loss_sum):
        raise BserkitError(
            f"Fine-tuning {training.channel} without {training.fold}: the loss is not a number any more. Use a lower "
            f"learning rate than lr={recipe.lr:g}"
            + (" or --precision fp32." if training.extraction.precision != "fp32" else ".")
        )
    seconds = time.monotonic() - began
    return {
        "train/loss": steps.loss_sum.item() / count,
        "train/accuracy": steps.right.item() / count,
        "learning_rate": recipe.lr,
        "segments_per_second": count / max(1e-9, seconds),
        "seconds": seconds,
    }


def _judge(training: Training, model: _Decider, segments: _Segments, weights: Tensor) -> Epoch:
    """Measure the network on held-out segments, without dropout."""
    device = training.extraction.device
    model.eval()
    size = BATCH_SEGMENTS[device.partition(":")[0]]
    with torch.inference_mode(), _arithmetic(training):
        scores = torch.cat([model(planes.to(device)) for planes in torch.split(segments.planes, size)])
    labels = segments.labels.to(device)
    return {
        _HELD_OUT_LOSS: nn.functional.cross_entropy(scores, labels, weights).item(),
        "validation/accuracy": (scores.argmax(dim=1) == labels).float().mean().item(),
    }


def _arithmetic(training: Training) -> torch.autocast:
    """Multiply in bfloat16 where that was asked for; float16 is too narrow for gradients, so it learns in float32."""
    kind, wide = training.extraction.device.partition(":")[0], training.extraction.precision != "bf16"
    # What a graph replays must not be kept from step to step.
    return torch.autocast(kind, torch.bfloat16, enabled=not wide, cache_enabled=kind == "cpu")


def _held_out_losses(curves: Sequence[Epoch]) -> list[float]:
    return [numbers[_HELD_OUT_LOSS] for numbers in curves if _HELD_OUT_LOSS in numbers]


def _keep(
    store: FeatureStore,
    checkpoint: Path,
    model: _Decider,
    optimiser: torch.optim.SGD,
    best: dict[str, Tensor],
    curves: Sequence[Epoch],
) -> None:
    """Keep what the next epoch needs in one file, so that it is of one epoch altogether."""
    tensors = {f"model {name}": value for name, value in model.state_dict().items()}
    tensors |= {f"momentum {name}": value for name, value in _momenta(model, optimiser).items()}
    tensors |= {f"best {name}": value for name, value in best.items()}
    store.write_network(checkpoint, save(_plain(tensors)), {"curves": json.dumps(curves)})


def _resume(
    store: FeatureStore, checkpoint: Path, model: _Decider, optimiser: torch.optim.SGD, best: dict[str, Tensor]
) -> list[Epoch]:
    """Bring everything to where a checkpoint left it, if there is one, and return the curves so far."""
    notes = store.read_notes(checkpoint)
    if notes is None:
        return []
    curves: list[Epoch] = json.loads(notes["curves"])
    tensors = load_file(checkpoint)

    def of(part: str) -> dict[str, Tensor]:
        return {name.partition(" ")[2]: value for name, value in tensors.items() if name.startswith(f"{part} ")}

    model.load_state_dict(of("model"))
    parameters = dict(model.named_parameters())
    for name, value in of("momentum").items():
        # In its parameter's own layout, which the optimiser takes for granted.
        optimiser.state[parameters[name]]["momentum_buffer"] = torch.empty_like(parameters[name]).copy_(value)
    best |= of("best")
    return curves


def _momenta(model: _Decider, optimiser: torch.optim.SGD) -> dict[str, Tensor]:
    """Return the last step of each changing parameter, by name."""
    found = {name: optimiser.state.get(value, {}).get("momentum_buffer") for name, value in model.named_parameters()}
    return {name: value for name, value in found.items() if value is not None}


def _plain(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return values as a file takes them: on the processor, each in a place of its own."""
    return {
        name: value.detach().to("cpu", copy=True, memory_format=torch.contiguous_format)
        for name, value in state.items()
    }
