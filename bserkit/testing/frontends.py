"""Frontends: what must hold of them."""

from __future__ import annotations

import itertools
from functools import partial
from typing import TYPE_CHECKING, Any

from bserkit.features.contracts import segments_of
from bserkit.features.frontends import SHAPES, Frontend
from bserkit.testing.behaviour import Kind
from bserkit.testing.expecting import expect, expect_same
from bserkit.testing.samples import SAMPLE_RATE, sample_stereo

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import torch

_RATES = (8000, 16000, 22050, 44100, 48000)
#: From a single window of sound to several segments.
_SECONDS = (0.025, 0.3, 1.0, 2.5)
#: Frames of blocks: one alone, fewer than a window, more than a segment.
_BLOCKS = (1, 159, 3200, 11999)


def makes_segments_at_any_rate_and_length(frontend: Frontend) -> None:
    """Of a channel of any rate and length it makes finite segments of one shape, with their times."""
    expect(
        frontend.makes in SHAPES,
        f"frontend {frontend.name} says that it makes {frontend.makes!r}; expected {' or '.join(SHAPES)}.",
    )
    shapes = set()
    for sample_rate, seconds in itertools.product(_RATES, _SECONDS):
        where = f"{seconds} s of noise at {sample_rate} Hz"
        waveform = sample_stereo(0, seconds, sample_rate)[:1]
        planes, times = segments_of(frontend, frontend.segments(waveform, sample_rate), where)
        shapes.add(tuple(planes.shape[2:]) if frontend.makes == "planes" else ())
        # The last segment may be filled up, but must begin within the recording.
        expect(
            float(times[-1, 0]) < seconds,
            f"frontend {frontend.name} begins a segment at {float(times[-1, 0]):.3f} s of {where}; times are seconds "
            "from the recording's start.",
        )
    expect(
        len(shapes) == 1,
        f"frontend {frontend.name} makes segments of several shapes, {', '.join(map(str, sorted(shapes)))}; expected "
        "one whatever the recording's rate and length, since segments go through a network together.",
    )


def makes_segments_of_silence(frontend: Frontend) -> None:
    """Of silence it makes finite segments too: a channel may be silent, as Side is of equal microphones."""
    import torch

    segments_of(frontend, frontend.segments(torch.zeros(1, SAMPLE_RATE), SAMPLE_RATE), "a second of silence")


def treats_each_channel_alone(frontend: Frontend) -> None:
    """Each channel comes out bit for bit as it would alone."""
    stereo = sample_stereo()
    together = frontend.segments(stereo.clone(), SAMPLE_RATE)
    for row in range(len(stereo)):
        alone = frontend.segments(stereo[row : row + 1].clone(), SAMPLE_RATE)
        expect_same(
            alone,
            (together.planes[row : row + 1], together.times),
            f"frontend {frontend.name} makes something else of a channel beside another than of it alone. Let no "
            "number depend on other channels.",
        )


def streams_the_same_segments(frontend: Frontend) -> None:
    """``stream`` gives bit for bit what ``segments`` gives of the whole, whatever the blocks."""
    import torch

    whole = frontend.segments(sample_stereo(seconds=2.5), SAMPLE_RATE)
    for frames in _BLOCKS:
        blocks = _blocks_of(sample_stereo(seconds=2.5), frames)
        made = list(frontend.stream(partial(_each, blocks), SAMPLE_RATE))
        streamed = (torch.cat([one.planes for one in made], 1), torch.cat([one.times for one in made]))
        expect_same(
            whole,
            streamed,
            f"frontend {frontend.name} makes something else of a stream of {frames}-frame blocks than of the whole.",
        )


def makes_a_picture_or_none(frontend: Frontend) -> None:
    """``spectrogram`` returns finite ``(channel, mel, frame)``, or None."""
    made = frontend.spectrogram(sample_stereo(), SAMPLE_RATE)
    expect(
        made is None or (made.ndim == 3 and len(made) == 2 and bool(made.isfinite().all())),
        f"frontend {frontend.name} makes {getattr(made, 'shape', made)} for people to look at; expected finite "
        "(channel, mel, frame), or None.",
    )


def _blocks_of(waveform: torch.Tensor, frames: int) -> list[torch.Tensor]:
    """Cut into a few blocks of so many frames, and the rest."""
    few = min(3, waveform.shape[1] // frames)
    return [waveform[:, start : start + frames] for start in range(0, few * frames, frames)] + [
        waveform[:, few * frames :]
    ]


def _each(blocks: list[torch.Tensor]) -> Iterator[torch.Tensor]:
    return (one.clone() for one in blocks)


def _given(frontend: Frontend, seed: int) -> torch.Tensor:
    return sample_stereo(seed)[:1]


def _made(frontend: Frontend, given: torch.Tensor) -> Any:
    return frontend.segments(given, SAMPLE_RATE)


def _checks(frontend: Frontend) -> Iterator[Callable[[Frontend], None]]:
    yield makes_segments_at_any_rate_and_length
    yield makes_segments_of_silence
    yield treats_each_channel_alone
    yield streams_the_same_segments
    yield makes_a_picture_or_none


KIND = Kind(Frontend, _given, _made, _checks, threads=lambda _: True)
