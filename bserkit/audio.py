"""Audio at the door: every recording is checked once, and a bad one is named with its reason."""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from bserkit.decoding import BadAudioError as BadAudioError
from bserkit.decoding import Sound, open_sound

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bserkit.corpus import Utterance

#: What to do with recordings that are not stereo.
MonoPolicy = Literal["refuse", "duplicate", "skip"]
#: A stretch shorter than this holds no speech, seconds: one analysis window.
SHORTEST_SECONDS = 0.025
#: Frames that are read at a time, so that an hour takes no more memory than a minute.
_BLOCK_FRAMES = 1 << 16


@dataclass(frozen=True)
class AudioFacts:
    """What was found out about one utterance's audio by reading all of it.

    Attributes:
        channels: how many the file has.
        sample_rate: Hz.
        seconds: length of the stretch.
        equal: whether a stereo file's channels are the same, sample by sample.
        clipped: the share of samples at full scale.
        problem: why it cannot be used; empty if it can.
    """

    channels: int
    sample_rate: int
    seconds: float
    equal: bool
    clipped: float
    problem: str = ""

    @property
    def stereo(self) -> bool:
        """Whether there is anything between left and right to learn from."""
        return self.channels == 2 and not self.equal

    def as_dict(self) -> dict[str, Any]:
        """Return the facts as plain values."""
        return asdict(self)


def content_digest(utterance: Utterance) -> str:
    """Name an utterance's audio by its content: the SHA-256 of the file's bytes and the stretch of it.

    Raises:
        BadAudioError: the file cannot be read.
    """
    try:
        with utterance.path.open("rb") as stream:
            whole = hashlib.file_digest(stream, "sha256")
    except OSError as error:
        raise BadAudioError(f"it cannot be read ({error.strerror})") from None
    if utterance.start or utterance.end is not None:
        whole.update(f"{utterance.start!r} {utterance.end!r}".encode())
    return whole.hexdigest()


def inspect_audio(utterance: Utterance) -> AudioFacts:
    """Read all of an utterance's audio, a block at a time, and say what it is, and its problem if it has one."""
    try:
        with open_sound(utterance.path) as sound:
            channels, sample_rate = sound.channels, sound.sample_rate
            equal, finite, peak, clipped, seen = channels == 2, True, 0.0, 0, 0
            for block in _stretch(sound, utterance, _BLOCK_FRAMES):
                seen += len(block)
                size = np.abs(block)
                finite = finite and bool(np.isfinite(block).all())
                equal = equal and bool((block[:, 0] == block[:, 1]).all())
                peak = max(peak, float(size.max()))
                clipped += int((size >= 1 - 2**-15).sum())
            cut_off = sound.cut_off()
    except BadAudioError as error:
        return AudioFacts(0, 0, 0.0, False, 0.0, str(error))
    problem = ""
    if channels > 2:
        problem = f"it has {channels} channels; one or two are expected"
    elif seen < SHORTEST_SECONDS * sample_rate:
        problem = f"it has {seen} samples, less than {1000 * SHORTEST_SECONDS:g} ms"
    elif not finite:
        problem = "it holds values that are not numbers"
    elif cut_off:
        problem = cut_off
    elif peak == 0:
        problem = "it is silent throughout"
    return AudioFacts(channels, sample_rate, seen / sample_rate, equal, clipped / max(1, seen * channels), problem)


def read_stereo(utterance: Utterance) -> tuple[np.ndarray, int]:
    """Read ``(2, time)`` and its sample rate, Hz; a mono recording becomes two equal rows.

    Raises:
        BadAudioError: it cannot be decoded, is empty or has more than two channels.
    """
    blocks, sample_rates = zip(*stereo_blocks(utterance, _BLOCK_FRAMES), strict=True)
    return np.concatenate(blocks, axis=1), sample_rates[0]


def stereo_blocks(utterance: Utterance, frames: int) -> Iterator[tuple[np.ndarray, int]]:
    """Yield what ``read_stereo`` gives in successive blocks of so many frames, at least one.

    Raises:
        BadAudioError: as ``read_stereo``.
    """
    seen = 0
    try:
        with open_sound(utterance.path) as sound:
            if sound.channels > 2:
                raise BadAudioError(f"it has {sound.channels} channels; one or two are expected")
            for block in _stretch(sound, utterance, frames):
                seen += len(block)
                yield np.ascontiguousarray(np.broadcast_to(block.T, (2, len(block)))), sound.sample_rate
            if not seen:
                raise BadAudioError(f"it has 0 samples in {sound.channels} channels")
    except BadAudioError as error:
        raise BadAudioError(f"{utterance.path}: {error}") from None


def _stretch(sound: Sound, utterance: Utterance, frames: int) -> Iterator[np.ndarray]:
    """Yield the utterance's ``(time, channel)``, so many frames at a time.

    Raises:
        BadAudioError: it cannot be decoded, or ends before the utterance does by more than a tenth of a second.
    """
    rate = sound.sample_rate
    start = round(utterance.start * rate)
    end = None if utterance.end is None else round(utterance.end * rate)
    seen = start
    for block in sound.blocks(frames, start, end):
        seen += len(block)
        yield block
    if start and seen == start and sound.frames and start >= sound.frames:
        raise BadAudioError(f"it starts at {utterance.start:g} s but the file ends at {sound.frames / rate:g} s")
    if end is not None and seen < end and end > sound.frames + rate // 10:
        raise BadAudioError(f"it ends at {utterance.end:g} s but the file does at {sound.frames / rate:g} s")
