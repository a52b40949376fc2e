"""The scikit-learn side of fitting a classifier: the speakers reach every split that goes on inside it.

Imported only when a classifier is fitted, since it imports scikit-learn.
"""

from __future__ import annotations

from inspect import signature
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn import config_context
from sklearn.ensemble import StackingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedGroupKFold
from sklearn.pipeline import Pipeline
from sklearn.utils.metadata_routing import MetadataRouter, get_routing_for_object

from bserkit.corpora.speakers import one_spelling, unknown_speakers
from bserkit.errors import BserkitError

if TYPE_CHECKING:
    from collections.abc import Iterator

#: How many folds scikit-learn means by ``cv=None``.
_FOLDS = 5
_WAY_OUT = "a whole number, which becomes folds of speakers, GroupKFold, StratifiedGroupKFold or LeaveOneGroupOut"


class SpeakerFolds(StratifiedGroupKFold):
    """So many stratified folds, all items of a speaker in one; where there are fewer speakers, one fold a speaker."""

    def split(self, X: Any, y: Any = None, groups: Any = None) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield the indices of training and test items; ``groups`` are the speakers."""
        if groups is None:
            raise ValueError(
                "an estimator around this cross-validation does not pass on the speakers (groups), so that its folds "
                "would mix them; put the search outermost"
            )
        yield from StratifiedGroupKFold(self.get_n_splits(X, y, groups)).split(X, y, groups)

    def get_n_splits(self, X: Any = None, y: Any = None, groups: Any = None) -> int:
        """Return the number of folds."""
        return self.n_splits if groups is None else min(self.n_splits, len(np.unique(groups)))


def fit(estimator: Any, features: np.ndarray, labels: np.ndarray, speakers: np.ndarray) -> Any:
    """Fit on ``(item, feature)``, so that no cross-validation inside the estimator parts a speaker's items.

    See ``Classifier.make`` for what becomes of each ``cv``, and for what happens where speakers are not known.

    Raises:
        BserkitError: a splitter takes no speakers, or needs some where they are not known.
    """
    speakers = one_spelling(speakers)
    unknown = unknown_speakers(speakers)
    # Routing is scikit-learn's way to hand a search the groups however deep it is; it is off unless asked for.
    with config_context(enable_metadata_routing=True):
        inside = _nested(estimator)
        for one in inside.values():
            if hasattr(one, "set_fit_request") and "groups" in signature(one.fit).parameters:
                one.set_fit_request(groups=True)
        for path, owner in inside.items():
            if hasattr(owner, "cv"):
                _keep_speakers_together(owner, unknown)
                if not unknown and _takes_groups(owner.cv, "split") and not _routes(owner):
                    _fix_splits(estimator, path, owner, features, labels, speakers)
        if unknown and any(_whole_number(getattr(one, "cv", "")) for one in inside.values()):
            estimator.notes_ = (f"the classifier searched on folds that may part a speaker's items, since {unknown}",)
        for one in inside.values():
            if isinstance(one, StackingClassifier) and _takes_groups(one, "fit"):
                one.final_estimator = _without_groups(one.final_estimator or LogisticRegression())
        if _takes_groups(estimator, "fit"):
            return estimator.fit(features, labels, groups=speakers)
    # One that takes them, but knows nothing of routing.
    if "groups" in signature(estimator.fit).parameters:
        return estimator.fit(features, labels, groups=speakers)
    return estimator.fit(features, labels)


def _nested(estimator: Any) -> dict[str, Any]:
    """Return the estimator and all inside it, by the path that ``set_params`` knows them under."""
    found = {"": estimator}
    if hasattr(estimator, "get_params") and not isinstance(estimator, type):
        found |= {
            path: one
            for path, one in estimator.get_params(deep=True).items()
            if hasattr(one, "fit") and hasattr(one, "get_params") and not isinstance(one, type)
        }
    return found


def _keep_speakers_together(owner: Any, unknown: str) -> None:
    """Make the ``cv`` of an estimator one of speakers, or refuse it."""
    cv = owner.cv
    if isinstance(cv, str):
        return
    if _whole_number(cv):
        if not unknown:
            owner.cv = SpeakerFolds(_FOLDS if cv is None else int(cv))
        return
    name, given = type(owner).__name__, f"cv={cv!r}"
    if _takes_groups(cv, "split"):
        if unknown:
            raise BserkitError(
                f"{name} has {given}, which splits by speaker, but {unknown}. Give every recording a speaker, or give "
                "cv a whole number, which splits single items where speakers are not known."
            )
    elif not unknown:
        raise BserkitError(
            f"{name} has {given if len(given) < 100 else 'a cv'} that takes no groups, so that a speaker would be on "
            f"both sides of its folds. Use {_WAY_OUT}."
        )


def _whole_number(cv: Any) -> bool:
    return cv is None or (isinstance(cv, (int, np.integer)) and not isinstance(cv, bool))


def _takes_groups(one: Any, method: str) -> bool:
    routing = _routing(one)
    return routing is not None and bool(routing.consumes(method, ["groups"]))


def _routes(owner: Any) -> bool:
    """Say whether an estimator hands the groups to its own ``cv``."""
    if "groups" in signature(owner.fit).parameters:
        return True
    routing = _routing(owner)
    return isinstance(routing, MetadataRouter) and any(_takes_groups(pair.router, "split") for _, pair in routing)


def _routing(one: Any) -> Any:
    """Return what scikit-learn knows of the metadata that something takes or hands on; None where it cannot route."""
    try:
        return get_routing_for_object(one)
    except NotImplementedError:
        # How scikit-learn marks its estimators that have no routing yet.
        return None


def _fix_splits(
    estimator: Any, path: str, owner: Any, features: np.ndarray, labels: np.ndarray, speakers: np.ndarray
) -> None:
    """Give an estimator that routes no groups to its ``cv``, such as ``StackingClassifier``, the splits themselves."""
    inside = _nested(estimator)
    parts = path.split("__") if path else []
    around = ["__".join(parts[:count]) for count in range(len(parts))]
    if any(type(inside.get(one)) is not Pipeline for one in around):
        raise BserkitError(
            f"The speakers of the training items cannot reach the cv of {type(owner).__name__} inside "
            f"{type(estimator).__name__}, so that its folds would mix them. Put it outermost, or into pipelines alone."
        )
    owner.cv = list(owner.cv.split(features, labels, speakers))


def _without_groups(final: Any) -> Any:
    """Return an estimator that is fitted without the groups, which stacking hands on to its last one unasked."""
    if _takes_groups(final, "fit"):
        return final
    kind = type(final)

    def fit(self: Any, X: Any, y: Any, groups: Any = None) -> Any:
        return kind.fit(self, X, y)

    return type(kind.__name__, (kind,), {"fit": fit})(**final.get_params(deep=False))
