"""Near-duplicates: which recordings hold the same sound, cut differently or not.

Two descriptions of a recording answer two questions. Where could two recordings agree: every 12 ms, 32 bits say whether
the energy difference of neighbouring bands grew since the frame before (Haitsma and Kalker, "A highly robust audio
fingerprinting system", ISMIR 2002); equal words vote for a pair and an offset, at which the bits must agree. Is it the
same sound or only a similar one, such as the same sentence said again: the signs of the wave itself must agree as well,
which they do in no second take.

Frames far below the recording's own level, and frames in which nothing changes, take no part: digital silence, hum and
gated pauses are alike in all recordings of a studio.

``python benchmarks/near_duplicates.py`` measures the error rates that both limits come from.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

_SAMPLE_RATE = 8000
_FRAME = 2960
_HOP = 93
_BANDS = 33
_LOW_HZ, _HIGH_HZ = 300.0, 3000.0
#: The band of the wave whose signs are compared: above most fundamentals, which takes share, and what telephones cut.
_WAVE_HZ = 700.0, 2000.0
#: Frames that must overlap for two recordings to be compared: three quarters of a second.
_OVERLAP = 64
#: The share of bits that may differ. Different sounds differ in half of them, two takes of one sentence in .18 at the
#: least, copies in .05 (median of those that were cut, resampled, coded as MP3 and given noise of 20 dB at once).
BIT_ERRORS = 0.16
#: The least correlation of signs: copies have .39 at the least, other sounds whose bits agree have .34 at most.
SIGN_CORRELATION = 0.37
#: A frame this much below the recording's loud frames takes no part, dB: copies lose nothing, silence is left out.
_QUIET_DB = 40.0
#: A frame of less energy takes no part, dB of a full scale sine: what 16 bits leave of silence.
_FLOOR_DB = -85.0
#: A frame whose bands change by less than this share of its energy takes no part: a hum's do by a millionth, those of
#: speech and noise by some hundredths.
_CHANGE = 1e-3
#: Samples that one offset of frames may stand for: a hop and half of one.
_LAG = 140
#: A word that stands in more places than this tells nothing.
_COMMON = 64
#: Frames that are described at a time, since overlapping frames take thirty times the room of the sound.
_AT_A_TIME = 512


@dataclass(frozen=True)
class NearDuplicate:
    """Two recordings, by index, and the share of the shorter one that the other holds too."""

    first: int
    second: int
    share: float


@dataclass(frozen=True)
class Agreement:
    """How far two recordings agree at an offset, in the stretch of three quarters of a second that agrees most.

    Attributes:
        bit_errors: the share of its words' bits that differ.
        sign_correlation: the size of the correlation of the waves' signs there.
        share: the share of the shorter recording's frames that agree.
    """

    bit_errors: float
    sign_correlation: float
    share: float


@dataclass(frozen=True, eq=False)
class Fingerprint:
    """What a recording is known by; its length is its number of frames.

    Attributes:
        words: ``(frame,)`` of 32 bits; 0 where a frame takes no part.
        signs: the signs of the wave at 8 kHz, eight a byte.
    """

    words: np.ndarray
    signs: np.ndarray

    def __len__(self) -> int:
        return len(self.words)


class Fingerprinting:
    """Makes a fingerprint of a recording that is given a block at a time, so that an hour takes little memory."""

    def __init__(self, sample_rate: int) -> None:
        self._resampler = _Resampler(sample_rate)
        self._mono = np.zeros(0, dtype=np.float32)
        self._slopes: np.ndarray | None = None
        self._described: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
        self._signs: list[np.ndarray] = []
        self._wave, self._state = _band(_WAVE_HZ)

    def add(self, samples: np.ndarray) -> None:
        """Take the next ``(channel, time)``."""
        self._take(self._resampler.add(samples.mean(axis=0)))

    def finish(self) -> Fingerprint:
        """Return the fingerprint; without words where the recording is shorter than a frame."""
        self._take(self._resampler.finish())
        if not self._described:
            return Fingerprint(np.zeros(0, dtype=np.uint32), np.zeros(0, dtype=np.uint8))
        words, energies, changes = map(np.concatenate, zip(*self._described, strict=True))
        loud = np.percentile(energies, 95)
        least = max(loud * 10 ** (-_QUIET_DB / 10), _FULL_SCALE * 10 ** (_FLOOR_DB / 10))
        takes_part = (energies > least) & (changes > _CHANGE * energies)
        return Fingerprint(np.where(takes_part, words, np.uint32(0)), np.packbits(np.concatenate(self._signs)))

    def _take(self, mono: np.ndarray) -> None:
        from scipy.signal import sosfilt

        if len(mono):
            wave, self._state = sosfilt(self._wave, mono, zi=self._state)
            self._signs.append(wave >= 0)
        self._mono = np.concatenate([self._mono, mono])
        while len(self._mono) >= _FRAME + (_HOP if self._slopes is None else 0):
            frames = np.lib.stride_tricks.sliding_window_view(self._mono, _FRAME)[::_HOP][:_AT_A_TIME]
            self._described.append(self._describe(frames))
            self._mono = self._mono[len(frames) * _HOP :]

    def _describe(self, frames: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return each of ``(frame, time)``'s word, its energy, and by how much that changed between its bands."""
        from scipy.fft import rfft

        spectrum = rfft(frames * _WINDOW)[:, _EDGES[0] : _EDGES[-1]]
        bands = np.add.reduceat(spectrum.real**2 + spectrum.imag**2, _EDGES[:-1] - _EDGES[0], axis=1)
        slopes = bands[:, :-1] - bands[:, 1:]
        before = slopes[:1] if self._slopes is None else self._slopes
        grown = np.diff(np.concatenate([before, slopes]), axis=0)
        self._slopes = slopes[-1:]
        words = np.packbits(grown > 0, axis=1).view(">u4").ravel().astype(np.uint32)
        return words, bands.sum(axis=1), np.abs(grown).sum(axis=1)


