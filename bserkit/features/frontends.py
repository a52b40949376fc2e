"""Frontends: a waveform becomes segments that a network reads as images (paper, section II-A) or as they sound."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, ClassVar, Literal, NamedTuple

from bserkit.component import Component

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    import torch


#: What a backbone may be given, and the shape that the segments of an utterance have then.
Input = Literal["planes", "waveform"]
SHAPES: dict[Input, str] = {"planes": "(channel, segment, 3, mel, frame)", "waveform": "(channel, segment, time)"}


class Segments(NamedTuple):
    """Equally long pieces of one utterance, cut alike from each of its channels.

    Attributes:
        planes: ``(channel, segment, 3, mel, frame)``: static, delta and delta-delta; may be a view that shares memory.
                Of a frontend that makes waveforms ``(channel, segment, time)``; one segment where it does not cut.
        times: ``(segment, 2)``: start and end of each segment, seconds from the utterance's start.
    """

    planes: torch.Tensor
    times: torch.Tensor


class Frontend(Component):
    """Cuts an utterance into segments of spectrogram or of waveform, which may be the whole: ``makes`` says which.

    For a GPU several utterances are prepared at a time, so it may be called in several threads.
    """

    kind = "frontend"
    makes: ClassVar[Input] = "planes"

    @abstractmethod
    def segments(self, waveform: torch.Tensor, sample_rate: int) -> Segments:
        """Turn ``(channel, time)`` at ``sample_rate`` Hz into at least one segment a channel.

        Each channel must come out as it would alone. Extraction gives one channel at a time, so that what it keeps of a
        channel cannot depend on the others.
        """

    def spectrogram(self, waveform: torch.Tensor, sample_rate: int) -> torch.Tensor | None:
        """Turn ``(channel, time)`` into ``(channel, mel, frame)`` for people to look at, or None: there is no picture.

        Nothing is learned from it. Low bands come first; larger values are louder.
        """
        return None

    def stream(self, blocks: Callable[[], Iterable[torch.Tensor]], sample_rate: int) -> Iterator[Segments]:
        """Yield the segments of a long utterance in order, as it comes in successive ``(channel, time)`` blocks.

        By default the blocks are put together and given to ``segments``, so an hour is held in memory whole. A frontend
        that can do with less says here how; it must give what ``segments`` gives of the whole, bit for bit.

        Args:
            blocks: begins anew at each call.
        """
        import torch

        yield self.segments(torch.cat(list(blocks()), dim=1), sample_rate)
