"""A classifier of scikit-learn's. Try it: bserkit run --plugins-dir plugins --classifier random-forest:trees=200."""

from pydantic import Field

from bserkit import Classifier, hookimpl


class RandomForest(Classifier):
    """Many decision trees; seeded, as everything is."""

    name = "random-forest"
    trees: int = Field(300, ge=1, description="how many trees")
    seed: int = Field(0, description="of the trees' random choices")

    def make(self):
        """Return a fresh forest, which has predict_proba."""
        from sklearn.ensemble import RandomForestClassifier

        return RandomForestClassifier(n_estimators=self.trees, random_state=self.seed)


@hookimpl
def bserkit_classifiers():
    """Add the classifier."""
    return [RandomForest]
