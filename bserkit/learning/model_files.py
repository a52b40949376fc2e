"""A fitted model as a folder: ``model.json`` says in words what it is, ``model.safetensors`` holds its arrays."""

from __future__ import annotations

import hashlib
import json
import shutil
import uuid
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import numpy as np

from bserkit.component import Component, Spec
from bserkit.errors import BserkitError
from bserkit.features.learned import Learned
from bserkit.features.pooling import LearningPooler
from bserkit.learning.classifiers import Classifier
from bserkit.learning.fusion import Fuser
from bserkit.learning.model import FittedModel
from bserkit.learning.normalising import Normaliser
from bserkit.learning.state import pack, unpack
from bserkit.store import write_whole

if TYPE_CHECKING:
    from collections.abc import Mapping

#: The layouts of a model's files that are read; the second is that of one whose pooler or normaliser learned too.
FORMATS = (1, 2)
_WORDS, _ARRAYS = "model.json", "model.safetensors"
_FORMAT = "bserkit_model_format"
#: What may have learned beside the fuser and its classifiers.
_LEARNERS: tuple[type[LearningPooler | Normaliser], ...] = (LearningPooler, Normaliser)

_Component = TypeVar("_Component", bound=Component)


class Maker(Protocol):
    """Makes a component of a contract's kind by its name and parameters, as ``Plugins.make`` does."""

    def __call__(self, contract: type[_Component], spec: Spec, /) -> _Component:
        """Return the component."""


def save_model(model: FittedModel, folder: Path) -> None:
    """Write a model into a new folder, which is there whole or not at all, whenever the process is killed.

    Raises:
        BserkitError: the folder holds something already or cannot be written, or the fuser or classifier is one that
            cannot be saved.
    """
    words, arrays = model_content(model)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise BserkitError(f"{folder} is there already; a model is saved into a new or an empty folder.")
    partial = folder.with_name(f".{folder.name}.{uuid.uuid4().hex}.partial")
    try:
        write_whole(partial / _ARRAYS, arrays, lasting=True)
        write_whole(partial / _WORDS, json.dumps(words, indent=1, ensure_ascii=False).encode(), lasting=True)
        partial.replace(folder)
    except OSError as error:
        raise BserkitError(f"The model cannot be written to {folder}: {error.strerror}. Choose another.") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def load_model(folder: Path, make: Maker) -> FittedModel:
    """Read what ``save_model`` wrote; its scores are equal bit for bit on the same machine and libraries.

    Args:
        make: ``Plugins.make``, which knows the fuser, the classifier and the normaliser.

    Raises:
        BserkitError: there is no model, it is damaged or of another format, or its fuser or classifier cannot restore
            what it learned.
        UsageError: no plugin brings its fuser or classifier.
    """
    words, arrays = _read(folder)
    fuser = make(Fuser, Spec(**words[Fuser.kind]))
    classifier = make(Classifier, Spec(**words[Classifier.kind]))
    learners = {
        one.kind: make(one, Spec(words[one.kind]["name"], words[one.kind]["parameters"]))
        for one in _LEARNERS
        if one.kind in words
    }
    try:
        fitted = fuser.restore(unpack(words["state"], arrays, classifier.make))
        learned: dict[str, Learned[Any, Any]] = {}
        for kind, one in learners.items():
            states = unpack(words[kind]["state"], arrays, classifier.make)
            learned[kind] = Learned(one, {channel: one.restore(state) for channel, state in states.items()})
    except Exception as error:
        said = str(error) if isinstance(error, BserkitError) else f"{type(error).__name__}: {error}"
        raise BserkitError(
            f"The model {folder} of {_components(fuser, classifier, *learners.values())} cannot be restored: {said}"
        ) from error
    channels = words["channels"]
    return FittedModel(
        fuser=fuser,
        classifier=classifier,
        fitted=fitted,
        classes=tuple(words["classes"]),
        transforms={channel: one["transform"] for channel, one in channels.items()},
        sizes={channel: one["features"] for channel, one in channels.items()},
        weights=words["weights"],
        notes=words["notes"],
        choices=words["choices"],
        normaliser=learned.get(Normaliser.kind),
        pooler=learned.get(LearningPooler.kind),
    )


