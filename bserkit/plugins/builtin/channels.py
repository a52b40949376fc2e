"""Built-in channel transforms: Left and Right, Mid and Side (paper, section I), and the mono mix."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bserkit import ChannelTransform, hookimpl

if TYPE_CHECKING:
    import torch


class LeftRight(ChannelTransform):
    """The two recorded channels as they are."""

    name = "lr"
    outputs = ("left", "right")
    pointwise = True

    def transform(self, stereo: torch.Tensor) -> torch.Tensor:
        """Return ``(2, time)`` unchanged."""
        return stereo


class MidSide(ChannelTransform):
    """What the channels share, ``L + R``, and what sets them apart, ``L - R``; not scaled, as in the paper."""

    name = "ms"
    outputs = ("mid", "side")
    pointwise = True

    def transform(self, stereo: torch.Tensor) -> torch.Tensor:
        """Return ``(2, time)``: the sum above the difference."""
        import torch

        left, right = stereo
        return torch.stack([left + right, left - right])


class Mono(ChannelTransform):
    """The mean of both channels: what most of the field learns from. Mono recordings serve as they are."""

    name = "mono"
    outputs = ("mono",)
    needs_stereo = False
    pointwise = True

    def transform(self, stereo: torch.Tensor) -> torch.Tensor:
        """Return ``(1, time)``."""
        return stereo.mean(dim=0, keepdim=True)


@hookimpl
def bserkit_channels() -> list[type[ChannelTransform]]:
    """Return the built-in channel transforms."""
    return [LeftRight, MidSide, Mono]
