"""Built-in frontends: log-mel spectrograms with their deltas, cut into segments (paper, section II-A); the waveform."""

from __future__ import annotations

import math
from functools import cache, partial
from typing import TYPE_CHECKING, Literal

from pydantic import Field, model_validator

from bserkit import Frontend, Segments, hookimpl

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    import torch

#: An utterance is worked through so many frames at a time, 10 s by default, and resampled so many samples at a time:
#: most are done with in one. Means and deviations of longer ones depend on it in their last digit.
_CHUNK_FRAMES = 1024
_CHUNK_SAMPLES = 1 << 17
#: A resampler's table of weights has at most about so many, as those of all usual rates do; beyond it, so many weights
#: are worked out at a time.
_PHASE_TABLE, _TAPS = 1 << 20, 1 << 20


class LogMel(Frontend):
    """Log-mel spectrogram, its delta and its delta-delta, in overlapping segments of equal length.

    What the paper fixes: 64 mel bands from 20 to 8000 Hz, a Hamming window of 25 ms, segments of 64 frames. What it
    leaves open is a parameter. The deltas are regressions over five frames, taken along the whole utterance before it
    is cut; delta-delta is the delta of the delta. A tail that fills no segment is dropped, so ``frames`` frames give
    ``(frames - segment_frames) // shift_frames + 1`` segments; an utterance shorter than one segment gives one, filled
    up with its last frame.
    """

    name = "logmel"
    sample_rate: int = Field(16000, gt=0, description="Hz; recordings are resampled to it")
    mels: int = Field(64, gt=0, description="mel bands")
    low_hz: float = Field(20.0, ge=0, description="lower edge of the lowest band, Hz")
    high_hz: float = Field(8000.0, gt=0, description="upper edge of the highest band, Hz")
    window_ms: float = Field(25.0, gt=0, description="length of the Hamming window, ms")
    hop_ms: float = Field(10.0, gt=0, description="from one frame to the next, ms")
    fft_size: int = Field(512, gt=0, description="points of the Fourier transform")
    log_offset: float = Field(1e-6, gt=0, description="added to the mel power before the logarithm")
    segment_frames: int = Field(64, gt=0, description="frames in a segment")
    shift_frames: int = Field(30, gt=0, description="frames from one segment to the next")
    delta_reach: int = Field(2, ge=1, description="frames on either side that a delta's regression spans")
    normalise: Literal["utterance", "none"] = Field(
        "utterance",
        description="each plane of each channel to mean 0 and deviation 1 over its utterance, or not at all",
    )

    @model_validator(mode="after")
    def _fits(self) -> LogMel:
        if self.high_hz > self.sample_rate / 2 or self.low_hz >= self.high_hz:
            raise ValueError(
                f"bands from {self.low_hz:g} to {self.high_hz:g} Hz do not fit below half of {self.sample_rate} Hz"
            )
        if self.window_samples > self.fft_size:
            raise ValueError(f"a window of {self.window_samples} samples does not fit into fft_size={self.fft_size}")
        return self

    @property
    def window_samples(self) -> int:
        """Samples in a window."""
        return round(self.sample_rate * self.window_ms / 1000)

    @property
    def hop_samples(self) -> int:
        """Samples from one frame to the next."""
        return round(self.sample_rate * self.hop_ms / 1000)

    def segments(self, waveform: torch.Tensor, sample_rate: int) -> Segments:
        """Turn ``(channel, time)`` at ``sample_rate`` Hz into ``(channel, segment, 3, mel, frame)`` and their times."""
        planes = list(self._with_deltas(self._spectra([waveform], sample_rate)))
        return self._cut(_joined(self._normalised(lambda: planes)), 0)

    def stream(self, blocks: Callable[[], Iterable[torch.Tensor]], sample_rate: int) -> Iterator[Segments]:
        """Yield the same segments, bit for bit, of ``(channel, time)`` blocks, holding some 10 s of them at a time.

        Normalising goes through the blocks twice, since an utterance's mean shows at its end.
        """
        planes = self._normalised(lambda: self._with_deltas(self._spectra(blocks(), sample_rate)))
        group = -(-_CHUNK_FRAMES // self.shift_frames)
        overlap = max(0, self.segment_frames - self.shift_frames)
        for number, (window, _) in enumerate(_windows(planes, group * self.shift_frames, 0, overlap)):
            if number == 0 or window.shape[-1] >= self.segment_frames:
                yield self._cut(window, number * group)

    def spectrogram(self, waveform: torch.Tensor, sample_rate: int) -> torch.Tensor:
        """Turn ``(channel, time)`` into log-mel power ``(channel, mel, frame)``, one frame a hop."""
        return _joined(self._spectra([waveform], sample_rate))

    def planes(self, logmel: torch.Tensor) -> torch.Tensor:
        """Turn ``(channel, mel, frame)`` into ``(channel, 3, mel, frame)``: static, delta, delta-delta."""
        planes = list(self._with_deltas([logmel]))
        return _joined(self._normalised(lambda: planes))

    def _spectra(self, blocks: Iterable[torch.Tensor], sample_rate: int) -> Iterator[torch.Tensor]:
        """Yield log-mel power ``(channel, mel, frame)`` of ``(channel, time)`` blocks, so many frames at a time."""
        import torch

        overlap = max(0, self.fft_size - self.hop_samples)
        samples = _resampled(blocks, sample_rate, self.sample_rate)
        for number, (window, _) in enumerate(_windows(samples, _CHUNK_FRAMES * self.hop_samples, 0, overlap)):
            missing = self.fft_size - window.shape[-1]
            if missing > 0 and number:
                return
            # A recording shorter than one transform is filled up with silence: it still makes one frame.
            yield _alone(self._log_mel, torch.nn.functional.pad(window, (0, max(0, missing))))

    def _log_mel(self, samples: torch.Tensor) -> torch.Tensor:
        """Turn ``(channel, time)`` into log-mel power ``(channel, mel, frame)``."""
        import torch
        from torchaudio import functional as audio

        power = audio.spectrogram(
            samples,
            pad=0,
            window=_window(self.window_samples).to(samples.device),
            n_fft=self.fft_size,
            hop_length=self.hop_samples,
            win_length=self.window_samples,
            power=2.0,
            normalized=False,
            center=False,
        )
        bands = _mel_bands(self.fft_size // 2 + 1, self.low_hz, self.high_hz, self.mels, self.sample_rate)
        return torch.log(bands.to(samples.device) @ power + self.log_offset)

    def _with_deltas(self, spectra: Iterable[torch.Tensor]) -> Iterator[torch.Tensor]:
        """Yield ``(channel, 3, mel, frame)`` of successive ``(channel, mel, frame)``, as of the whole utterance."""
        import torch
        from torchaudio import functional as audio

        width, reach = 2 * self.delta_reach + 1, 2 * self.delta_reach

        def planes(static: torch.Tensor) -> torch.Tensor:
            delta = audio.compute_deltas(static, width)
            return torch.stack([static, delta, audio.compute_deltas(delta, width)], dim=1)

        for window, before in _windows(spectra, _CHUNK_FRAMES, reach, reach):
            yield _alone(planes, window)[..., before : before + _CHUNK_FRAMES]

    def _normalised(self, planes: Callable[[], Iterable[torch.Tensor]]) -> Iterator[torch.Tensor]:
        """Yield successive ``(channel, 3, mel, frame)`` with mean 0 and deviation 1 over all of them, if asked for."""
        import torch

        if self.normalise == "none":
            yield from planes()
            return
        mean, deviation = _moments(planes())
        # A silent channel has no deviation: it becomes all zero rather than noise blown up.
        scale = torch.where(deviation > 1e-4, deviation, torch.ones_like(deviation))
        for piece in planes():
            yield (piece - mean) / scale

    def _cut(self, planes: torch.Tensor, first: int) -> Segments:
        """Cut ``(channel, 3, mel, frame)`` that begins with the segment of number ``first``."""
        import torch

        missing = self.segment_frames - planes.shape[-1]
        if missing > 0:
            planes = torch.cat([planes, planes[..., -1:].expand(*planes.shape[:-1], missing)], dim=-1)
        # (channel, 3, mel, segment, frame) -> (channel, segment, 3, mel, frame)
        cut = planes.unfold(-1, self.segment_frames, self.shift_frames).permute(0, 3, 1, 2, 4)
        numbers = first + torch.arange(cut.shape[1], dtype=torch.float64)
        starts = numbers * self.shift_frames * self.hop_samples / self.sample_rate
        length = ((self.segment_frames - 1) * self.hop_samples + self.window_samples) / self.sample_rate
        return Segments(cut, torch.stack([starts, starts + length], dim=1))


def _windows(pieces: Iterable[torch.Tensor], size: int, before: int, after: int) -> Iterator[tuple[torch.Tensor, int]]:
    """Cut a signal that comes in pieces along its last axis anew: ``size`` of it at a time with what lies around it.

    Where the windows lie depends on the signal alone, not on its pieces, so that nothing made of them does.

    Yields:
        The window, with up to ``before`` and ``after`` more on either side, and how much it has before.
    """
    held: list[torch.Tensor] = []
    begin = length = start = 0  # of what is held, and of the next window; counted from the signal's first

    def window(end: int) -> tuple[torch.Tensor, int]:
        together = _joined(held)
        held[:] = [together]
        left = min(before, start)
        return together[..., start - left - begin : end - begin], left

    for piece in pieces:
        held.append(piece)
        length += piece.shape[-1]
        while begin + length >= start + size + after:
            yield window(start + size + after)
            start += size
            drop = max(0, start - before - begin)
            held[:] = [held[0][..., drop:]]
            begin, length = begin + drop, length - drop
    while start < begin + length:
        yield window(min(begin + length, start + size + after))
        start += size


class Waveform(Frontend):
    """The waveform itself, resampled, for backbones that read such: whole, or cut into segments of equal length.

    The last segment ends with the utterance, so it may overlap the one before by more than others do. An utterance
    shorter than a segment is one segment, as long as it is.
    """

    name = "waveform"
    makes = "waveform"
    sample_rate: int = Field(16000, gt=0, description="Hz; recordings are resampled to it")
    segment_seconds: float = Field(0.0, ge=0, description="length of a segment, s; 0: the whole utterance")
    shift_seconds: float = Field(0.0, ge=0, description="from one segment to the next, s; 0: as long as a segment")

    @model_validator(mode="after")
    def _leaves_nothing_out(self) -> Waveform:
        length, shift = self._samples()
        if self.segment_seconds and not 0 < shift <= length:
            raise ValueError(f"a segment of {length} samples every {shift} samples; expected from 1 to {length}")
        return self

    def segments(self, waveform: torch.Tensor, sample_rate: int) -> Segments:
        """Turn ``(channel, time)`` at ``sample_rate`` Hz into ``(channel, segment, time)`` and their times."""
        import torch

        samples = _resampled([waveform], sample_rate, self.sample_rate)
        if self.segment_seconds:
            planes, times = zip(*self._cut(samples), strict=True)
            return Segments(torch.cat(planes, dim=1), torch.cat(times))
        whole = torch.tensor([[0.0, waveform.shape[-1] / sample_rate]], dtype=torch.float64)
        return Segments(_joined(samples).unsqueeze(1), whole)

    def stream(self, blocks: Callable[[], Iterable[torch.Tensor]], sample_rate: int) -> Iterator[Segments]:
        """Yield the same segments, bit for bit, of ``(channel, time)`` blocks; where it cuts, holding some 10 s."""
        if self.segment_seconds:
            yield from self._cut(_resampled(blocks(), sample_rate, self.sample_rate))
        else:
            yield from super().stream(blocks, sample_rate)

    def _samples(self) -> tuple[int, int]:
        """Return the samples of a segment, and from one to the next."""
        return (
            round(self.sample_rate * self.segment_seconds),
            round(self.sample_rate * (self.shift_seconds or self.segment_seconds)),
        )

    def _cut(self, samples: Iterable[torch.Tensor]) -> Iterator[Segments]:
        """Yield the segments of a ``(channel, time)`` that comes in pieces, several at a time."""
        import torch

        length, shift = self._samples()
        size, after, covered = max(1, _CHUNK_SAMPLES // shift) * shift, length - shift, 0
        for number, (window, before) in enumerate(_windows(samples, size, length, after)):
            start, begin = number * size, number * size - before
            end = begin + window.shape[-1]
            firsts = list(range(start, end - length + 1, shift))
            covered = firsts[-1] + length if firsts else covered
            if covered < end < start + size + after:
                # The utterance ends here, and what is left fills no segment.
                firsts.append(max(0, end - length))
                covered = end
            if firsts:
                ends = [min(first + length, end) for first in firsts]
                bounds = torch.tensor([firsts, ends], dtype=torch.float64).T / self.sample_rate
                cut = [window[:, first - begin : last - begin] for first, last in zip(firsts, ends, strict=True)]
                yield Segments(torch.stack(cut, dim=1), bounds)


def _joined(pieces: Iterable[torch.Tensor]) -> torch.Tensor:
    import torch

    pieces = list(pieces)
    return pieces[0] if len(pieces) == 1 else torch.cat(pieces, dim=-1)


def _moments(planes: Iterable[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    """Return mean and deviation over mel and frame of successive ``(channel, 3, mel, frame)``, as of the whole."""
    import torch

    def moments(piece: torch.Tensor) -> torch.Tensor:
        return torch.stack(torch.std_mean(piece, dim=(2, 3), keepdim=True, correction=0), dim=1)

    parts = []
    for piece in planes:
        deviation, mean = _alone(moments, piece).double().unbind(dim=1)
        parts.append((piece.shape[-1], mean, deviation))
    frames = sum(count for count, _, _ in parts)
    mean = torch.stack([count * one for count, one, _ in parts]).sum(dim=0) / frames
    squares = [count * (deviation**2 + (one - mean) ** 2) for count, one, deviation in parts]
    return mean.float(), (torch.stack(squares).sum(dim=0) / frames).sqrt().float()


def _resampled(blocks: Iterable[torch.Tensor], from_hz: int, to_hz: int) -> Iterator[torch.Tensor]:
    """Yield ``(channel, time)`` blocks at another rate, as of the whole signal."""
    if from_hz == to_hz:
        yield from blocks
        return
    common = math.gcd(from_hz, to_hz)
    step, made = from_hz // common, to_hz // common  # so many samples become so many
    size = max(1, _CHUNK_SAMPLES // step) * step
    # The filter reaches over some 6 periods of the slower rate to either side.
    reach = -(-8 // min(step, made)) * step
    for window, before in _windows(blocks, size, reach, reach):
        skipped = before // step * made
        resampled = _alone(_resampler(from_hz, to_hz, window.device), window)
        yield resampled[..., skipped : skipped + size // step * made]


def _alone(make: Callable[[torch.Tensor], torch.Tensor], channels: torch.Tensor) -> torch.Tensor:
    """Make of each channel what is made of it alone, in memory of its own.

    How sums are taken depends on how many rows there are and where they lie, so channels that go through a convolution
    together are not, bit for bit, what each is by itself.
    """
    import torch

    return torch.cat([make(one.clone(memory_format=torch.contiguous_format)) for one in torch.split(channels, 1)])


@cache
def _resampler(from_hz: int, to_hz: int, device: torch.device) -> Callable[[torch.Tensor], torch.Tensor]:
    """Return what turns ``(channel, time)`` at one rate into another: torchaudio's, whose table holds every phase.

    Where the rates have little in common, that table would take gigabytes: the same filter is worked out as it goes.
    """
    import torch
    from torchaudio.transforms import Resample

    common = math.gcd(from_hz, to_hz)
    if (step := from_hz // common) * (made := to_hz // common) > _PHASE_TABLE:
        return partial(_interpolated, step=step, made=made)
    resampler: Callable[[torch.Tensor], torch.Tensor] = Resample(from_hz, to_hz, dtype=torch.float32).to(device)
    return resampler


def _interpolated(samples: torch.Tensor, step: int, made: int) -> torch.Tensor:
    """Turn every ``step`` samples of ``(channel, time)`` into ``made``, by torchaudio's default filter.

    A sinc below 0.99 of the slower rate's half, in a Hann window of six of its zeros to either side.
    """
    import torch

    zeros, share = 6, min(1, made / step) * 0.99  # of the slower rate in that of the samples
    width = math.ceil(zeros / share)
    taps = torch.arange(-width, width + 2, device=samples.device)
    padded = torch.nn.functional.pad(samples, (width, width + 2))
    pieces = []
    every = torch.arange(-(-samples.shape[-1] * made // step), device=samples.device)
    for some in torch.split(every, _TAPS // len(taps) + 1):
        first = some * step // made
        distance = (taps - ((some * step - first * made).double() / made)[:, None]) * share
        window = torch.cos(distance.clamp(-zeros, zeros) * math.pi / zeros / 2) ** 2
        weights = torch.sinc(distance) * window * share
        pieces.append((padded[..., first[:, None] + taps + width].double() * weights).sum(-1).to(samples.dtype))
    return torch.cat(pieces, dim=-1)


@cache
def _window(samples: int) -> torch.Tensor:
    import torch

    return torch.hamming_window(samples)


@cache
def _mel_bands(bins: int, low_hz: float, high_hz: float, mels: int, sample_rate: int) -> torch.Tensor:
    from torchaudio import functional as audio

    return audio.melscale_fbanks(bins, low_hz, high_hz, mels, sample_rate).T.contiguous()


@hookimpl
def bserkit_frontends() -> list[type[Frontend]]:
    """Return the built-in frontends."""
    return [LogMel, Waveform]
