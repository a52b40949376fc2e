"""Audio at the door: every recording is checked once, and a bad one is named with its reason."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from bserkit.corpora.decoding import BadAudioError as BadAudioError
from bserkit.corpora.decoding import Sound, open_sound
from bserkit.errors import BserkitError
from bserkit.identity.content import file_hash, file_state

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from bserkit.corpora.reading import Utterance

#: What to do with recordings that are not stereo.
MonoPolicy = Literal["refuse", "duplicate", "skip"]
#: What to do with recordings of more than two channels: the numbers, counted from 1, of those that are left and right.
Microphones = tuple[int, int] | Literal["refuse", "skip"]
#: A stretch shorter than this holds no speech, seconds: one analysis window.
SHORTEST_SECONDS = 0.025
#: A channel that moves less than this share of what the other one does, 50 dB below it, recorded nothing: a voice at
#: one ear is some 30 dB weaker at the other at most, and one step of 16 bits lies 50 dB below a peak of 0.01.
SILENT_SHARE = 10 ** (-50 / 20)
#: No speech is recorded at fewer samples a second than this, Hz.
SLOWEST_RATE = 1000
#: The largest size of a sample that is one: a float file may hold those of 32-bit whole numbers, not scaled to 1.
LARGEST_SAMPLE = 2.0**31
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
        lowest: each channel's smallest sample; 1 is full scale.
        highest: each channel's largest sample.
    """

    channels: int
    sample_rate: int
    seconds: float
    equal: bool
    clipped: float
    problem: str = ""
    lowest: tuple[float, ...] = ()
    highest: tuple[float, ...] = ()

    @property
    def peaks(self) -> tuple[float, ...]:
        """Each channel's largest size of a sample; 1 is full scale."""
        return tuple(max(-low, high) for low, high in zip(self.lowest, self.highest, strict=True))

    @property
    def silent(self) -> Literal["", "left", "right"]:
        """The one of two channels that recorded nothing, if one did: it moves 50 dB less than the other one.

        A constant offset is no movement.
        """
        if len(self.lowest) != 2:
            return ""
        left, right = (high - low for low, high in zip(self.lowest, self.highest, strict=True))
        if max(left, right) == 0 or min(left, right) > SILENT_SHARE * max(left, right):
            return ""
        return "left" if left < right else "right"

    @property
    def stereo(self) -> bool:
        """Whether there is anything between left and right to learn from."""
        return self.channels == 2 and not self.equal and not self.silent

    def as_dict(self) -> dict[str, Any]:
        """Return the facts as plain values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> AudioFacts:
        """Return the facts that ``as_dict`` gave."""
        return cls(**{**values, "lowest": tuple(values["lowest"]), "highest": tuple(values["highest"])})

    @classmethod
    def usable(cls, values: Mapping[str, Any]) -> bool:
        """Say whether facts that were kept can be used again: this version's, of what could be decoded.

        What cannot be decoded today may be when another decoder is installed.
        """
        return values.keys() == {one.name for one in fields(cls)} and not values["problem"]


def content_digest(utterance: Utterance) -> str:
    """Name an utterance's audio by its content: the SHA-256 of the file's bytes, the stretch and the microphones.

    Raises:
        BadAudioError: the file cannot be read.
    """
    try:
        whole = file_hash(utterance.path)
    except OSError as error:
        raise BadAudioError(f"it cannot be read ({error.strerror})") from None
    if utterance.start or utterance.end is not None:
        whole.update(f"{utterance.start!r} {utterance.end!r}".encode())
    if utterance.microphones:
        whole.update(f"microphones {utterance.microphones}".encode())
    digest: str = whole.hexdigest()
    return digest


@contextmanager
def unchanged(utterance: Utterance, digest: str) -> Iterator[None]:
    """See that what is read of a recording inside is what the digest names.

    Raises:
        BserkitError: its file was changed or replaced since it was digested; nothing made of it may be kept.
    """
    before = _state(utterance.path)
    yield
    try:
        same = content_digest(utterance) == digest and _state(utterance.path) == before
    except BadAudioError:
        same = False
    if not same:
        raise BserkitError(
            f"{utterance.path} changed while the run was under way: it is not the file that was checked. Nothing of it "
            "was kept; what is done of others is. Run the same command again when the file stays as it is."
        )


def _state(path: Path) -> tuple[int, ...]:
    try:
        return file_state(path)
    except OSError:
        return ()


def inspect_audio(utterance: Utterance) -> AudioFacts:
    """Read all of an utterance's audio, a block at a time, and say what it is, and its problem if it has one."""
    try:
        with open_sound(utterance.path) as sound:
            columns = _columns(sound, utterance)
            channels, sample_rate = len(columns), sound.sample_rate
            equal, clipped, seen = channels == 2, 0, 0
            lowest, highest = np.full(channels, np.inf), np.full(channels, -np.inf)
            for block in _stretch(sound, utterance, _BLOCK_FRAMES):
                block = block[:, columns]
                seen += len(block)
                equal = equal and bool((block[:, 0] == block[:, 1]).all())
                lowest, highest = np.minimum(lowest, block.min(axis=0)), np.maximum(highest, block.max(axis=0))
                clipped += int((np.abs(block) >= 1 - 2**-15).sum())
            cut_off = sound.cut_off()
    except BadAudioError as error:
        return AudioFacts(0, 0, 0.0, False, 0.0, str(error))
    problem = ""
    finite = bool(np.isfinite([lowest, highest]).all())
    if channels > 2:
        problem = _too_many(channels)
    elif seen < SHORTEST_SECONDS * sample_rate:
        problem = f"it has {seen} samples, less than {1000 * SHORTEST_SECONDS:g} ms"
    elif not finite:
        problem = "it holds values that are not numbers"
    elif sample_rate < SLOWEST_RATE:
        problem = f"its sample rate is {sample_rate} Hz; at least {SLOWEST_RATE} are expected"
    elif (size := float(max(-lowest.min(), highest.max()))) > LARGEST_SAMPLE:
        problem = f"its samples reach {size:.1g}, where 1 is full scale"
    elif cut_off:
        problem = cut_off
    elif (lowest == highest).all():
        problem = "it holds the same value throughout" if lowest.any() else "it is silent throughout"
    ranges = (tuple(lowest.tolist()), tuple(highest.tolist())) if finite else ((), ())
    return AudioFacts(
        channels, sample_rate, seen / sample_rate, equal, clipped / max(1, seen * channels), problem, *ranges
    )


