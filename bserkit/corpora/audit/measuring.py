"""Measuring: what one recording is by its samples, read a block at a time, so that an hour takes little memory."""

from __future__ import annotations

import base64
import hashlib
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np

from bserkit.corpora.audio import stereo_blocks
from bserkit.corpora.audit.near_duplicates import Fingerprinting

if TYPE_CHECKING:
    from bserkit.corpora.reading import Utterance

#: An inter-channel delay is looked for this far either way, seconds: more than any head or pair of microphones makes.
_LONGEST_DELAY = 0.002
#: Samples that one step of the delay's estimate spans.
_DELAY_STEP = 8192
#: Samples of a channel that are read at a time: a whole number of the delay's steps.
_BLOCK = 8 * _DELAY_STEP


def measure(utterance: Utterance) -> dict[str, Any]:
    """Return levels, delay, digest and fingerprint of a usable recording, as the feature store keeps them.

    Raises:
        BadAudioError: it cannot be read.
    """
    blocks = stereo_blocks(utterance, _BLOCK)
    first, sample_rate = next(blocks)
    making, late = Fingerprinting(sample_rate), Delay(first.shape[1])
    content = [hashlib.sha256(), hashlib.sha256()]
    energies, size = np.zeros(4), 0
    for samples, _ in chain([(first, sample_rate)], blocks):
        making.add(samples)
        late.add(samples)
        left, right = samples.astype(np.float64)
        # Sums, not products of vectors: those start threads of their own beside the files that are measured at once.
        for index, row in enumerate((left, right, left - right, left + right)):
            energies[index] += np.square(row).sum()
        size += samples.size
        for channel, row in zip(content, samples, strict=True):
            channel.update(row)
    made = making.finish()
    left_energy, right_energy, side, mid = energies.tolist()
    return {
        "level_db": _decibel(left_energy + right_energy, size),
        "side_to_mid_db": _decibel(side, mid),
        "right_to_left_db": _decibel(right_energy, left_energy),
        "delay_ms": 1000 * late.seconds(sample_rate) if side and min(left_energy, right_energy) else float("nan"),
        "digest": hashlib.sha256(b"".join(channel.digest() for channel in content)).hexdigest(),
        "words": base64.b64encode(made.words.astype("<u4").tobytes()).decode(),
        "signs": base64.b64encode(made.signs.tobytes()).decode(),
    }


class Delay:
    """Finds how much later the right channel comes than the left, of a recording that is given a block at a time.

    Args:
        longest: samples of the first block; a recording shorter than one step of the estimate is a step itself.
    """

    def __init__(self, longest: int) -> None:
        self._step = min(_DELAY_STEP, longest)
        self._spectrum = np.zeros(self._step + 1, dtype=np.complex128)

    def add(self, samples: np.ndarray) -> None:
        """Take the next ``(2, time)``, whole steps; what is left beyond them, such as at the end, does not count."""
        used = samples.shape[1] // self._step * self._step
        left, right = samples[:, :used].reshape(2, -1, self._step).astype(np.float64)
        points = 2 * self._step
        self._spectrum += (np.conj(np.fft.rfft(left, points)) * np.fft.rfft(right, points)).sum(axis=0)

    def seconds(self, sample_rate: int) -> float:
        """Return the delay: where the channels' correlation peaks, at most 2 ms either way."""
        correlation = np.fft.irfft(self._spectrum)
        reach = max(1, round(_LONGEST_DELAY * sample_rate))
        near = np.concatenate([correlation[-reach:], correlation[: reach + 1]])
        return float(np.argmax(near) - reach) / sample_rate


def _decibel(energy: float, of: float) -> float:
    return float(10 * np.log10(energy / of)) if energy > 0 and of > 0 else float("-inf" if energy <= 0 else "inf")
