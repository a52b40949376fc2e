"""Audio at the door: every recording is checked once, and a bad one is named with its reason."""

from __future__ import annotations

import hashlib
import re
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from bserkit.errors import BserkitError

if TYPE_CHECKING:
    from bserkit.corpus import Utterance

#: What to do with recordings that are not stereo.
MonoPolicy = Literal["refuse", "duplicate", "skip"]
#: A stretch shorter than this holds no speech, seconds: one analysis window.
SHORTEST_SECONDS = 0.025
#: Frames that are read at a time where only facts are wanted, so that an hour takes no more memory than a minute.
_BLOCK_FRAMES = 1 << 20


class BadAudioError(BserkitError):
    """A recording cannot be used; the message is its reason."""


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
    import soundfile

    try:
        with soundfile.SoundFile(utterance.path) as file:
            frames = _seek(file, utterance)
            channels, sample_rate = file.channels, file.samplerate
            cut_off = _cut_off(file)
            equal, finite, peak, clipped, seen = channels == 2, True, 0.0, 0, 0
            while seen < frames:
                block = file.read(min(_BLOCK_FRAMES, frames - seen), dtype="float32", always_2d=True)
                if not len(block):
                    break
                seen += len(block)
                size = np.abs(block)
                finite = finite and bool(np.isfinite(block).all())
                equal = equal and bool((block[:, 0] == block[:, 1]).all())
                peak = max(peak, float(size.max()))
                clipped += int((size >= 1 - 2**-15).sum())
    except (soundfile.SoundFileError, OSError, BadAudioError) as error:
        reason = str(error) if isinstance(error, BadAudioError) else f"it cannot be decoded ({_cause(error)})"
        return AudioFacts(0, 0, 0.0, False, 0.0, reason)
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
    import soundfile

    try:
        with soundfile.SoundFile(utterance.path) as file:
            samples = file.read(_seek(file, utterance), dtype="float32", always_2d=True)
            sample_rate = int(file.samplerate)
    except BadAudioError as error:
        raise BadAudioError(f"{utterance.path}: {error}") from None
    except (soundfile.SoundFileError, OSError) as error:
        raise BadAudioError(f"{utterance.path}: it cannot be decoded ({_cause(error)})") from None
    if not len(samples) or samples.shape[1] > 2:
        raise BadAudioError(f"{utterance.path}: it has {len(samples)} samples in {samples.shape[1]} channels")
    return np.ascontiguousarray(np.broadcast_to(samples.T, (2, len(samples)))), sample_rate


def _seek(file: Any, utterance: Utterance) -> int:
    """Move to the utterance's first frame and return how many frames it has."""
    start = round(utterance.start * file.samplerate)
    end = file.frames if utterance.end is None else round(utterance.end * file.samplerate)
    if start >= file.frames and file.frames:
        raise BadAudioError(
            f"it starts at {utterance.start:g} s but the file ends at {file.frames / file.samplerate:g} s"
        )
    if end > file.frames + file.samplerate // 10:
        raise BadAudioError(f"it ends at {utterance.end:g} s but the file does at {file.frames / file.samplerate:g} s")
    if start:
        file.seek(start)
    return max(0, int(min(end, file.frames) - start))


def _cut_off(file: Any) -> str:
    """Say so where a WAV file's header announces more sound than there is, which libsndfile reads without a word."""
    sizes = re.search(r"^data : (\d+) \(should be (\d+)\)", file.extra_info, flags=re.MULTILINE)
    # What is written into a pipe does not know its length: its header says nothing or the most that can be said.
    if not sizes or int(sizes[1]) in (0, 2**32 - 1):
        return ""
    return f"it was cut off: {sizes[2]} of {sizes[1]} bytes of sound are there"


def _cause(error: Exception) -> str:
    return str(error).rpartition(": ")[2].strip(" .") or type(error).__name__
