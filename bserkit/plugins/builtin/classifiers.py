"""The built-in classifiers: the paper's linear SVM (section II-C) and what it is compared with (Table 8)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal

from pydantic import Field, field_validator

from bserkit import Classifier, hookimpl

if TYPE_CHECKING:
    from bserkit.plugins.builtin.linear_svm import LinearSVM
    from bserkit.plugins.builtin.projections import PLS, PcaSVM

_COST = "the cost of errors; search picks it of 0.001 to 100 on inner speaker groups of the training items"
_SEARCH = "what c=search makes best"
_WEIGHT = "balanced: errors on rare classes cost more"
_DECISION = "one machine a class against the rest, or one a pair of classes"


def _above_zero(value: float | Literal["search"]) -> float | Literal["search"]:
    if value != "search" and not 0 < value < math.inf:
        raise ValueError("expected a finite number above 0, or search")
    return value


class LinearSvm(Classifier):
    """A linear support vector machine on features that are scaled by what it is trained on."""

    name = "linear-svm"
    c: float | Literal["search"] = Field(1.0, description=_COST)
    scale: Literal["standard", "none"] = Field(
        "standard", description="each feature to mean 0 and deviation 1 over the training items, or as it is"
    )
    search: Literal["accuracy", "uar"] = Field("accuracy", description=_SEARCH)
    class_weight: Literal["none", "balanced"] = Field("none", description=_WEIGHT)
    decision: Literal["ovr", "ovo"] = Field("ovr", description=_DECISION)

    _cost = field_validator("c")(_above_zero)

    def make(self) -> LinearSVM:
        """Return a fresh, unfitted SVM."""
        from bserkit.plugins.builtin.linear_svm import LinearSVM

        return LinearSVM(self.c, self.scale, self.search, self.class_weight, self.decision)


class PartialLeastSquares(Classifier):
    """Partial least squares regression from standardised features to one column a class; the largest decides."""

    name = "pls"
    components: int = Field(
        10, ge=1, description="latent directions; where the training items span fewer, all that they span"
    )

    def make(self) -> PLS:
        """Return a fresh, unfitted regression."""
        from bserkit.plugins.builtin.projections import PLS

        return PLS(components=self.components)


class PcaSvm(Classifier):
    """The principal components of standardised features, then the linear SVM."""

    name = "pca-svm"
    components: float = Field(
        0.99,
        gt=0,
        description="below 1 the share of the training items' variance that the components keep, "
        "from 1 on how many, at most all",
    )
    c: float | Literal["search"] = Field(1.0, description=_COST)
    search: Literal["accuracy", "uar"] = Field("accuracy", description=_SEARCH)
    class_weight: Literal["none", "balanced"] = Field("none", description=_WEIGHT)
    decision: Literal["ovr", "ovo"] = Field("ovr", description=_DECISION)

    _cost = field_validator("c")(_above_zero)

    @field_validator("components")
    @classmethod
    def _share_or_number(cls, value: float) -> float:
        if value > 1 and value != int(value):
            raise ValueError("expected a share below 1 or a whole number of components")
        return value

    def make(self) -> PcaSVM:
        """Return a fresh, unfitted SVM on components."""
        from bserkit.plugins.builtin.projections import PcaSVM

        return PcaSVM(self.components, self.c, self.search, self.class_weight, self.decision)


@hookimpl
def bserkit_classifiers() -> list[type[Classifier]]:
    """Return the built-in classifiers."""
    return [LinearSvm, PartialLeastSquares, PcaSvm]
