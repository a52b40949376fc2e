"""Extraction: audio files become segment features in the store, each computed once."""

from __future__ import annotations

import os
import re
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from importlib.metadata import version
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

import numpy as np

from bserkit.component import identity
from bserkit.corpora.audio import read_stereo, stereo_blocks, unchanged
from bserkit.devices import compute_whole_fp32, fastest_precision, memory_kept
from bserkit.errors import BserkitError, UsageError
from bserkit.features.channels import FUSION
from bserkit.features.contracts import asked, features_of, loaded, segments_of, transformed, weights_digest
from bserkit.identity.meaning import meaning

if TYPE_CHECKING:
    import torch

    from bserkit.corpora.reading import Utterance
    from bserkit.features.backbones import Backbone
    from bserkit.features.channels import ChannelTransform
    from bserkit.features.frontends import Frontend, Segments
    from bserkit.store import FeatureStore, Rows
    from bserkit.workspace import Workspace

_Made = TypeVar("_Made")

#: Segments that go through the network at once, by kind of device. Every batch is filled up to it, so that what a
#: segment's features are does not depend on how many others came along. More take more memory; fewer take longer, since
#: AlexNet's last layers are read from memory once a batch.
BATCH_SEGMENTS = {"cpu": 64, "cuda": 256}
#: What may name a part of a result: it becomes part of a metric's name.
_PART = re.compile(r"[^\W_][\w.-]*")
#: Pieces of utterances' channels that are prepared ahead of the network, by each thread that does so.
_AHEAD = 8
#: Threads that prepare utterances, by kind of device. A processor's network leaves room for one.
_PREPARING = {"cpu": 1, "cuda": min(8, os.cpu_count() or 1)}
#: Utterances of up to so many frames, 11 s at 48 kHz, go through the frontend whole; longer ones in blocks of so many.
_WHOLE_FRAMES, _BLOCK_FRAMES = 1 << 19, 1 << 16


@dataclass(frozen=True)
class Extraction:
    """How features are made: every recipe on the way, and the arithmetic.

    Attributes:
        device: ``cpu`` or ``cuda:N``.
        precision: ``fp32``, ``bf16`` or ``fp16``.
        only: the one channel that is wanted; empty means every one that the transforms make.
    """

    transforms: tuple[ChannelTransform, ...]
    frontend: Frontend
    backbone: Backbone
    device: str
    precision: str
    only: str = ""

    def of_channel(self, channel: str) -> Extraction:
        """Return how the features of one channel alone are made."""
        return replace(self, only=channel)

    @property
    def needs_stereo(self) -> bool:
        """Whether recordings must be of two ears that differ."""
        return any(transform.needs_stereo for transform in self.transforms)

    def faster(self) -> str:
        """Say by which option this would be computed faster here; nothing if by none."""
        if self.precision != "fp32" or self.backbone.reads == "waveform":
            return ""
        if (fastest := fastest_precision(self.device)) == "fp32":
            return ""
        return (
            f"Computing in fp32, the same numbers everywhere; --precision {fastest} is faster here, with other numbers."
        )

    def transform_of(self) -> dict[str, str]:
        """Return the transform of every channel, in order.

        Raises:
            UsageError: two parts of a result, which are channels, transforms and the fusion, would have one name.
        """
        found: dict[str, str] = {}
        for transform in self.transforms:
            for channel in transform.outputs:
                if channel in found:
                    raise UsageError(f"Channels {found[channel]} and {transform.name} both make a channel {channel!r}.")
                found[channel] = transform.name
        for transform in self.transforms:
            # A transform of one channel decides as that channel does, so these two may share a name.
            if transform.name in found.keys() - ({transform.name} if len(transform.outputs) == 1 else set()):
                raise UsageError(
                    f"Channels {found[transform.name]} make a channel {transform.name!r}, which is the name of the "
                    f"channels {transform.name} too, so their results could not be told apart. Rename one of them."
                )
        for name in (*found, *found.values()):
            if name == FUSION or not _PART.fullmatch(name):
                raise UsageError(
                    f"Channels {found.get(name, name)}: {name!r} cannot name a channel or channels. Expected letters, "
                    f"digits, '_', '-' and '.', beginning with a letter or digit, and not {FUSION!r}, which names the "
                    "final decision. Rename it."
                )
        return {self.only: found[self.only]} if self.only else found

    def recipes(self) -> dict[str, dict[str, Any]]:
        """Return, by channel, everything that its features depend on beside the audio."""
        shared = {
            "frontend": identity(self.frontend),
            "backbone": identity(self.backbone, self.backbone.recipe()),
            "weights": weights_digest(self.backbone),
            "device": self.device.partition(":")[0],
            "precision": self.precision,
            "torch": version("torch"),
            "torchaudio": version("torchaudio"),
            "soundfile": version("soundfile"),
            "extraction": meaning(prepared, _Network, _features, _one_by_one),
        }
        return {
            channel: {"channel": channel, "transform": identity(transform), **shared}
            for transform in self.transforms
            for channel in transform.outputs
            if channel == self.only or not self.only
        }


