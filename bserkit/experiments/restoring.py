"""Restoring: the networks that an earlier run fine-tuned, for another pooler, classifier or fusion, without training.

A network is taken for a fold only if it learned from exactly that fold's training utterances, so it has seen no test
utterance. Its file comes from the feature store, or from the artifacts of the run that keeps it.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bserkit.errors import BserkitError, UsageError
from bserkit.features.finetuning import Trained
from bserkit.identity.content import file_digest
from bserkit.schema import CURVES, DIGEST, RECIPE, WEIGHTS
from bserkit.tracking.finished import read_artifact_text
from bserkit.tracking.networks import fetch_network, has_network, networks_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from bserkit.corpora.checking import Checked
    from bserkit.corpora.protocols import Fold
    from bserkit.features.extraction import Extraction
    from bserkit.store import FeatureStore
    from bserkit.tracking.finished import KeptRun

#: What a network and its features depend on beside the utterances: it must be the same in both runs.
_STAGES = ("transform", "frontend", "backbone")
#: How many utterances a refusal names.
_NAMED = 5
_ADVICE = "Give the corpus, --mono and --protocol of that run, or fine-tune anew with --finetune sgd."


@dataclass(frozen=True)
class Network:
    """A network that an earlier run fine-tuned: its nested run and everything that it was learned from."""

    run: KeptRun
    identity: Mapping[str, Any]

    @property
    def digest(self) -> str:
        """The SHA-256 of its file."""
        return self.run.tags[DIGEST]

    @property
    def seen(self) -> set[tuple[str, str]]:
        """The (digest, label) of every utterance that it learned from or was stopped by."""
        return {(digest, label) for part in ("learned", "held out") for digest, label in self.identity[part]}

    def kept_in(self, store: FeatureStore) -> Path | None:
        """Return its file in the feature store, if it is there, bit by bit."""
        for identity in (self.identity, self._restored()):
            path = store.training_folder(identity) / WEIGHTS
            if path.exists() and file_digest(path) == self.digest:
                return path
        return None

    def restore(self, store: FeatureStore) -> Path:
        """Return its file in the feature store, fetched from the run that keeps it if need be.

        Raises:
            BserkitError: the file is damaged, or the store cannot be written to.
        """
        if path := self.kept_in(store):
            return path
        content = fetch_network(self.run)
        if hashlib.sha256(content).hexdigest() != self.digest:
            raise BserkitError(
                f"The network of run {self.run.run_id} ({self.run.name}) is damaged: its file is not the one that was "
                f"logged, whose SHA-256 is {self.digest}. Fine-tune anew with --finetune sgd."
            )
        path = store.open_training(self._restored()) / WEIGHTS
        store.write(path, content)
        return path

    def _restored(self) -> dict[str, Any]:
        # In a folder of its own: on a GPU, training twice does not give the same bits.
        return {**self.identity, "restored": self.digest}


@dataclass(frozen=True)
class Restorable:
    """A network for one channel of one fold, and how that channel's features begin."""

    extraction: Extraction
    channel: str
    fold: str
    network: Network

    def trained(self, store: FeatureStore) -> Trained:
        """Restore the network and its curves."""
        weights = self.network.restore(store)
        curves = json.loads(read_artifact_text(self.network.run, CURVES))
        return Trained(self.extraction.backbone.with_weights(weights), weights, curves, reused=True)


def restorable(
    run: KeptRun, extraction: Extraction, checked: Checked, folds: Sequence[Fold], store: FeatureStore
) -> list[Restorable]:
    """Choose an earlier run's networks, fold by fold and channel by channel, before anything else is done.

    Raises:
        UsageError: the run has no networks, or none for a channel, fold or backbone; or their files are lost.
    """
    networks = [Network(one, json.loads(read_artifact_text(one, RECIPE))) for one in networks_of(run)]
    if not networks:
        raise UsageError(
            f"Run {run.run_id} ({run.name}) fine-tuned no networks. Name one that did: bserkit run ... --finetune sgd."
        )
    chosen = []
    for fold in folds:
        for channel, recipe in extraction.recipes().items():
            of_channel = [network for network in networks if network.identity["channel"] == channel]
            if not of_channel:
                known = sorted({network.identity["channel"] for network in networks})
                raise UsageError(
                    f"Run {run.run_id} ({run.name}) has no network for the channel {channel}. It has "
                    f"{', '.join(known)}."
                )
            network = _of_fold(run, of_channel, checked, fold)
            _check_stages(run, network, recipe)
            chosen.append(Restorable(extraction.of_channel(channel), channel, fold.name, network))
    for one in chosen:
        if not one.network.kept_in(store) and not has_network(one.network.run):
            raise UsageError(
                f"The network {one.channel} without {one.fold} of run {run.run_id} ({run.name}) is lost: its file is "
                f"neither in the feature store {store.root} nor with any run in MLflow. Fine-tune anew with --finetune "
                "sgd."
            )
    return chosen


