"""Decoding: sound files and the sound of containers behind one interface, by content, a block at a time."""

from __future__ import annotations

import os
import re
import struct
from abc import ABC, abstractmethod
from contextlib import ExitStack, contextmanager
from itertools import chain
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from bserkit.errors import BserkitError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

#: Endings of sound files.
SOUND_SUFFIXES = frozenset({
    ".wav", ".wave", ".bwf", ".rf64", ".w64", ".flac", ".ogg", ".oga", ".spx", ".opus", ".mp3", ".mp2", ".aif",
    ".aiff", ".aifc", ".au", ".snd", ".caf", ".voc", ".sph", ".nist", ".wv1", ".wv2", ".m4a", ".m4b", ".aac", ".ac3",
    ".eac3", ".dts", ".wma", ".amr", ".awb", ".mka", ".ape", ".wv", ".tta", ".shn",
})  # fmt: skip
#: Endings of videos.
CONTAINER_SUFFIXES = frozenset({
    ".mp4", ".m4v", ".mov", ".qt", ".3gp", ".3g2", ".avi", ".mkv", ".webm", ".ogv", ".mpg", ".mpeg", ".vob", ".mts",
    ".m2ts", ".wmv", ".asf", ".flv", ".f4v", ".rm", ".rmvb",
})  # fmt: skip
#: What a file's first bytes say of what libsndfile cannot read or mistakes for MP3: where, which, and its name.
_CONTAINERS = (
    (4, b"ftyp", "an MP4 or QuickTime file"),
    (4, b"moov", "a QuickTime file"),
    (4, b"mdat", "a QuickTime file"),
    (4, b"wide", "a QuickTime file"),
    (8, b"AVI ", "an AVI file"),
    (0, b"\x1a\x45\xdf\xa3", "a Matroska or WebM file"),
    (0, b"\x30\x26\xb2\x75\x8e\x66\xcf\x11", "a Windows Media file"),
    (0, b"FLV", "a Flash video"),
    (0, b"\x00\x00\x01\xba", "an MPEG film"),
    (0, b"\x00\x00\x01\xb3", "an MPEG film"),
    (0, b".RMF", "a RealMedia file"),
    (0, b"#!AMR", "AMR sound"),
    (0, b"\x0b\x77", "AC-3 sound"),
    (0, b"\x7f\xfe\x80\x01", "DTS sound"),
    (0, b"wvpk", "WavPack sound"),
    (0, b"MAC ", "Monkey's Audio sound"),
    (0, b"TTA1", "True Audio sound"),
    (0, b"ajkg", "Shorten sound"),
)
#: What FFmpeg may take a file for: never a playlist, which would make it open other files or addresses.
_FORMATS = (
    "mov,mp4,avi,matroska,webm,mpeg,mpegvideo,mpegts,asf,flv,rm,aac,ac3,eac3,dts,amr,wv,ape,tta,shn,ogg,wav,w64,caf,aiff,"
    "au,nistsphere,voc,mp3"
)
#: Of these, which say nothing of their length, FFmpeg guesses it.
_LENGTHLESS = frozenset({"aac", "ac3", "eac3", "dts", "amr", "mp3", "shn"})
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
    """Open a recording by what it holds, whatever it is called.

    soundfile (libsndfile) reads what it can, so that a recording's samples do not depend on what else is installed;
    PyAV (FFmpeg) reads the rest.

    Raises:
        BadAudioError: it cannot be decoded, or holds no sound.
        BserkitError: PyAV reads such files and is not installed.
    """
    with ExitStack() as opened:
        if container := _container(path):
            sound = opened.enter_context(_open_container(path, container))
        else:
            try:
                sound = opened.enter_context(_open_file(path))
            except BadAudioError as error:
                sound = opened.enter_context(_open_rest(path, error))
        yield sound


@contextmanager
def _open_rest(path: Path, refused: BadAudioError) -> Iterator[Sound]:
    """Open what libsndfile refused by FFmpeg, if it can: WAV files with AAC in them, Speex, transport streams."""
    with ExitStack() as opened:
        try:
            sound = opened.enter_context(_open_container(path, "something else"))
        except BadAudioError:
            raise refused from None
        except BserkitError:
            raise BadAudioError(f"{refused}; pip install 'bserkit[video]' reads more kinds of files") from None
        yield sound