_EDGES = (np.geomspace(_LOW_HZ, _HIGH_HZ, _BANDS + 1) * _FRAME / _SAMPLE_RATE).astype(int)
_WINDOW = np.hanning(_FRAME).astype(np.float32)
#: The energy that a full scale sine has in a frame's bands.
_FULL_SCALE = float(_WINDOW @ _WINDOW) * _FRAME / 4


class _Resampler:
    """Brings ``(time,)`` to 8 kHz a block at a time, as scipy's ``resample_poly`` would bring the whole."""

    def __init__(self, sample_rate: int) -> None:
        divisor = int(np.gcd(sample_rate, _SAMPLE_RATE))
        self._up, self._down = _SAMPLE_RATE // divisor, sample_rate // divisor
        # Its filter reaches ten samples of the lower rate either way; blocks begin at whole steps of both rates.
        reach = -(-10 * max(self._up, self._down) // self._up)
        self._context = self._down * -(-reach // self._down)
        self._held = np.zeros(0, dtype=np.float32)
        self._lead = 0

    def add(self, samples: np.ndarray) -> np.ndarray:
        self._held = np.concatenate([self._held, samples])
        whole = (len(self._held) - self._lead - self._context) // self._down * self._down
        if whole <= 0:
            return self._held[:0]
        end = self._lead + whole
        found = self._resampled(self._held[: end + self._context], end)
        self._held = self._held[max(0, end - self._context) :]
        self._lead = min(end, self._context)
        return found

    def finish(self) -> np.ndarray:
        return self._resampled(self._held, None) if len(self._held) > self._lead else self._held[:0]

    def _resampled(self, samples: np.ndarray, end: int | None) -> np.ndarray:
        from scipy.signal import resample_poly

        found = resample_poly(samples, self._up, self._down)
        return found[self._lead // self._down * self._up : None if end is None else end // self._down * self._up]


def _band(limits: tuple[float, float]) -> tuple[np.ndarray, np.ndarray]:
    """Return a band pass as second-order sections, and its state before the first sample."""
    from scipy.signal import butter

    sections = butter(2, limits, "bandpass", fs=_SAMPLE_RATE, output="sos")
    return sections, np.zeros((len(sections), 2), dtype=np.float32)


def fingerprint(samples: np.ndarray, sample_rate: int) -> Fingerprint:
    """Return the fingerprint of ``(channel, time)``; without words where it is shorter than a frame."""
    making = Fingerprinting(sample_rate)
    making.add(samples)
    return making.finish()


def near_duplicates(prints: Sequence[Fingerprint]) -> list[NearDuplicate]:
    """Return every pair of recordings that share sound, in order."""
    best: dict[tuple[int, int], NearDuplicate] = {}
    for (first, second, offset), count in votes(prints).items():
        if count < 2 or (first, second) in best:
            continue
        found = agreement(prints[first], prints[second], offset)
        if found and found.bit_errors <= BIT_ERRORS and found.sign_correlation >= SIGN_CORRELATION:
            best[first, second] = NearDuplicate(first, second, found.share)
    return [best[pair] for pair in sorted(best)]


def votes(prints: Sequence[Fingerprint]) -> Counter[tuple[int, int, int]]:
    """Count equal words by first recording, second recording, and by how many frames later they stand in the second."""
    words = np.concatenate([one.words for one in prints]) if prints else np.zeros(0, dtype=np.uint32)
    owner = np.repeat(np.arange(len(prints)), [len(one) for one in prints])
    place = np.concatenate([np.arange(len(one)) for one in prints]) if prints else owner
    order = np.argsort(words, kind="stable")
    starts = np.flatnonzero(np.diff(words[order], prepend=words[order][:1] + 1 if len(order) else 0))
    found: Counter[tuple[int, int, int]] = Counter()
    for group in np.split(order, starts[1:]) if len(order) else []:
        if 1 < len(group) <= _COMMON and words[group[0]]:
            for position, one in enumerate(group):
                for other in group[position + 1 :]:
                    if owner[one] != owner[other]:
                        first, second = (one, other) if owner[one] < owner[other] else (other, one)
                        found[int(owner[first]), int(owner[second]), int(place[second] - place[first])] += 1
    return found


def agreement(one: Fingerprint, other: Fingerprint, offset: int) -> Agreement | None:
    """Compare two recordings, the second's frames so many later; None where too few of them take part in both."""
    start, end = max(0, -offset), min(len(one), len(other) - offset)
    ours, theirs = one.words[start : max(start, end)], other.words[start + offset : max(start, end) + offset]
    both = np.flatnonzero((ours != 0) & (theirs != 0))
    if len(both) < _OVERLAP:
        return None
    differing = np.bitwise_count(ours[both] ^ theirs[both]) / 32
    # Only part of the overlap may be the same sound: its most even stretch decides, all even ones are its share.
    smooth = np.convolve(differing, np.full(_OVERLAP, 1 / _OVERLAP), mode="valid")
    best = int(smooth.argmin())
    stretch = start + int(both[best]), start + int(both[best + _OVERLAP - 1])
    even = np.convolve(smooth <= BIT_ERRORS, np.ones(_OVERLAP)) > 0.5
    shorter = min(int((one.words != 0).sum()), int((other.words != 0).sum()))
    return Agreement(
        float(smooth[best]), _sign_correlation(one, other, stretch, offset), min(1.0, int(even.sum()) / shorter)
    )


def _sign_correlation(one: Fingerprint, other: Fingerprint, stretch: tuple[int, int], offset: int) -> float:
    """Return how alike the waves' signs are over a stretch of frames, at the best of the lags next to the offset."""
    from scipy.signal import correlate

    start, end = stretch[0] * _HOP, stretch[1] * _HOP + _FRAME
    ours = _wave(one, start, end)
    theirs = _wave(other, start + offset * _HOP - _LAG, end + offset * _HOP + _LAG)
    return float(np.abs(correlate(theirs, ours, mode="valid", method="fft")).max()) / len(ours)


def _wave(whole: Fingerprint, start: int, end: int) -> np.ndarray:
    """Return the signs from one sample to before another as 1 and -1, 0 beyond the recording's ends."""
    first, last = max(0, start), min(end, 8 * len(whole.signs))
    signs = np.unpackbits(whole.signs[first // 8 : -(-last // 8)])[first % 8 : first % 8 + last - first]
    return np.pad(2.0 * signs - 1, (first - start, end - last))
