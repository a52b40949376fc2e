"""Decoding: sound files and the sound of video containers behind one interface, a block at a time."""

from __future__ import annotations

import os
import re
import struct
from abc import ABC, abstractmethod
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from bserkit.errors import BserkitError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

#: Endings of sound files, which libsndfile reads.
SOUND_SUFFIXES = frozenset({".wav", ".flac", ".ogg", ".oga", ".mp3", ".aif", ".aiff", ".au", ".w64", ".caf", ".opus"})
#: Endings of containers, mostly of video, whose sound FFmpeg reads.
CONTAINER_SUFFIXES = frozenset(
    {".mp4", ".m4v", ".m4a", ".mov", ".3gp", ".avi", ".mkv", ".mka", ".webm", ".mpg", ".mpeg", ".wmv", ".flv"}
)
#: What FFmpeg may take a container for: never a playlist, which would make it open other files or addresses.
_CONTAINER_FORMATS = "mov,mp4,avi,matroska,webm,mpeg,mpegvideo,asf,flv"
#: A container that ends this much earlier than it says was cut off, seconds: more than any rounding of times.
_MISSING_SECONDS = 0.5
#: The share of bytes that may be missing at the end: some programs miscount a few.
_MISSING_BYTES = 0.01


class BadAudioError(BserkitError):
    """A recording cannot be used; the message is its reason."""


class Sound(ABC):
    """An open recording.

    Attributes:
        channels: how many it has.
        sample_rate: Hz.
        frames: how many samples a channel has; of a container this is known once it was read to its end.
    """

    channels: int
    sample_rate: int
    frames: int

    @abstractmethod
    def blocks(self, frames: int, start: int = 0, end: int | None = None) -> Iterator[np.ndarray]:
        """Yield ``(time, channel)`` of 32-bit floats from frame ``start`` to before ``end`` or the recording's end.

        Every block has ``frames`` samples a channel, but the last may have fewer. Asked for once a recording.

        Raises:
            BadAudioError: it cannot be decoded that far.
        """

    @abstractmethod
    def cut_off(self) -> str:
        """Say so where the recording announces more sound than there is; of a container known at its end."""


@contextmanager
def open_sound(path: Path) -> Iterator[Sound]:
    """Open a recording: a container by PyAV (FFmpeg), anything else by soundfile (libsndfile).

    Raises:
        BadAudioError: it cannot be decoded, or holds no sound.
        BserkitError: it is a container and PyAV is not installed.
    """
    with (_open_container if path.suffix.lower() in CONTAINER_SUFFIXES else _open_file)(path) as sound:
        yield sound


class _FileSound(Sound):
    """A sound file, by libsndfile."""

    def __init__(self, file: Any) -> None:
        self._file = file
        self.channels, self.sample_rate, self.frames = file.channels, file.samplerate, file.frames

    def blocks(self, frames: int, start: int = 0, end: int | None = None) -> Iterator[np.ndarray]:
        from soundfile import SoundFileError

        with _told(SoundFileError, OSError):
            if start:
                self._file.seek(min(start, self.frames))
            left = (self.frames if end is None else min(end, self.frames)) - start
            while left > 0:
                block = self._file.read(min(frames, left), dtype="float32", always_2d=True)
                if not len(block):
                    return
                left -= len(block)
                yield block

    def cut_off(self) -> str:
        # libsndfile reads a WAV file whose header announces too much without a word.
        sizes = re.search(r"^data : (\d+) \(should be (\d+)\)", self._file.extra_info, flags=re.MULTILINE)
        # What is written into a pipe does not know its length: its header says nothing or the most that can be said.
        if not sizes or int(sizes[1]) in (0, 2**32 - 1):
            return ""
        return f"it was cut off: {sizes[2]} of {sizes[1]} bytes of sound are there"


@contextmanager
def _open_file(path: Path) -> Iterator[Sound]:
    import soundfile

    with _told(soundfile.SoundFileError, OSError):
        file = soundfile.SoundFile(path)
    with file:
        yield _FileSound(file)