@dataclass(frozen=True)
class Pending:
    """What the store does not hold yet, and the loaded network that will make it, if there is anything to make.

    Attributes:
        recipes: by channel, everything that its features depend on beside the audio.
        wanted: by digest, the utterance and the channels that are missing of it.
    """

    extraction: Extraction
    recipes: Mapping[str, Mapping[str, Any]]
    wanted: Mapping[str, tuple[Utterance, list[str]]]
    network: _Network | None


def pending(
    utterances: Sequence[Utterance], digests: Sequence[str], extraction: Extraction, store: FeatureStore
) -> Pending:
    """Find out what has to be computed and load the network for it, so that wrong weights are told before any work.

    Raises:
        BserkitError: the weights cannot be had or do not fit the architecture.
    """
    recipes = extraction.recipes()
    for recipe in recipes.values():
        store.touch(recipe)
    # One recording under several names is computed once.
    wanted = {
        digest: (utterance, missing)
        for digest, utterance in dict(zip(digests, utterances, strict=True)).items()
        if (missing := [channel for channel, recipe in recipes.items() if not store.has(recipe, digest)])
    }
    network = _Network(extraction) if wanted else None
    if wanted and any(recipe["weights"] != weights_digest(extraction.backbone) for recipe in recipes.values()):
        raise BserkitError(
            f"The weights of backbone {extraction.backbone.spec} changed while they were loaded. Run the same command "
            "again when their file stays as it is."
        )
    return Pending(extraction, recipes, wanted, network)


def extract(work: Pending, workspace: Workspace) -> int:
    """Compute what is pending; return how many segments went through the network.

    Decoding and the frontend run ahead in threads of their own; batches fill across utterances and channels. A long
    utterance goes through in pieces and its features gather on disk, so that memory does not grow with its length. What
    is done is kept even if the work is broken off.

    Raises:
        BserkitError: audio or the disk stand in the way, or the network makes values that are not numbers.
    """
    if work.network is None:
        return 0
    store, reporter = workspace.store, workspace.reporter
    if hint := work.extraction.faster():
        reporter.say(hint)
    segments = 0
    gathered: dict[str, tuple[Rows, list[np.ndarray]]] = {}
    pieces = prepared(work.wanted, work.extraction)
    by_itself = work.extraction.frontend.makes == "waveform"
    parts = (_one_by_one if by_itself else _features)(pieces, work.network, work.wanted)
    try:
        with memory_kept(), reporter.stage("Extracting features", len(work.wanted), "utterances") as advance:
            for part, features in parts:
                if part.channel not in gathered:
                    gathered[part.channel] = store.rows(), []
                rows, times = gathered[part.channel]
                with store.writing():
                    rows.add(features)
                times.append(part.times)
                segments += len(features)
                if part.last:
                    del gathered[part.channel]
                    with closing(rows):
                        rows.dtype = work.network.kept_as(rows.largest)
                        store.write_features(work.recipes[part.channel], part.digest, rows, np.concatenate(times))
                    advance(int(part.channel == work.wanted[part.digest][1][-1]))
    finally:
        pieces.close()
        for rows, _ in gathered.values():
            rows.close()
    return segments


