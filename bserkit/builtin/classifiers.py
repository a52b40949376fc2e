"""The built-in classifier: the paper's linear SVM (paper, section II-C)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from bserkit import Classifier, hookimpl

if TYPE_CHECKING:
    from bserkit.builtin.linear_svm import LinearSVM


class LinearSvm(Classifier):
    """A linear support vector machine on features that are scaled by what it is trained on."""

    name = "linear-svm"
    c: float | Literal["search"] = Field(
        1.0, description="the cost of errors; search picks it on inner speaker groups of the training items"
    )
    scale: Literal["standard", "none"] = Field(
        "standard", description="each feature to mean 0 and deviation 1 over the training items, or as it is"
    )

    def make(self) -> LinearSVM:
        """Return a fresh, unfitted SVM."""
        from bserkit.builtin.linear_svm import LinearSVM

        return LinearSVM(c=self.c, scale=self.scale)


@hookimpl
def bserkit_classifiers() -> list[type[Classifier]]:
    """Return the built-in classifier."""
    return [LinearSvm]