def read_stereo(utterance: Utterance) -> tuple[np.ndarray, int]:
    """Read ``(2, time)`` and its sample rate, Hz; a mono recording becomes two equal rows.

    The rows are the utterance's microphones, where they were chosen.

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
            columns = _columns(sound, utterance)
            if len(columns) > 2:
                raise BadAudioError(_too_many(sound.channels))
            for block in _stretch(sound, utterance, frames):
                seen += len(block)
                yield np.ascontiguousarray(block.T[(columns * 2)[:2]]), sound.sample_rate
            if not seen:
                raise BadAudioError(f"it has 0 samples in {sound.channels} channels")
    except BadAudioError as error:
        raise BadAudioError(f"{utterance.path}: {error}") from None


def _columns(sound: Sound, utterance: Utterance) -> list[int]:
    """Return the columns of a recording that are wanted: its two microphones, or all where none were chosen.

    Raises:
        BadAudioError: it has fewer channels than were chosen from.
    """
    if utterance.microphones is None:
        return list(range(sound.channels))
    if max(utterance.microphones) > sound.channels:
        left, right = utterance.microphones
        raise BadAudioError(f"it has {sound.channels} channels, but microphones {left},{right} were chosen")
    return [number - 1 for number in utterance.microphones]


def _too_many(channels: int) -> str:
    return f"it has {channels} channels; two are expected, such as --microphones 1,2 chooses"


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
