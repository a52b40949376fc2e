"""Contracts: what components return is checked where it enters the core, and what they raise is told with their name.

No component can switch a check of its own off. What a component is given is lent: it is the component's own copy, or
cannot be written to, so that nothing it does to it changes what others see.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from bserkit.errors import BserkitError, is_interrupt
from bserkit.features.frontends import SHAPES, Segments

if TYPE_CHECKING:
    from collections.abc import Iterator

    import torch

    from bserkit.component import Component
    from bserkit.features.backbones import Backbone
    from bserkit.features.channels import ChannelTransform
    from bserkit.features.frontends import Frontend
    from bserkit.features.pooling import FittedPooler, Pooler


@contextmanager
def asked(component: Component, what: str) -> Iterator[None]:
    """Name the component, and what it was asked for, beside whatever it raises."""
    try:
        yield
    except BserkitError:
        raise
    except Exception as error:
        if not is_interrupt(error):
            error.add_note(f"It was raised by {component.kind} {component.name}, asked for {what}.")
            if isinstance(error, ValueError) and "read-only" in str(error):
                error.add_note("What a component is given is lent: it must work on a copy, as numpy.array makes one.")
        raise


def transformed(transform: ChannelTransform, stereo: torch.Tensor, where: str) -> torch.Tensor:
    """Return ``(channel, time)`` that a transform makes of a copy of ``(2, time)``.

    Raises:
        BserkitError: it makes something else.
    """
    with asked(transform, f"the channels of {where}"):
        made = transform.transform(stereo.clone())
    shape = len(transform.outputs), stereo.shape[1]
    if not _is_floats(made) or made.shape != shape or not _finite(made):
        raise _refused(transform, made, where, f"finite (channel, time) = {shape}, rows {', '.join(transform.outputs)}")
    return made


def segments_of(frontend: Frontend, made: Any, where: str, after: float = 0.0) -> Segments:
    """Return what a frontend made of one channel of an utterance, times as 64-bit floats.

    Args:
        after: where the segment before these begins, seconds.

    Raises:
        BserkitError: it is something else than segments, or their times are none.
    """
    if not isinstance(made, tuple) or len(made) != 2 or not all(map(_is_floats, made)):
        raise _refused(frontend, made, where, "Segments(planes, times), two tensors of floats")
    planes, times = made
    if frontend.makes == "waveform":
        fits = planes.ndim == 3 and planes.shape[:2] == (1, len(times))
    else:
        fits = planes.ndim == 5 and planes.shape[:3] == (1, len(times), 3)
    if not fits or not planes.numel() or times.shape != (planes.shape[1], 2):
        raise BserkitError(
            f"frontend {frontend.name} made {frontend.makes} {tuple(planes.shape)} and times {tuple(times.shape)} of "
            f"{where}; expected {SHAPES[frontend.makes]}, with one channel, and (segment, 2)."
        )
    if not _finite(planes):
        raise _refused(frontend, planes, where, "finite planes")
    times = times.detach().cpu().double()
    starts, ends = times.T
    if not _finite(times) or bool((starts < after).any() or (ends <= starts).any() or (starts.diff() < 0).any()):
        raise _refused(
            frontend, times, where, "times in seconds: each segment's start from 0 on, in order, and its later end"
        )
    return Segments(planes, times)


def frames_of(backbone: Backbone, length: int, where: str) -> np.ndarray | None:
    """Return ``(frame, 2)``: what of a segment each vector describes, in steps; None where one describes all of it.

    Args:
        length: the segment's steps.

    Raises:
        BserkitError: it is something else, or the segment is too short for a vector.
    """
    with asked(backbone, f"the frames of {where}"):
        made = backbone.frame_bounds(length)
    if made is None:
        return None
    said = f"backbone {backbone.name} has frame_bounds({length}) {_described(made):.80} for {where}"
    if not isinstance(made, np.ndarray) or made.dtype.kind not in "fiu" or made.ndim != 2 or made.shape[1] != 2:
        raise BserkitError(f"{said}; expected (frame, 2), or None for one vector a segment.")
    if not len(made):
        raise BserkitError(f"{said}: it is too short for the backbone to make a vector of. Leave it out.")
    starts, ends = made.T
    if not np.isfinite(made).all() or starts[0] < 0 or (ends <= starts).any() or (np.diff(starts) < 0).any():
        raise BserkitError(f"{said}; expected each frame's start from 0 on, in order, and its later end.")
    if ends.max() > length:
        raise BserkitError(f"{said}; expected ends within the segment, but one is {ends.max():g}.")
    return made


def features_of(backbone: Backbone, made: Any, rows: int, length: int, size: int, where: str) -> torch.Tensor:
    """Return ``(segment, frame, feature)`` of 32-bit floats that a backbone's network made of a batch.

    Args:
        rows: the batch's segments.
        length: steps of each.
        size: the backbone's ``feature_size``.
        where: the recording of the first segment.

    Raises:
        BserkitError: it is something else.
    """
    if (frames := frames_of(backbone, length, where)) is None:
        shape: tuple[int, ...] = (rows, size)
        expected = f"(segment, feature) = {shape}, as feature_size() says"
    else:
        shape = (rows, len(frames), size)
        expected = f"(segment, frame, feature) = {shape}, as frame_bounds({length}) and feature_size() say"
    if not _is_floats(made) or made.shape != shape:
        raise _refused(backbone, made, where, expected)
    features: torch.Tensor = made.float().reshape(rows, -1, size)
    return features


def vectors_of(backbone: Backbone, made: np.ndarray, vectors: int, where: str) -> np.ndarray:
    """Return the first ``(vector, feature)``, so many, that a recording has of ``(segment, frame, feature)``.

    Raises:
        BserkitError: they are not numbers, or the network makes fewer of a segment that is filled up than of it alone.
    """
    frames = vectors // len(made)
    if frames > made.shape[1]:
        raise BserkitError(
            f"backbone {backbone.name} has frame_bounds() of {frames} frames for {where}, but of {made.shape[1]} once "
            "it is filled up with zeros; expected at least as many for a longer segment."
        )
    features = made[:, :frames].reshape(vectors, -1)
    if not np.isfinite(features).all():
        raise BserkitError(
            f"backbone {backbone.name} made values that are not numbers of {where}; try --precision fp32."
        )
    return features


def pooled(pooler: Pooler, segments: np.ndarray, where: str, fitted: FittedPooler | None = None) -> np.ndarray:
    """Return ``(feature,)`` of 32-bit floats that a pooler makes of ``(segment, feature)``, which are its own.

    Args:
        fitted: what the pooler learned, where it learns.

    Raises:
        BserkitError: it makes something else.
    """
    with asked(pooler, f"one vector of {where}"):
        made = (fitted or pooler).pool(segments)
    expected = "one (feature,) of finite numbers"
    if not isinstance(made, np.ndarray) or made.dtype.kind not in "fiu" or made.ndim != 1 or not len(made):
        raise _refused(pooler, made, where, expected)
    with np.errstate(over="ignore"):
        vector = made.astype(np.float32)
    if not np.isfinite(vector).all():
        raise _refused(pooler, made, where, expected)
    return vector


def loaded(backbone: Backbone, device: str) -> tuple[torch.nn.Module, int]:
    """Return a backbone's network in evaluation mode, and how many numbers it gives of a segment.

    Raises:
        BserkitError: it is no network, or the weights cannot be had.
    """
    import torch

    with asked(backbone, "its network"):
        network, size = backbone.load(device), backbone.feature_size()
    if not isinstance(network, torch.nn.Module):
        raise BserkitError(f"backbone {backbone.name} loaded {_described(network)}; expected a torch.nn.Module.")
    if not isinstance(size, int) or size < 1:
        raise BserkitError(f"backbone {backbone.name} has feature_size() {size!r}; expected how many numbers, from 1.")
    return network.eval(), size


def weights_digest(backbone: Backbone) -> str:
    """Return a backbone's name of its weights.

    Raises:
        BserkitError: it is none, so that the features of all weights would stand under one name.
    """
    with asked(backbone, "the digest of its weights"):
        digest = backbone.weights_digest()
    if not isinstance(digest, str) or not digest.strip():
        raise BserkitError(
            f"backbone {backbone.name} has weights_digest() {digest!r}; expected text that names its weights by their "
            "content, such as a file's SHA-256."
        )
    return digest


def normalised(component: Component, made: Any, items: int, where: str) -> np.ndarray:
    """Return ``(item, feature)`` of 32-bit floats that a component makes of so many items.

    Raises:
        BserkitError: it makes something else.
    """
    expected = f"finite (item, feature) of {items} items"
    fits = isinstance(made, np.ndarray) and made.dtype.kind in "fiu" and made.ndim == 2 and made.size
    if not fits or len(made) != items:
        raise _refused(component, made, where, expected)
    with np.errstate(over="ignore"):
        vectors = made.astype(np.float32)
    if not np.isfinite(vectors).all():
        raise _refused(component, made, where, expected)
    return vectors


def class_scores_of(component: Component, made: Any, shape: tuple[int, int], part: str) -> np.ndarray:
    """Return a copy of the ``(item, class)`` scores of a part.

    Raises:
        BserkitError: they are something else.
    """
    fits = isinstance(made, np.ndarray) and made.dtype.kind in "fiu" and made.shape == shape
    if not fits or not np.isfinite(made).all():
        raise _refused(component, made, part, f"finite (item, class) = {shape}")
    return np.array(made, dtype=np.float64)


def _refused(component: Component, made: Any, where: str, expected: str) -> BserkitError:
    return BserkitError(f"{component.kind} {component.name} made {_described(made)} of {where}; expected {expected}.")


def _described(made: Any) -> str:
    """Say what something is: its type, shape and whether it holds what is not a number."""
    if isinstance(made, tuple | list):
        return f"{type(made).__name__} of {', '.join(map(_described, made)) or 'nothing'}"
    if not hasattr(made, "shape"):
        return repr(made)[:60]
    flaw = ""
    if isinstance(made, np.ndarray) and made.dtype.kind == "f" and not np.isfinite(made).all():
        flaw = f" with {np.count_nonzero(~np.isfinite(made))} values that are not finite"
    elif _is_floats(made) and not _finite(made):
        flaw = f" with {int(made.isfinite().logical_not().sum())} values that are not finite"
    return f"{str(made.dtype).removeprefix('torch.')} {tuple(made.shape)}{flaw}"


def _is_floats(made: Any) -> bool:
    import torch

    return isinstance(made, torch.Tensor) and made.is_floating_point()


def _finite(made: torch.Tensor) -> bool:
    """Say whether all values are finite: if their sum is, they are."""
    return bool(made.sum().isfinite()) or bool(made.isfinite().all())