def from_features(
    utterances: Sequence[Utterance],
    digests: Sequence[str],
    extraction: Extraction,
    workspace: Workspace,
    use: Callable[[int, str, np.ndarray, np.ndarray], _Made],
    stage: str = "Reading features",
) -> list[list[_Made]]:
    """Return, by utterance and channel, what is made of the kept features; missing ones are computed first.

    Args:
        use: makes it, given the utterance's number, the channel, ``(segment, feature)`` and ``(segment, 2)`` times,
            both of which are its own.

    Raises:
        BserkitError: features do not stay in the store, or cannot be computed.
    """
    recipes, store = extraction.recipes(), workspace.store

    def made_of(index: int) -> list[_Made] | None:
        made = []
        for channel, recipe in recipes.items():
            if (kept := store.read_features(recipe, digests[index])) is None:
                return None
            made.append(use(index, channel, *kept))
        return made

    found = workspace.each(stage, made_of, range(len(utterances)), "utterances")
    lost = [index for index, made in enumerate(found) if made is None]
    if lost:
        # Every file of theirs is read, so that all that is damaged is deleted before anything is computed.
        for index in lost:
            for recipe in recipes.values():
                store.read_features(recipe, digests[index])
        store.tell_damage(workspace.reporter.say)
        again = [utterances[index] for index in lost], [digests[index] for index in lost]
        extract(pending(*again, extraction, store), workspace)
        for index in lost:
            found[index] = made_of(index)
    done = [made for made in found if made is not None]
    if len(done) < len(found):
        raise BserkitError(
            f"Features do not stay in the store {store.root} as they were written: another program changes or deletes "
            "them, or the disk fails. Choose another folder with --cache DIR."
        )
    return done


class _Network:
    """A loaded backbone in its precision: ``(segment, 3, mel, frame) -> (segment, feature)``, batches always full.

    Attributes:
        behind: batches that it may be at while the next one is gathered.
    """

    def __init__(self, extraction: Extraction) -> None:
        import torch

        self.dtype = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[extraction.precision]
        self.device = extraction.device
        self.on_gpu = self.device != "cpu"
        self.behind = int(self.on_gpu)
        self.batch_segments = BATCH_SEGMENTS[extraction.device.partition(":")[0]]
        self.backbone = extraction.backbone
        self.threads = os.cpu_count() or 1 if extraction.backbone.concurrent else 1
        network, self.feature_size = loaded(self.backbone, self.device)
        self.module = network.to(self.dtype).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        # After whatever the backbone's own code has set.
        compute_whole_fp32()

    def batch(self, segment: torch.Size) -> torch.Tensor:
        """Return an empty batch of segments of this shape, in memory that a GPU reads by itself."""
        import torch

        return torch.zeros((self.batch_segments, *segment), dtype=self.dtype, pin_memory=self.on_gpu)

    def start(self, batch: torch.Tensor, where: Sequence[str]) -> Callable[[], np.ndarray]:
        """Begin with a batch, given the recording of each segment that is wanted; return what waits for their features.

        The batch is the network's until then.
        """
        import torch

        ready = torch.cuda.Event() if self.on_gpu else None  # type: ignore[no-untyped-call]
        with torch.inference_mode():
            with asked(self.backbone, f"features of {where[0]}"):
                made = self.module(batch.to(self.device, non_blocking=True))
            if ready and isinstance(made, torch.Tensor):
                made = made.to("cpu", non_blocking=True)
                ready.record(torch.cuda.current_stream(self.device))

        def features() -> np.ndarray:
            if ready:
                ready.synchronize()
            with torch.inference_mode():
                return features_of(self.backbone, made, len(batch), self.feature_size, where).numpy()

        return features

    def kept_as(self, largest: float) -> np.dtype[Any]:
        """Return what features are stored as: what was computed in half precision fits into half the room.

        A bfloat16 value of ordinary size is a float16 value too, so nothing is lost by it.
        """
        narrow = self.dtype.itemsize == 2 and largest < float(np.finfo(np.float16).max)
        return np.dtype(np.float16 if narrow else np.float32)


@dataclass(frozen=True)
class _Part:
    """Successive segments of one utterance's channel that go through the network together.

    Attributes:
        last: whether the channel is done with them.
    """

    digest: str
    channel: str
    times: np.ndarray
    last: bool


#: By digest, an utterance and the channels that are wanted of it.
_Wanted: TypeAlias = "Mapping[str, tuple[Utterance, list[str]]]"


def _where(wanted: _Wanted, digest: str, channel: str) -> str:
    """Name the channel of a recording."""
    return f"channel {channel} of {wanted[digest][0].path}"


