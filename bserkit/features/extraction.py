"""Extraction: audio files become segment features in the store, each computed once."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from bserkit.component import identity
from bserkit.devices import fastest_precision, memory_kept
from bserkit.errors import BserkitError, UsageError
from bserkit.features.batches import Network, batched
from bserkit.features.contracts import weights_digest
from bserkit.features.preparing import prepared
from bserkit.identity.meaning import meaning
from bserkit.schema import RESERVED

if TYPE_CHECKING:
    from bserkit.corpora.reading import Utterance
    from bserkit.features.backbones import Backbone
    from bserkit.features.channels import ChannelTransform
    from bserkit.features.frontends import Frontend
    from bserkit.store import FeatureStore, Rows
    from bserkit.workspace import Workspace

_Made = TypeVar("_Made")

#: What may name a part of a result: it becomes part of a metric's name.
_PART = re.compile(r"[^\W_][\w.-]*")


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
            if name in RESERVED or not _PART.fullmatch(name):
                raise UsageError(
                    f"Channels {found.get(name, name)}: {name!r} cannot name a channel or channels. Expected letters, "
                    f"digits, '_', '-' and '.', beginning with a letter or digit, and none of {', '.join(RESERVED)}, "
                    "which name results. Rename it."
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
            "extraction": meaning(prepared, Network, batched),
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
    network: Network | None


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
    network = Network(extraction) if wanted else None
    if wanted and any(recipe["weights"] != weights_digest(extraction.backbone) for recipe in recipes.values()):
        raise BserkitError(
            f"The weights of backbone {extraction.backbone.spec} changed while they were loaded. Run the same command "
            "again when their file stays as it is."
        )
    return Pending(extraction, recipes, wanted, network)


def extract(work: Pending, workspace: Workspace) -> int:
    """Compute what is pending; return how many vectors the network made.

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
    vectors = 0
    gathered: dict[str, tuple[Rows, list[np.ndarray]]] = {}
    pieces = prepared(work.wanted, work.extraction)
    parts = batched(pieces, work.network, work.wanted)
    try:
        with memory_kept(), reporter.stage("Extracting features", len(work.wanted), "utterances") as advance:
            for part, features in parts:
                if part.channel not in gathered:
                    gathered[part.channel] = store.rows(), []
                rows, times = gathered[part.channel]
                with store.writing():
                    rows.add(features)
                times.append(part.times)
                vectors += len(features)
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
    return vectors


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
        use: makes it, given the utterance's number, the channel, ``(vector, feature)`` and ``(vector, 2)`` times in the
            order of their starts, both of which are its own.

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
