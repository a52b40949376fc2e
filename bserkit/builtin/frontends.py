"""Built-in frontends: log-mel spectrograms with their deltas, cut into segments (paper, section II-A); the waveform."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Literal

from pydantic import Field, model_validator

from bserkit import Frontend, Segments, hookimpl

if TYPE_CHECKING:
    import torch


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
        import torch

        planes = self.planes(self.spectrogram(waveform, sample_rate))
        missing = self.segment_frames - planes.shape[-1]
        if missing > 0:
            planes = torch.cat([planes, planes[..., -1:].expand(*planes.shape[:-1], missing)], dim=-1)
        # (channel, 3, mel, segment, frame) -> (channel, segment, 3, mel, frame)
        cut = planes.unfold(-1, self.segment_frames, self.shift_frames).permute(0, 3, 1, 2, 4)
        first = torch.arange(cut.shape[1], dtype=torch.float64) * self.shift_frames
        starts = first * self.hop_samples / self.sample_rate
        length = ((self.segment_frames - 1) * self.hop_samples + self.window_samples) / self.sample_rate
        return Segments(cut, torch.stack([starts, starts + length], dim=1))

    def spectrogram(self, waveform: torch.Tensor, sample_rate: int) -> torch.Tensor:
        """Turn ``(channel, time)`` into log-mel power ``(channel, mel, frame)``, one frame a hop."""
        import torch
        from torchaudio import functional as audio

        waveform = _resample(waveform, sample_rate, self.sample_rate)
        # A recording shorter than one transform is filled up with silence: it still makes one frame.
        waveform = torch.nn.functional.pad(waveform, (0, max(0, self.fft_size - waveform.shape[-1])))
        power = audio.spectrogram(
            waveform,
            pad=0,
            window=_window(self.window_samples),
            n_fft=self.fft_size,
            hop_length=self.hop_samples,
            win_length=self.window_samples,
            power=2.0,
            normalized=False,
            center=False,
        )
        bands = _mel_bands(self.fft_size // 2 + 1, self.low_hz, self.high_hz, self.mels, self.sample_rate)
        return torch.log(bands @ power + self.log_offset)

    def planes(self, logmel: torch.Tensor) -> torch.Tensor:
        """Turn ``(channel, mel, frame)`` into ``(channel, 3, mel, frame)``: static, delta, delta-delta."""
        import torch
        from torchaudio import functional as audio

        width = 2 * self.delta_reach + 1
        delta = audio.compute_deltas(logmel, width)
        planes = torch.stack([logmel, delta, audio.compute_deltas(delta, width)], dim=1)
        if self.normalise == "none":
            return planes
        deviation, mean = torch.std_mean(planes, dim=(2, 3), keepdim=True, correction=0)
        # A silent channel has no deviation: it becomes all zero rather than noise blown up.
        return (planes - mean) / torch.where(deviation > 1e-4, deviation, torch.ones_like(deviation))


class Waveform(Frontend):
    """The waveform itself, resampled and uncut, for backbones that read such: one segment, the whole utterance."""

    name = "waveform"
    makes = "waveform"
    sample_rate: int = Field(16000, gt=0, description="Hz; recordings are resampled to it")

    def segments(self, waveform: torch.Tensor, sample_rate: int) -> Segments:
        """Turn ``(channel, time)`` at ``sample_rate`` Hz into ``(channel, 1, time)`` and its one stretch of time."""
        import torch

        whole = torch.tensor([[0.0, waveform.shape[-1] / sample_rate]], dtype=torch.float64)
        return Segments(_resample(waveform, sample_rate, self.sample_rate).unsqueeze(1), whole)


def _resample(waveform: torch.Tensor, from_hz: int, to_hz: int) -> torch.Tensor:
    from torchaudio import functional as audio

    return audio.resample(waveform, from_hz, to_hz) if from_hz != to_hz else waveform


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