def _features(pieces: Iterable[Piece], network: _Network, wanted: _Wanted) -> Iterator[tuple[_Part, np.ndarray]]:
    """Yield parts of utterances with their features, in order, as batches fill."""
    batches: list[torch.Tensor] = []
    parts: list[_Part] = []
    free = 0
    started: deque[tuple[list[_Part], Callable[[], np.ndarray]]] = deque()

    def run() -> None:
        if parts:
            # A last batch is not filled: what is left in it of one before changes nothing.
            where = [_where(wanted, part.digest, part.channel) for part in parts for _ in part.times]
            started.append((parts, network.start(batches[0], where)))
            batches.append(batches.pop(0))

    def done(behind: int) -> Iterator[tuple[_Part, np.ndarray]]:
        while len(started) > behind:
            of, features = started.popleft()
            yield from zip(of, np.split(features(), np.cumsum([len(part.times) for part in of])[:-1]), strict=True)

    for piece in pieces:
        planes, times = piece.segments.planes[0], piece.segments.times.numpy()
        if not batches or batches[0].shape[1:] != planes.shape[1:]:
            run()
            yield from done(0)
            batches = [network.batch(planes.shape[1:]) for _ in range(network.behind + 1)]
            parts, free = [], network.batch_segments
        start = 0
        while start < len(planes):
            end = min(start + free, len(planes))
            batches[0][network.batch_segments - free :][: end - start] = planes[start:end]
            parts.append(_Part(piece.digest, piece.channel, times[start:end], piece.last and end == len(planes)))
            free -= end - start
            start = end
            if not free:
                run()
                yield from done(network.behind)
                parts, free = [], network.batch_segments
    run()
    yield from done(0)


def _one_by_one(pieces: Iterable[Piece], network: _Network, wanted: _Wanted) -> Iterator[tuple[_Part, np.ndarray]]:
    """Yield what ``_features`` does of whole utterances, which have no common length and so make no batches."""

    def compute(piece: Piece) -> np.ndarray:
        where = _where(wanted, piece.digest, piece.channel)
        try:
            return network.start(piece.segments.planes[0].clone(), [where])()
        except BserkitError as error:
            named = where in str(error)
            raise error if named else BserkitError(f"backbone {network.backbone.name}, {where}: {error}") from None

    waiting: deque[tuple[Piece, Future[np.ndarray]]] = deque()

    def first() -> tuple[_Part, np.ndarray]:
        piece, made = waiting.popleft()
        return _Part(piece.digest, piece.channel, piece.segments.times.numpy(), piece.last), made.result()

    with ThreadPoolExecutor(network.threads, thread_name_prefix="backbone") as pool:
        try:
            for piece in pieces:
                waiting.append((piece, pool.submit(compute, piece)))
                # One more than threads, so that none waits for what is made of the first one's features.
                if len(waiting) > network.threads:
                    yield first()
            while waiting:
                yield first()
        finally:
            pool.shutdown(cancel_futures=True)


@dataclass(frozen=True)
class Piece:
    """Successive segments of one channel of an utterance: all of them, but of a long utterance.

    Attributes:
        segments: of this channel alone.
        last: whether the channel ends with them.
    """

    digest: str
    channel: str
    segments: Segments
    last: bool


def prepared(wanted: Mapping[str, tuple[Utterance, list[str]]], extraction: Extraction) -> Generator[Piece]:
    """Yield every utterance's pieces in order, prepared ahead in other threads.

    Where several threads do so, each is at an utterance of its own.

    Args:
        wanted: by digest, the utterance and the channels that are wanted of it.

    Raises:
        BserkitError: audio cannot be read, or a transform or the frontend makes something of another shape.
    """
    import torch

    def prepare(pieces: Iterator[Piece]) -> Piece | None:
        with torch.inference_mode():
            return next(pieces, None)

    threads, own = _PREPARING[extraction.device.partition(":")[0]], torch.get_num_threads()
    # Where there are several, none shares its work out, which would be waiting for processors that others are at.
    pool = ThreadPoolExecutor(threads, "frontend", *((torch.set_num_threads, (1,)) if threads > 1 else ()))
    try:
        if threads > 1:
            torch.set_num_threads(1)
            each = (iter(partial(prepare, _pieces({digest: one}, extraction)), None) for digest, one in wanted.items())
            yield from in_order(each, pool, 2 * threads, _AHEAD)
        else:
            pieces = _pieces(wanted, extraction)
            ahead = deque(pool.submit(prepare, pieces) for _ in range(_AHEAD))
            while piece := ahead.popleft().result():
                ahead.append(pool.submit(prepare, pieces))
                yield piece
    finally:
        # Without waiting: what a thread is at when work breaks off is not wanted, and it may be that very thread.
        pool.shutdown(wait=False, cancel_futures=True)
        if threads > 1:
            torch.set_num_threads(own)


