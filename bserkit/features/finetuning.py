"""Fine-tuning: each channel's network goes on learning from the training speakers of each fold (paper, section II-B).

One network a channel and fold. What it learns from is gathered in a ``Training`` before anything is learned, and holds
no utterance of the fold's test speakers, so that nothing of them can reach it.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from bserkit.component import Component, identity
from bserkit.corpora.speakers import speaker_groups
from bserkit.errors import UsageError
from bserkit.identity.meaning import meaning

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from bserkit.corpora.protocols import Fold
    from bserkit.corpora.reading import Utterance
    from bserkit.features.backbones import Backbone
    from bserkit.features.extraction import Extraction

#: Groups that a fold's training speakers are cut into where one group tells when to stop.
_STOPPING_GROUPS = 5


class Sgd(Component):
    """Stochastic gradient descent with momentum on the softmax loss of single segments, as in the paper (eqs. 1-2)."""

    kind = "finetune"
    name: ClassVar[str] = "sgd"
    epochs: int = Field(300, ge=1, description="the most times that every training segment is learned from")
    lr: float = Field(0.001, gt=0, description="learning rate")
    batch: int = Field(30, ge=1, description="the most segments in a mini-batch; batches are made equally large")
    momentum: float = Field(0.9, ge=0, lt=1, description="how much of the last step each step keeps")
    weight_decay: float = Field(5e-4, ge=0, description="pull of every value towards zero")
    dropout: float = Field(0.5, ge=0, lt=1, description="share of the features that is hidden from the new last layer")
    freeze: Literal["none", "conv"] = Field("none", description="layers that keep their values: none, or convolutions")
    class_weight: Literal["none", "balanced"] = Field(
        "none", description="balanced: classes with few training utterances weigh as much as those with many"
    )
    patience: int = Field(
        0,
        ge=0,
        description="stop after so many epochs without improvement on one group of training speakers that is then not "
        "learned from, and go back to the best epoch; 0: never",
    )
    seed: int = Field(0, description="of the last layer's initial values, the order of segments and dropout")


class FromRun(Component):
    """The networks that an earlier run fine-tuned, for another pooler, classifier or fusion; nothing is trained."""

    kind = "finetune"
    name: ClassVar[str] = "from"
    run: str = Field(description="that run's id, the first characters of it, or its name in the experiment")


#: What is fine-tuned on decides what may be believed, so it is not open to plugins.
FINETUNES: tuple[type[Component], ...] = (Sgd, FromRun)


#: The numbers of one epoch by name: losses and accuracies of segments, the learning rate, the speed.
Epoch = dict[str, float]


@dataclass(frozen=True)
class Trained:
    """A fine-tuned network.

    Attributes:
        backbone: the recipe that loads it.
        weights: its values.
        curves: the numbers of each epoch.
        reused: whether an earlier run had trained it to the end.
    """

    backbone: Backbone
    weights: Path
    curves: Sequence[Epoch]
    reused: bool


@dataclass(frozen=True)
class Item:
    """One utterance to learn from: its audio by content, its label, and where the audio is."""

    digest: str
    label: str
    utterance: Utterance


@dataclass(frozen=True)
class Training:
    """Everything that one network is learned from: one channel of the training utterances of one fold.

    Attributes:
        extraction: of this channel alone, with the backbone to begin with.
        fold: the fold's name.
        learned: the utterances that are learned from, in an order that depends on their content alone.
        held_out: utterances of other training speakers, which tell when to stop; empty without patience.
    """

    recipe: Sgd
    extraction: Extraction
    channel: str
    fold: str
    learned: tuple[Item, ...]
    held_out: tuple[Item, ...]

    @property
    def classes(self) -> tuple[str, ...]:
        """Every class that is learned, by name; one that is absent here has no place in the last layer."""
        return tuple(sorted({item.label for item in self.learned}))

    def class_weights(self) -> list[float]:
        """Return the weight of each class in the loss, their mean over the learned utterances being 1."""
        counts = Counter(item.label for item in self.learned)
        if self.recipe.class_weight == "none":
            return [1.0] * len(counts)
        return [len(self.learned) / (len(counts) * counts[name]) for name in self.classes]

    def identity(self) -> dict[str, Any]:
        """Return everything that the fine-tuned values depend on, utterances by content."""
        return self.extraction.recipes()[self.channel] | {
            "finetune": identity(self.recipe) | {"training": meaning("bserkit.features.training._learn", Training)},
            "fold": self.fold,
            "learned": [[item.digest, item.label] for item in self.learned],
            "held out": [[item.digest, item.label] for item in self.held_out],
        }

    def seed_of(self, epoch: int) -> int:
        """Return what the generator is set to before an epoch, counted from 1; 0 is where initial values are drawn.

        What an epoch draws depends on no epoch before it, so training goes on after a break as if there had been none.
        """
        words = f"{self.recipe.seed} {self.channel} {self.fold} {epoch}"
        return int.from_bytes(hashlib.sha256(words.encode()).digest()[:7])


def trainings(
    recipe: Sgd, extraction: Extraction, utterances: Sequence[Utterance], digests: Sequence[str], folds: Sequence[Fold]
) -> list[Training]:
    """Return what each fold's networks learn from, fold by fold and channel by channel.

    Raises:
        UsageError: a fold's training utterances are of a single class, or of too few speakers to hold some out.
    """
    planned = []
    for fold in folds:
        items = sorted(
            (Item(digests[index], utterances[index].label, utterances[index]) for index in fold.train),
            key=lambda item: (item.digest, item.label, item.utterance.speaker),
        )
        learned, held_out = _hold_out(items, fold.name) if recipe.patience else (items, [])
        if len(present := {item.label for item in learned}) < 2:
            raise UsageError(
                f"Fold {fold.name}: all {len(learned)} utterances to fine-tune on are labelled "
                f"{next(iter(present))!r}; two classes are needed. Take a protocol with more training speakers in each "
                "fold, or leave --finetune out."
            )
        # The last layer says nothing about a class that it never learned.
        held_out = [item for item in held_out if item.label in present]
        if recipe.patience and not held_out:
            raise UsageError(
                f"Fold {fold.name}: the speakers held out to tell when to stop have no utterance of a class that is "
                "learned. Use --finetune sgd:patience=0 with a number of epochs."
            )
        planned += [
            Training(recipe, extraction.of_channel(channel), channel, fold.name, tuple(learned), tuple(held_out))
            for channel in extraction.transform_of()
        ]
    return planned


def _hold_out(items: Sequence[Item], fold: str) -> tuple[list[Item], list[Item]]:
    """Part a fold's training utterances into those learned from and those of the last speaker group."""
    group_of = speaker_groups([item.utterance.speaker for item in items], _STOPPING_GROUPS)
    last = group_of.max()
    if not last:
        raise UsageError(
            f"Fold {fold} has one training speaker, or none that is named; stopping early needs two, one of them held "
            "out. Use --finetune sgd:patience=0 with a number of epochs."
        )
    learned, held_out = (
        [item for item, group in zip(items, group_of, strict=True) if bool(group == last) == held]
        for held in (False, True)
    )
    return learned, held_out


def improves(losses: Iterable[float]) -> list[bool]:
    """Say of each epoch's held-out loss whether it is lower than all before it.

    >>> improves([3.0, 2.0, 2.0, 1.0])
    [True, True, False, True]
    """
    best, found = float("inf"), []
    for loss in losses:
        found.append(loss < best)
        best = min(best, loss)
    return found


def is_over(losses: Sequence[float], patience: int) -> bool:
    """Say whether so many epochs in a row did not improve.

    >>> is_over([2.0, 3.0, 4.0], patience=2), is_over([2.0, 3.0, 1.0], patience=2)
    (True, False)
    """
    return bool(patience) and len(losses) > patience and not any(improves(losses)[-patience:])