def _container(path: Path) -> str:
    """Say what a file is that libsndfile cannot read, by its first bytes; nothing of what it may be able to read."""
    with _told(OSError), path.open("rb") as file:
        head = file.read(16)
        if head.startswith(b"ID3") and len(head) > 10:
            # The sound begins behind a tag, which says its length in seven bits a byte.
            high, middle, low, lowest = head[6:10]
            file.seek(10 + (high << 21 | middle << 14 | low << 7 | lowest))
            head = file.read(16)
    # MPEG's sound begins with eleven ones too; that its layer is 0 tells AAC from MP3.
    if len(head) > 1 and head[0] == 0xFF and head[1] & 0xF6 == 0xF0:
        return "AAC sound"
    return next((name for start, magic, name in _CONTAINERS if head[start:].startswith(magic)), "")


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
        file = soundfile.SoundFile(os.fsencode(path))  # a name need not be UTF-8
    with file:
        yield _FileSound(file)


class _ContainerSound(Sound):
    """The sound of a container, by FFmpeg, whose times count from its first sample.

    Samples follow one another as they are decoded, as in a WAV file that the ffmpeg command makes of it: times, which
    may be rounded to milliseconds and begin after the pictures, move no sample. What an encoder put before the first
    sample is dropped where the container says so; at the end some of its last frame's padding, a few ms, may stay.
    Nothing is sought for, since seeking is not exact to the sample: a stretch takes the time to decode all that lies
    before it.
    """

    def __init__(self, file: BinaryIO, container: Any, stream: Any) -> None:
        self._file, self._container, self._stream = file, container, stream
        self.channels = self.sample_rate = self.frames = 0
        self._ended = False
        self._last_second = 0.0
        self._decoded = self._decode()
        # Only the decoder knows for sure: AAC may say half the rate and one channel where it makes the whole and two.
        if (first := next(self._decoded, None)) is None:
            raise BadAudioError("it holds no sound")
        self._first = first

    def blocks(self, frames: int, start: int = 0, end: int | None = None) -> Iterator[np.ndarray]:
        waiting: list[np.ndarray] = []
        count = 0
        for samples in chain([self._first], self._decoded):
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
        guessed = self._container.format.name in _LENGTHLESS
        stated = 0.0 if guessed else (self._container.duration or 0) / 1e6
        if self._ended and self._last_second < stated - _MISSING_SECONDS:
            return f"it was cut off: {self._last_second:.2f} of {stated:.2f} s are there"
        # FFmpeg takes what is there of an AVI file for all of it; the file's first chunk says how long it should be.
        self._file.seek(0)
        name, after = struct.unpack("<4sI", self._file.read(8))
        there = self._file.seek(0, os.SEEK_END)
        if name == b"RIFF" and there < (1 - _MISSING_BYTES) * (8 + after):
            return f"it was cut off: {there} of {8 + after} bytes are there"
        return ""

    def _decode(self) -> Iterator[np.ndarray]:
        """Yield ``(time, channel)`` as the decoder makes it, noting where the container's last packet ends."""
        from av import FFmpegError

        origin = (self._container.start_time or 0) / 1e6
        with _told(FFmpegError, OSError):
            # Pictures are not decoded, but their packets too say how far the container goes.
            for packet in self._container.demux():
                time = packet.dts if packet.pts is None else packet.pts
                if time is not None and packet.time_base:
                    ends = float((time + (packet.duration or 0)) * packet.time_base) - origin
                    self._last_second = max(self._last_second, ends)
                if packet.stream.index == self._stream.index:
                    for frame in packet.decode():
                        shape = frame.layout.nb_channels, frame.sample_rate
                        if self.channels and shape != (self.channels, self.sample_rate):
                            raise BadAudioError("its channels or sample rate change on the way")
                        self.channels, self.sample_rate = shape
                        yield _floats(frame.to_ndarray(), self.channels)
        self._ended = True


@contextmanager
def _open_container(path: Path, content: str) -> Iterator[Sound]:
    try:
        import av
    except ImportError:
        raise BserkitError(
            f"{path.name} is {content}, which PyAV reads, and PyAV is not installed: pip install 'bserkit[video]'"
        ) from None

    with ExitStack() as opened:
        with _told(av.FFmpegError, OSError):
            file = opened.enter_context(path.open("rb"))
            options = {"protocol_whitelist": "file", "format_whitelist": _FORMATS}
            # Tags of any bytes are read by PyAV 19 and later unasked.
            tags: dict[str, Any] = {} if int(av.__version__.partition(".")[0]) >= 19 else {"metadata_errors": "ignore"}
            container = opened.enter_context(av.open(file, options=options, **tags))
            stream = container.streams.best("audio")
        if stream is None or stream.codec_context is None:
            raise BadAudioError("it holds no sound" if stream is None else "its sound is coded in an unknown way")
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