def in_order(sources: Iterable[Iterator[_Made]], pool: Executor, begun: int, ahead: int) -> Iterator[_Made]:
    """Yield what iterators give, one iterator after the other, while a pool's threads are at the next ones.

    No iterator is in two threads at a time.

    Args:
        begun: how many iterators are begun at a time, at most.
        ahead: how much of each is held before it is wanted, at most.
    """

    def some(source: Iterator[_Made]) -> list[_Made]:
        return list(islice(source, ahead))

    each = iter(sources)
    waiting: deque[tuple[Iterator[_Made], Future[list[_Made]]]] = deque()
    while True:
        waiting.extend((source, pool.submit(some, source)) for source in islice(each, begun - len(waiting)))
        if not waiting:
            return
        source, made = waiting.popleft()
        while len(given := made.result()) == ahead:
            made = pool.submit(some, source)
            yield from given
        yield from given


def _pieces(wanted: Mapping[str, tuple[Utterance, list[str]]], extraction: Extraction) -> Iterator[Piece]:
    """Yield every utterance's pieces in order."""
    for digest, (utterance, channels) in wanted.items():
        for channel, made in _by_channel(utterance, digest, channels, extraction):
            held: Segments | None = None
            for segments in made:
                if held:
                    yield Piece(digest, channel, held, last=False)
                held = segments
            if held is None:
                raise BserkitError(
                    f"frontend {extraction.frontend.name} made no segment of channel {channel} of {utterance.path}."
                )
            yield Piece(digest, channel, held, last=True)


def _by_channel(
    utterance: Utterance, digest: str, channels: Sequence[str], extraction: Extraction
) -> Iterator[tuple[str, Iterable[Segments]]]:
    """Yield each channel with its segments, in the order asked for; they end when the recording has proven unchanged.

    The frontend is given one channel at a time, in memory of its own, so that no bit of what it makes depends on which
    others were asked for: how a processor adds up depends on how many rows there are and where they lie in memory.
    """
    import torch

    frontend, transforms = extraction.frontend, extraction.transforms
    with unchanged(utterance, digest), closing(_waveforms(utterance, channels, transforms, _WHOLE_FRAMES)) as blocks:
        (waveform, sample_rate), is_whole = next(blocks), next(blocks, None) is None

    def again(channel: str) -> Iterator[torch.Tensor]:
        return (block for block, _ in _waveforms(utterance, [channel], transforms, _BLOCK_FRAMES))

    for channel, alone in zip(channels, torch.split(waveform, 1), strict=True):
        where = f"channel {channel} of {utterance.path}"
        if is_whole:
            with asked(frontend, f"segments of {where}"):
                made = [frontend.segments(alone.clone(), sample_rate)]
            yield channel, _checked(made, frontend, where)
        else:
            yield channel, _streamed(partial(again, channel), sample_rate, frontend, where, utterance, digest)


def _streamed(
    blocks: Callable[[], Iterable[torch.Tensor]],
    sample_rate: int,
    frontend: Frontend,
    where: str,
    utterance: Utterance,
    digest: str,
) -> Iterator[Segments]:
    """Yield the segments of a channel of a long recording, which is read anew for it."""
    with unchanged(utterance, digest):
        with asked(frontend, f"segments of {where}"):
            made = frontend.stream(blocks, sample_rate)
        yield from _checked(made, frontend, where)


def _checked(made: Iterable[Any], frontend: Frontend, where: str) -> Iterator[Segments]:
    """Yield what a frontend makes of a channel, once it has proven to be successive segments."""
    after, ended = 0.0, object()
    with asked(frontend, f"segments of {where}"):
        successive = iter(made)
    while True:
        with asked(frontend, f"segments of {where}"):
            one = next(successive, ended)
        if one is ended:
            return
        segments = segments_of(frontend, one, where, after)
        after = float(segments.times[-1, 0])
        yield segments


def _waveforms(
    utterance: Utterance, channels: Sequence[str], transforms: Sequence[ChannelTransform], frames: int
) -> Generator[tuple[torch.Tensor, int]]:
    """Yield ``(channel, time)`` blocks of so many frames with their sample rate, Hz; one where it must be whole."""
    import torch

    needed = [transform for transform in transforms if not set(transform.outputs).isdisjoint(channels)]
    pointwise = all(transform.pointwise for transform in needed)
    for samples, sample_rate in stereo_blocks(utterance, frames) if pointwise else [read_stereo(utterance)]:
        stereo = torch.from_numpy(samples)
        rows: dict[str, torch.Tensor] = {}
        for transform in needed:
            made = transformed(transform, stereo, str(utterance.path))
            rows |= dict(zip(transform.outputs, made, strict=True))
        yield torch.stack([rows[channel] for channel in channels]), sample_rate