def changed_code(chosen: Sequence[Restorable]) -> list[str]:
    """Name the stages whose code is not what it was when the networks learned; their numbers may have moved."""
    found = {
        f"{stage} {recipe[stage]['name']}"
        for one in chosen
        for recipe in one.extraction.recipes().values()
        for stage in _STAGES
        if any(recipe[stage][part] != one.network.identity[stage].get(part) for part in ("code", "versions"))
    }
    return sorted(found)


def _of_fold(run: KeptRun, networks: Sequence[Network], checked: Checked, fold: Fold) -> Network:
    """Return the network that learned from exactly the fold's training utterances."""
    utterances, items = checked.corpus.utterances, checked.corpus.items

    def contents(rows: Sequence[int]) -> dict[tuple[str, str], int]:
        return {(checked.digests[row], utterances[row].label): row for row in rows}

    train, test = contents(fold.train.tolist()), contents(fold.test.tolist())
    for network in networks:
        missed = train.keys() - network.seen
        # Where some were held out to tell when to stop, those of a class that is not learned told nothing.
        learned = {label for _, label in network.identity["learned"]} if network.identity["held out"] else set()
        if network.seen <= train.keys() and not ({one for one in missed if one[1] in learned} if learned else missed):
            return network

    def leaked(network: Network) -> set[str]:
        return {digest for digest, _ in network.seen} & {digest for digest, _ in test}

    nearest = min(networks, key=lambda network: (len(leaked(network)), len(network.seen ^ train.keys())))
    begin = (
        f"Fold {fold.name}: no network of run {run.run_id} ({run.name}) learned from exactly the training "
        f"utterances of this fold. That of fold {nearest.identity['fold']} "
    )
    if seen := leaked(nearest):
        rows = [row for (digest, _), row in test.items() if digest in seen]
        speakers = ", ".join(sorted({utterances[row].speaker or "unknown" for row in rows}))
        raise UsageError(
            f"{begin}learned from {len(rows)} of the utterances that this fold tests, of {speakers}: "
            f"{_some([items[row] for row in rows])}. Its results would be of speech that it knows. {_ADVICE}"
        )
    unseen = [items[row] for one, row in train.items() if one not in nearest.seen]
    others = len(nearest.seen - train.keys())
    words = [f"did not learn from {len(unseen)} of them: {_some(unseen)}"] * bool(unseen)
    words += [f"learned from {others} others"] * bool(others)
    raise UsageError(f"{begin}{' and '.join(words)}. {_ADVICE}")


def _some(items: Sequence[str]) -> str:
    return ", ".join([*items[:_NAMED], *["..."] * (len(items) > _NAMED)])


def _check_stages(run: KeptRun, network: Network, recipe: Mapping[str, Any]) -> None:
    """Refuse a network of another backbone, other weights to begin with, or other pictures."""
    kept = network.identity
    different = [
        f"{stage} {_spelt(kept[stage])}, not {_spelt(recipe[stage])}"
        for stage in _STAGES
        if _spelt(kept[stage]) != _spelt(recipe[stage])
    ]
    if not different and kept["weights"] != recipe["weights"]:
        different = [f"weights {kept['weights']}, not {recipe['weights']}"]
    if different:
        raise UsageError(
            f"The networks of run {run.run_id} ({run.name}) began with {'; '.join(different)}. Give --channels, "
            "--frontend and --backbone as that run had them."
        )


def _spelt(identity: Mapping[str, Any]) -> str:
    """Spell a component from what is kept of it, leaving its code aside."""
    values = ",".join(f"{name}={value}" for name, value in sorted(identity["parameters"].items()))
    return f"{identity['name']}:{values}" if values else identity["name"]
