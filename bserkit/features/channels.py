"""Channel transforms: the two recorded channels become the channels that are learned from (paper, section II-A)."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, ClassVar

from bserkit.component import Component

if TYPE_CHECKING:
    import torch


class ChannelTransform(Component):
    """Makes named channels of a stereo signal.

    ``outputs`` names the channels in the order of the rows; no channel may have the name of another transform or be
    called ``fusion``, since results stand under these names. ``needs_stereo`` is false where a mono recording serves
    as well as a stereo one; such a transform is then given mono files too, as two equal rows. ``pointwise`` says that
    each moment of the output is made of the same moment of the input alone, so that long recordings can be transformed
    a block at a time rather than whole. For a GPU several recordings are prepared at a time, so it may be called in
    several threads.
    """

    kind = "channels"
    outputs: ClassVar[tuple[str, ...]]
    needs_stereo: ClassVar[bool] = True
    pointwise: ClassVar[bool] = False

    @abstractmethod
    def transform(self, stereo: torch.Tensor) -> torch.Tensor:
        """Turn ``(2, time)``, left above right, into ``(channel, time)``, one row for each of ``outputs``.

        It is given a copy of its own; what it returns must be finite.
        """
