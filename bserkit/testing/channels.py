"""Channel transforms: what must hold of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bserkit.features.channels import ChannelTransform
from bserkit.features.contracts import transformed
from bserkit.features.extraction import Extraction
from bserkit.plugins.builtin.frontends import LogMel
from bserkit.testing.behaviour import Kind
from bserkit.testing.expecting import expect_same
from bserkit.testing.samples import BandMeans, sample_stereo

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import torch

#: From a single frame to two seconds.
_SECONDS = (1 / 16000, 0.025, 0.3, 2.0)


def makes_a_row_for_each_output(transform: ChannelTransform) -> None:
    """Of recordings of any length it makes finite ``(channel, time)``, a row for each of its outputs."""
    import torch

    for seconds in _SECONDS:
        transformed(transform, sample_stereo(seconds=seconds), f"{seconds:.3g} s of noise")
    transformed(transform, torch.zeros(2, 1000), "silence")
    transformed(transform, sample_stereo()[:1].expand(2, -1), "two equal channels")


def names_its_channels(transform: ChannelTransform) -> None:
    """Its channels have names that can stand in results, none of them twice."""
    Extraction((transform,), LogMel(), BandMeans(), "cpu", "fp32").transform_of()


def is_pointwise_as_it_says(transform: ChannelTransform) -> None:
    """One that says that it is ``pointwise`` gives the same bits a block at a time."""
    import torch

    stereo = sample_stereo()
    blocks = torch.cat(
        [transform.transform(block.clone()) for block in torch.split(stereo, [1, 999, 5000, 10000], 1)], 1
    )
    expect_same(
        transform.transform(stereo.clone()),
        blocks,
        f"channels {transform.name} says that it is pointwise, but makes of blocks what it does not make of the whole. "
        "Leave pointwise out.",
    )


def _given(transform: ChannelTransform, seed: int) -> torch.Tensor:
    return sample_stereo(seed)


def _made(transform: ChannelTransform, given: torch.Tensor) -> torch.Tensor:
    return transform.transform(given)


def _checks(transform: ChannelTransform) -> Iterator[Callable[[ChannelTransform], None]]:
    yield makes_a_row_for_each_output
    yield names_its_channels
    if transform.pointwise:
        yield is_pointwise_as_it_says


KIND = Kind(ChannelTransform, _given, _made, _checks, threads=lambda _: True)
