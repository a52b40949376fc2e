"""Likeness: which recordings hold the same sound, cut differently or not.

Every 12 ms a recording is described by 32 bits: whether the energy difference of neighbouring bands grew since the
frame before (Haitsma and Kalker, "A highly robust audio fingerprinting system", ISMIR 2002). Equal words vote for a
pair of recordings and an offset between them; a pair is alike if at its offset the bits agree.
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
#: Frames that must overlap for two recordings to be compared: three quarters of a second.
_OVERLAP = 64
#: The share of bits that may differ; recordings of different sounds differ in half of them.
_BIT_ERRORS = 0.25
#: A word that stands in more places than this, such as that of a hum, tells nothing.
_COMMON = 64


@dataclass(frozen=True)
class Likeness:
    """Two recordings, by index, and the share of the shorter one that the other holds too."""

    first: int
    second: int
    share: float


def fingerprint(samples: np.ndarray, sample_rate: int) -> np.ndarray:
    """Turn ``(channel, time)`` into one 32-bit word a frame; none where it is shorter than a frame."""
    from scipy.fft import rfft
    from scipy.signal import resample_poly

    divisor = int(np.gcd(sample_rate, _SAMPLE_RATE))
    mono = resample_poly(samples.mean(axis=0), _SAMPLE_RATE // divisor, sample_rate // divisor)
    if len(mono) < _FRAME + _HOP:
        return np.zeros(0, dtype=np.uint32)
    frames = np.lib.stride_tricks.sliding_window_view(mono, _FRAME)[::_HOP]
    edges = (np.geomspace(_LOW_HZ, _HIGH_HZ, _BANDS + 1) * _FRAME / _SAMPLE_RATE).astype(int)
    # (frequency, band): each band's sum is a product with its column.
    belongs = np.repeat(np.eye(_BANDS, dtype=np.float32), np.diff(edges), axis=0)
    window = np.hanning(_FRAME).astype(np.float32)
    words = []
    last = None
    # A stretch at a time, since overlapping frames take thirty times the room of the sound.
    for start in range(0, len(frames), 512):
        spectrum = rfft(frames[start : start + 512] * window)[:, edges[0] : edges[-1]]
        bands = (spectrum.real**2 + spectrum.imag**2) @ belongs
        slopes = bands[:, :-1] - bands[:, 1:]
        before = slopes[:1] if last is None else last
        grown = np.diff(np.concatenate([before, slopes]), axis=0) > 0
        words.append(np.packbits(grown, axis=1).view(">u4").ravel().astype(np.uint32))
        last = slopes[-1:]
    return np.concatenate(words)


def likenesses(prints: Sequence[np.ndarray]) -> list[Likeness]:
    """Return every pair of recordings that share sound, in order."""
    words = np.concatenate(prints) if prints else np.zeros(0, dtype=np.uint32)
    owner = np.repeat(np.arange(len(prints)), [len(one) for one in prints])
    place = np.concatenate([np.arange(len(one)) for one in prints]) if prints else owner
    order = np.argsort(words, kind="stable")
    starts = np.flatnonzero(np.diff(words[order], prepend=words[order][:1] + 1 if len(order) else 0))
    votes: Counter[tuple[int, int, int]] = Counter()
    for group in np.split(order, starts[1:]) if len(order) else []:
        if 1 < len(group) <= _COMMON and words[group[0]] not in (0, 2**32 - 1):
            for position, one in enumerate(group):
                for other in group[position + 1 :]:
                    if owner[one] != owner[other]:
                        first, second = (one, other) if owner[one] < owner[other] else (other, one)
                        votes[int(owner[first]), int(owner[second]), int(place[second] - place[first])] += 1
    best: dict[tuple[int, int], Likeness] = {}
    for (first, second, offset), count in votes.items():
        if count >= 2 and (first, second) not in best and (found := _compare(prints, first, second, offset)):
            best[first, second] = found
    return [best[pair] for pair in sorted(best)]


def _compare(prints: Sequence[np.ndarray], first: int, second: int, offset: int) -> Likeness | None:
    one, other = prints[first], prints[second]
    start, end = max(0, -offset), min(len(one), len(other) - offset)
    if end - start < _OVERLAP:
        return None
    differing = np.bitwise_count(one[start:end] ^ other[start + offset : end + offset])
    # Only part of the overlap may be the same sound: its longest even stretch counts.
    smooth = np.convolve(differing / 32, np.full(_OVERLAP, 1 / _OVERLAP), mode="valid")
    alike = int((smooth < _BIT_ERRORS).sum())
    if not alike:
        return None
    return Likeness(first, second, min(1.0, (alike + _OVERLAP - 1) / min(len(one), len(other))))
