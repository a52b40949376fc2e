"""Backbones: what must hold of them."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING
from unittest import SkipTest

import numpy as np

from bserkit.component import identity
from bserkit.devices import compute_whole_fp32, resolve_device
from bserkit.features.backbones import Backbone
from bserkit.features.contracts import features_of, frames_of, loaded, vectors_of, weights_digest
from bserkit.testing.behaviour import Kind
from bserkit.testing.expecting import expect, expect_near, near
from bserkit.testing.recipes import variants
from bserkit.testing.samples import sample_planes, sample_stereo

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import torch

#: What a processor and a GPU may differ by, as a share of the largest number.
_GPU_SHARE = 1e-3
#: What a waveform that is filled up may differ by from what it is alone, likewise.
_FILLED_SHARE = 1e-3


def makes_the_feature_of_each_segment(backbone: Backbone) -> None:
    """Of segments it makes finite vectors: as many as ``frame_bounds`` and numbers as ``feature_size`` say."""
    _check_vectors(backbone, _given(backbone, 0), "noise")


def makes_the_feature_of_silence(backbone: Backbone) -> None:
    """Of segments without contrast it makes finite features too: a channel may be silent."""
    _check_vectors(backbone, 0 * _given(backbone, 0), "silence")


def has_frames_of_longer_segments_too(backbone: Backbone) -> None:
    """The bounds of a longer segment's frames begin with those of a shorter one."""
    longest = _given(backbone, 0).shape[-1]
    before = frames_of(backbone, longest // 2, "noise")
    for length in (longest * 3 // 4, longest):
        bounds = frames_of(backbone, length, "noise")
        known = before is not None and bounds is not None and np.array_equal(bounds[: len(before)], before)
        expect(
            known or before is bounds is None,
            f"backbone {backbone.name} has frame_bounds({length}) that do not begin with those of a shorter segment.",
        )
        before = bounds


def ignores_filling(backbone: Backbone) -> None:
    """Of a waveform that is filled up with zeros, and masked, it makes what it makes of it alone."""
    import torch

    network, _ = loaded(backbone, "cpu")
    waveform = _given(backbone, 0)[:1]
    alone = _features(backbone, network, waveform)
    filled = torch.nn.functional.pad(waveform, (0, waveform.shape[1] // 2))
    mask = torch.arange(filled.shape[1])[None] < waveform.shape[1]
    with torch.inference_mode():
        made = network(filled, mask)
    frames = alone.shape[1] if alone.ndim == 3 else None
    expect_near(
        alone,
        made if frames is None else made[:, :frames],
        f"backbone {backbone.name} makes something else of a waveform that is filled up with zeros than of it alone. "
        "Use the mask wherever it takes a mean or normalises.",
        _FILLED_SHARE,
    )


def loads_in_evaluation_mode(backbone: Backbone) -> None:
    """``load`` returns a network of which nothing is in training mode, where dropout and batch norms differ."""
    network = backbone.load("cpu")
    learning = [name or type(module).__name__ for name, module in network.named_modules() if module.training]
    expect(
        not learning,
        f"backbone {backbone.name} loads a network in training mode ({', '.join(learning[:3])}); call its eval().",
    )


def names_its_weights(backbone: Backbone) -> None:
    """``weights_digest`` is text, the same whenever it is asked for."""
    first, again = weights_digest(backbone), weights_digest(backbone)
    expect(
        first == again,
        f"backbone {backbone.name} has weights_digest() {first!r}, then {again!r}; expected one name as long as the "
        "weights are the same, or features would never be found again.",
    )


def names_what_changes_features(backbone: Backbone) -> None:
    """Where another parameter gives other features, they are kept under another name."""
    kept = _kept_as(backbone)
    _, *others = variants(backbone, numbers=True)
    alike = [one for one in others if _kept_as(one) == kept]
    made = _made(backbone, _given(backbone, 0)) if alike else None
    for one in alike:
        expect(
            near(made, _made(one, _given(one, 0)), 0.0),
            f"The features of backbone {one.spec} differ from those of {backbone.spec}, but would be kept under the "
            "same name. Let recipe() or weights_digest() say what sets them apart.",
        )


def ignores_other_segments(backbone: Backbone) -> None:
    """A segment's feature is the same whichever other segments are in the batch."""
    network, _ = loaded(backbone, "cpu")
    planes, others = _given(backbone, 0), _given(backbone, 1)
    others[:2] = planes[:2]
    expect_near(
        _features(backbone, network, planes)[:2],
        _features(backbone, network, others)[:2],
        f"The feature that backbone {backbone.name} makes of a segment depends on the others in its batch. Compute "
        "each row from its own segment alone, with batch norms in evaluation mode.",
    )


def ignores_the_order_of_segments(backbone: Backbone) -> None:
    """A segment's feature is the same wherever it stands in the batch."""
    network, _ = loaded(backbone, "cpu")
    planes = _given(backbone, 0)
    expect_near(
        _features(backbone, network, planes),
        _features(backbone, network, planes.flip(0)).flip(0),
        f"The feature that backbone {backbone.name} makes of a segment depends on where it stands in its batch.",
    )


def can_be_differentiated(backbone: Backbone) -> None:
    """Its features can be differentiated, so that it can be fine-tuned."""
    network, _ = loaded(backbone, "cpu")
    planes = sample_planes(0).requires_grad_()
    made = network(planes)
    expect(
        made.requires_grad,
        f"The features of backbone {backbone.name} cannot be differentiated; leave no_grad, inference_mode and detach "
        "to others.",
    )
    made.square().sum().backward()
    gradient = planes.grad
    expect(
        gradient is not None and bool(gradient.isfinite().all()) and bool(gradient.any()),
        f"The gradient of the features of backbone {backbone.name} is zero or not finite.",
    )


def restores_fine_tuned_weights(backbone: Backbone) -> None:
    """``with_weights`` gives the features of the values that ``state`` returned, under a name of their own."""
    import torch
    from safetensors.torch import save_file

    network, _ = loaded(backbone, "cpu")
    if not list(network.parameters()):
        raise SkipTest("its network has no parameters")
    with torch.no_grad():
        for values in network.parameters():
            values.mul_(0.9)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "weights.safetensors"
        save_file({name: values.clone().contiguous() for name, values in backbone.state(network).items()}, path)
        tuned = backbone.with_weights(path)
        expect_near(
            _features(backbone, network, sample_planes(0)),
            _made(tuned, sample_planes(0)),
            f"backbone {backbone.name} does not give the features that it was fine-tuned to after state() and "
            "with_weights().",
        )
        expect(
            _kept_as(tuned) != _kept_as(backbone),
            f"backbone {backbone.name} keeps fine-tuned features under the name of those before fine-tuning.",
        )


def computes_the_same_on_a_gpu(backbone: Backbone) -> None:
    """Where there is a GPU, it gives the same features up to rounding."""
    device = gpu()
    if not device:
        raise SkipTest("there is no GPU")
    planes = _given(backbone, 0)
    network, _ = loaded(backbone, device)
    compute_whole_fp32()
    expect_near(
        _made(backbone, planes),
        _features(backbone, network, planes.to(device)),
        f"backbone {backbone.name} makes something else on {device} than on cpu.",
        _GPU_SHARE,
    )


def gpu() -> str:
    """Return the GPU that there is; empty where there is none."""
    device = resolve_device("auto")
    return "" if device == "cpu" else device


def _kept_as(backbone: Backbone) -> str:
    """Return what its features are kept under."""
    return json.dumps([identity(backbone, backbone.recipe()), weights_digest(backbone)], sort_keys=True)


def _check_vectors(backbone: Backbone, given: torch.Tensor, where: str) -> None:
    """Check what a network makes of segments as extraction does."""
    network, size = loaded(backbone, "cpu")
    made = features_of(backbone, _features(backbone, network, given), len(given), given.shape[-1], size, where)
    vectors_of(backbone, made.numpy(), made.shape[0] * made.shape[1], where)


def _features(backbone: Backbone, network: torch.nn.Module, given: torch.Tensor) -> torch.Tensor:
    import torch

    with torch.inference_mode():
        mask = [torch.ones_like(given, dtype=torch.bool)] if backbone.batching == "masked" else []
        made: torch.Tensor = network(given, *mask)
    return made


def _given(backbone: Backbone, seed: int) -> torch.Tensor:
    """Return segments: planes, or as many waveforms as it takes at a time."""
    if backbone.reads == "planes":
        return sample_planes(seed)
    import torch

    rate: int = getattr(backbone, "sample_rate")  # noqa: B009
    each = range(1 if backbone.batching == "one" else 6)
    return torch.cat([sample_stereo(100 * seed + index, sample_rate=rate)[:1] for index in each])


def _made(backbone: Backbone, given: torch.Tensor) -> torch.Tensor:
    return _features(backbone, backbone.load("cpu"), given)


def _checks(backbone: Backbone) -> Iterator[Callable[[Backbone], None]]:
    yield names_its_weights
    yield names_what_changes_features
    yield loads_in_evaluation_mode
    yield makes_the_feature_of_each_segment
    yield makes_the_feature_of_silence
    yield has_frames_of_longer_segments_too
    if backbone.reads == "planes" or backbone.batching != "one":
        yield ignores_other_segments
        yield ignores_the_order_of_segments
    if backbone.batching == "masked":
        yield ignores_filling
    if backbone.reads == "planes":
        yield can_be_differentiated
        yield restores_fine_tuned_weights
    yield computes_the_same_on_a_gpu


KIND = Kind(Backbone, _given, _made, _checks, threads=lambda backbone: backbone.concurrent)