def model_content(model: FittedModel) -> tuple[dict[str, Any], bytes]:
    """Return what a model's files hold: the words, with a digest of all, and the arrays as safetensors.

    Raises:
        BserkitError: the fuser or the classifier is one that cannot be saved.
    """
    from safetensors.numpy import save

    try:
        state, arrays = pack(model.fitted.state(), model.classifier.make)
        learned, more = _learned_content(model)
    except BserkitError as error:
        of = _components(model.fuser, model.classifier, *(one.recipe for one in _learned(model)))
        raise BserkitError(f"A model of {of} cannot be saved: {error}") from error
    arrays |= more
    content = save(arrays)
    words = {
        _FORMAT: FORMATS[1 if learned else 0],
        "versions": {name: version(name) for name in ("bserkit", "numpy", "scikit-learn")},
        "classes": model.classes,
        "channels": {
            channel: {"transform": transform, "features": model.sizes[channel]}
            for channel, transform in model.transforms.items()
        },
        **{one.kind: {"name": one.known_as, "parameters": one.parameters} for one in (model.fuser, model.classifier)},
        **learned,
        "weights": model.weights,
        "notes": model.notes,
        "choices": model.choices,
        "state": state,
    }
    # What a search chose may be anything at all.
    words = json.loads(json.dumps(words, default=lambda one: one.item() if isinstance(one, np.generic) else str(one)))
    return words | {"digest": _digest(words, content)}, content


def _learned_content(model: FittedModel) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Return the words of what else learned, by kind, and its arrays, which no fuser's can be named like."""
    words: dict[str, Any] = {}
    arrays: dict[str, np.ndarray] = {}
    for one in _learned(model):
        recipe, states = one.recipe, {channel: fitted.state() for channel, fitted in one.by_channel.items()}
        state, more = pack(states, model.classifier.make, f"${recipe.kind}")
        words[recipe.kind] = {"name": recipe.known_as, "parameters": recipe.parameters, "state": state}
        arrays |= more
    return words, arrays


def _learned(model: FittedModel) -> list[Learned[Any, Any]]:
    return [one for one in (model.pooler, model.normaliser) if one]


def _components(*components: Component) -> str:
    return " and ".join(f"{one.kind} {one.name}" for one in components)


def _digest(words: Mapping[str, Any], arrays: bytes) -> str:
    said = json.dumps({name: one for name, one in words.items() if name != "digest"})
    return hashlib.sha256(said.encode() + arrays).hexdigest()


def _read(folder: Path) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Return the words and the arrays of a model whose digest is proven."""
    from safetensors.numpy import load

    try:
        text, content = ((folder / name).read_bytes() for name in (_WORDS, _ARRAYS))
    except OSError as error:
        there = ", ".join(sorted(path.name for path in folder.iterdir())) if folder.is_dir() else "no such folder"
        raise BserkitError(
            f"{folder} cannot be read as a model: {error.strerror}. Expected {_WORDS} and {_ARRAYS}; found "
            f"{there or 'nothing'}."
        ) from error
    try:
        words = json.loads(text)
    except ValueError as error:
        raise BserkitError(f"{folder / _WORDS} is damaged or no model's: it is not JSON ({error}).") from error
    found = words.get(_FORMAT) if isinstance(words, dict) else None
    if found not in FORMATS:
        what = "is no model's: it names no format" if found is None else f"is of format {found}"
        raise BserkitError(
            f"{folder / _WORDS} {what}; this version of bserkit reads formats {' and '.join(map(str, FORMATS))}."
        )
    if (digest := _digest(words, content)) != words.get("digest"):
        raise BserkitError(
            f"The model {folder} is damaged: its files have the digest {digest}, expected was {words.get('digest')}. "
            "Copy or save it again."
        )
    # Each its own piece of memory, as when they were fitted.
    return words, {name: array.copy() for name, array in load(content).items()}
