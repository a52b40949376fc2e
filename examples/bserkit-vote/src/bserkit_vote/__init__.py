"""A fuser that a package brings along: installed, it is found without being named."""

import numpy as np
from pydantic import Field

from bserkit import FittedFuser, Fuser, class_scores, fit_classifier, hookimpl


class Vote(Fuser):
    """Every channel has one vote; the margin of its score decides between classes of equally many."""

    name = "vote"
    margin: float = Field(0.01, ge=0, description="what a channel's scores count beside its vote")

    def fit(self, views, make_classifier):
        """Fit a classifier a channel."""
        return _FittedVote(
            self.margin,
            {
                channel: fit_classifier(make_classifier, features, views.labels, views.speakers)
                for channel, features in views.features.items()
            },
        )

    def restore(self, state):
        """Return what a saved model's fuser had learned."""
        return _FittedVote(self.margin, state["estimators"])


class _FittedVote(FittedFuser):
    def __init__(self, margin, estimators):
        self.margin = margin
        self.estimators = estimators

    def state(self):
        """Return what was learned, for saving."""
        return {"estimators": self.estimators}

    def parts(self, views):
        """Return each channel's (utterance, class) scores, for the tables."""
        return {
            channel: class_scores(estimator, views.features[channel], views.classes)
            for channel, estimator in self.estimators.items()
        }

    def scores(self, views):
        """Return (utterance, class): the votes, and a little of the scores."""
        by_channel = np.stack(list(self.parts(views).values()))
        votes = np.eye(len(views.classes))[by_channel.argmax(axis=2)]
        return (votes + self.margin * np.tanh(by_channel)).sum(axis=0)


@hookimpl
def bserkit_fusers():
    """Add the fuser."""
    return [Vote]