class _ContainerSound(Sound):
    """The sound of a container, by FFmpeg, from its first sample on.

    Samples follow one another as they are decoded, just as in a WAV file that the ffmpeg command makes of it. What an
    encoder put before the first sample is dropped where the container says so; times, which may be rounded to
    milliseconds, move no sample. Nothing is sought for, since seeking is not exact to the sample.
    """

    def __init__(self, file: BinaryIO, container: Any, stream: Any) -> None:
        self._file, self._container, self._stream = file, container, stream
        self.channels, self.sample_rate = stream.codec_context.channels, stream.codec_context.sample_rate
        self.frames = 0
        self._ended = False
        self._last_second = 0.0

    def blocks(self, frames: int, start: int = 0, end: int | None = None) -> Iterator[np.ndarray]:
        waiting: list[np.ndarray] = []
        count = 0
        for samples in self._decoded():
            first = self.frames
            self.frames += len(samples)
            wanted = samples[max(0, start - first) : None if end is None else max(0, end - first)]
            if len(wanted):
                waiting.append(wanted)
                count += len(wanted)
            while count >= frames:
                together = np.concatenate(waiting)
                yield together[:frames]
                waiting = [together[frames:]]
                count -= frames
            if end is not None and self.frames >= max(start, end):
                break
        if count:
            yield np.concatenate(waiting)

    def cut_off(self) -> str:
        stated = (self._container.duration or 0) / 1e6
        if self._ended and self._last_second < stated - _MISSING_SECONDS:
            return f"it was cut off: {self._last_second:.2f} of {stated:.2f} s are there"
        # FFmpeg takes what is there of an AVI file for all of it; the file's first chunk says how long it should be.
        self._file.seek(0)
        name, after = struct.unpack("<4sI", self._file.read(8))
        there = self._file.seek(0, os.SEEK_END)
        if name == b"RIFF" and there < (1 - _MISSING_BYTES) * (8 + after):
            return f"it was cut off: {there} of {8 + after} bytes are there"
        return ""

    def _decoded(self) -> Iterator[np.ndarray]:
        """Yield ``(time, channel)`` as the decoder makes it, noting where the container's last packet ends."""
        from av import FFmpegError

        origin = (self._container.start_time or 0) / 1e6
        with _told(FFmpegError, OSError):
            # Pictures are not decoded, but their packets too say how far the container goes.
            for packet in self._container.demux():
                if (time := packet.dts if packet.pts is None else packet.pts) is not None:
                    ends = float((time + (packet.duration or 0)) * packet.time_base) - origin
                    self._last_second = max(self._last_second, ends)
                if packet.stream.index == self._stream.index:
                    for frame in packet.decode():
                        if (frame.layout.nb_channels, frame.sample_rate) != (self.channels, self.sample_rate):
                            raise BadAudioError("its channels or sample rate change on the way")
                        yield _floats(frame.to_ndarray(), self.channels)
        self._ended = True


@contextmanager
def _open_container(path: Path) -> Iterator[Sound]:
    try:
        import av
    except ImportError:
        raise BserkitError(
            f"{path.name} is a video or another container, whose sound PyAV reads, and PyAV is not installed: "
            "pip install 'bserkit[video]'"
        ) from None

    with ExitStack() as opened:
        with _told(av.FFmpegError, OSError):
            file = opened.enter_context(path.open("rb"))
            options = {"protocol_whitelist": "file", "format_whitelist": _CONTAINER_FORMATS}
            container = opened.enter_context(av.open(file, options=options, metadata_errors="ignore"))
            stream = container.streams.best("audio")
        if stream is None:
            raise BadAudioError("it holds no sound")
        yield _ContainerSound(file, container, stream)


@contextmanager
def _told(*errors: type[Exception]) -> Iterator[None]:
    """Tell a decoder's errors as the reason why a recording cannot be used."""
    try:
        yield
    except errors as error:
        words = str(getattr(error, "strerror", None) or error).rpartition(": ")[2].strip(" .")
        raise BadAudioError(f"it cannot be decoded ({words or type(error).__name__})") from None


def _floats(samples: np.ndarray, channels: int) -> np.ndarray:
    """Return ``(time, channel)`` within -1 to 1 of a decoder's samples, planar or interleaved, as libsndfile scales."""
    rows = samples.T if len(samples) == channels else samples.reshape(-1, channels)
    if rows.dtype.kind == "f":
        return rows.astype(np.float32)
    if rows.dtype == np.uint8:
        return (rows.astype(np.float32) - 128) / 128
    return rows.astype(np.float32) * np.float32(-1 / np.iinfo(rows.dtype).min)
