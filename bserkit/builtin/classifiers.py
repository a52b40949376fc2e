"""The built-in classifiers: the paper's linear SVM (section II-C) and what it is compared with (Table 8)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field, field_validator

from bserkit import Classifier, hookimpl

if TYPE_CHECKING:
    from bserkit.builtin.linear_svm import LinearSVM
    from bserkit.builtin.projections import PLS, PcaSVM

_COST = "the cost of errors; search picks it on inner speaker groups of the training items"


class LinearSvm(Classifier):
    """A linear support vector machine on features that are scaled by what it is trained on."""

    name = "linear-svm"
    c: float | Literal["search"] = Field(1.0, description=_COST)
    scale: Literal["standard", "none"] = Field(
        "standard", description="each feature to mean 0 and deviation 1 over the training items, or as it is"
    )

    def make(self) -> LinearSVM:
        """Return a fresh, unfitted SVM."""
        from bserkit.builtin.linear_svm import LinearSVM

        return LinearSVM(c=self.c, scale=self.scale)


class PartialLeastSquares(Classifier):
    """Partial least squares regression from standardised features to one column a class; the largest decides."""

    name = "pls"
    components: int = Field(
        10, ge=1, description="latent directions; where the training items span fewer, all that they span"
    )

    def make(self) -> PLS:
        """Return a fresh, unfitted regression."""
        from bserkit.builtin.projections import PLS

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

    @field_validator("components")
    @classmethod
    def _share_or_number(cls, value: float) -> float:
        if value > 1 and value != int(value):
            raise ValueError("expected a share below 1 or a whole number of components")
        return value

    def make(self) -> PcaSVM:
        """Return a fresh, unfitted SVM on components."""
        from bserkit.builtin.projections import PcaSVM

        return PcaSVM(components=self.components, c=self.c)


@hookimpl
def bserkit_classifiers() -> list[type[Classifier]]:
    """Return the built-in classifiers."""
    return [LinearSvm, PartialLeastSquares, PcaSvm]
