"""State: what was fitted, as plain values and arrays, so that no file of a model holds code or is unpickled."""

from __future__ import annotations

import math
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np

from bserkit.errors import BserkitError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

#: What scikit-learn's usual classifiers hold beside the types that skops trusts: nothing in them calls anything.
_TRUSTED = frozenset(
    {
        "bserkit.learning.routing.SpeakerFolds",
        "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",
        "sklearn.metrics._dist_metrics.EuclideanDistance64",
        "sklearn.metrics._scorer._PassthroughScorer",
        "sklearn.neighbors._kd_tree.KDTree",
        "sklearn.neural_network._stochastic_optimizers.AdamOptimizer",
        "sklearn.neural_network._stochastic_optimizers.SGDOptimizer",
        "sklearn.tree._tree.Tree",
        "sklearn.utils._bunch.Bunch",
    }
)
_MARK = "$"


def pack(value: Any, make_classifier: Callable[[], Any], name: str = "") -> tuple[Any, dict[str, np.ndarray]]:
    """Return a state as values for JSON, and the arrays that these name.

    Args:
        value: None, text, numbers, arrays of numbers or text, classifiers, and lists and dictionaries of these.
        make_classifier: makes a classifier of the type that may give its own state.
        name: where the value lies, for the arrays' names and for errors.

    Raises:
        BserkitError: something in it cannot be kept.
    """
    if isinstance(value, np.ndarray | np.generic) or (type(value) is float and not math.isfinite(value)):
        return _pack_array(np.asarray(value), name)
    if value is None or type(value) in (bool, int, float, str):
        return value, {}
    if callable(getattr(value, "state", None)) and type(value) is type(make_classifier()):
        state, arrays = pack(value.state(), make_classifier, name)
        return {f"{_MARK}classifier": state}, arrays
    if hasattr(value, "fit") and hasattr(value, "get_params"):
        return {f"{_MARK}skops": name}, {name: np.frombuffer(_to_skops(value, name), np.uint8)}
    if not isinstance(value, dict | list | tuple):
        raise BserkitError(
            f"{name} is a {type(value).__name__}, which cannot be saved; expected numbers, text, arrays, classifiers, "
            "and lists and dictionaries of these."
        )
    if isinstance(value, dict) and (odd := [key for key in value if type(key) is not str or key.startswith(_MARK)]):
        raise BserkitError(f"{name} has the key {odd[0]!r}; expected text that does not begin with {_MARK}.")
    parts = value.items() if isinstance(value, dict) else enumerate(value)
    packed = {key: pack(one, make_classifier, f"{name}.{key}".lstrip(".")) for key, one in parts}
    arrays = {key: array for _, found in packed.values() for key, array in found.items()}
    values = {key: one for key, (one, _) in packed.items()}
    return (values if isinstance(value, dict) else [*values.values()]), arrays


def unpack(value: Any, arrays: Mapping[str, np.ndarray], make_classifier: Callable[[], Any]) -> Any:
    """Return the state that ``pack`` was given; tuples have become lists.

    Raises:
        BserkitError: a classifier in it cannot be restored here.
    """
    if isinstance(value, list):
        return [unpack(one, arrays, make_classifier) for one in value]
    if not isinstance(value, dict):
        return value
    mark, kept = next(iter(value.items()), ("", ""))
    if mark == f"{_MARK}text":
        return np.array(kept, dtype=value["dtype"])[()]
    if mark == f"{_MARK}array":
        # The order of an array in memory decides how a product is summed up, and so its last bits.
        return (arrays[kept].T if value.get("transposed") else arrays[kept])[()]
    if mark == f"{_MARK}classifier":
        return make_classifier().restore(unpack(kept, arrays, make_classifier))
    if mark == f"{_MARK}skops":
        return _from_skops(arrays[kept].tobytes(), kept)
    return {key: unpack(one, arrays, make_classifier) for key, one in value.items()}


def _pack_array(array: np.ndarray, name: str) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    if array.dtype.kind == "U":
        return {f"{_MARK}text": array.tolist(), "dtype": array.dtype.str}, {}
    if array.dtype.kind not in "biuf" or array.dtype.itemsize > 8:
        raise BserkitError(f"{name} is an array of {array.dtype}, which cannot be saved; expected numbers or text.")
    transposed = array.flags.f_contiguous and not array.flags.c_contiguous
    rows = np.array(array.T if transposed else array, dtype=array.dtype.newbyteorder("="), order="C")
    return {f"{_MARK}array": name} | ({"transposed": True} if transposed else {}), {name: rows}


def _to_skops(estimator: Any, name: str) -> bytes:
    """Return a fitted scikit-learn estimator in the format of skops, which holds no code.

    Raises:
        BserkitError: it holds what is not scikit-learn's.
    """
    from skops.io import dumps, get_untrusted_types

    of = f"{name}, a {type(estimator).__name__}, cannot be saved"
    way_out = "Another than scikit-learn's usual classifiers needs state() and restore(): see bserkit.Classifier.make."
    try:
        content = dumps(estimator)
        foreign = sorted({*get_untrusted_types(data=content)} - _TRUSTED)
    except Exception as error:
        raise BserkitError(f"{of}: {type(error).__name__}: {error}. {way_out}") from error
    if foreign:
        raise BserkitError(f"{of}, as it holds types that no model may hold: {', '.join(foreign)}. {way_out}")
    return content


def _from_skops(content: bytes, name: str) -> Any:
    from sklearn.exceptions import InconsistentVersionWarning
    from skops.io import loads
    from skops.io.exceptions import UntrustedTypesFoundException

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", InconsistentVersionWarning)
            return loads(content, trusted=sorted(_TRUSTED))
    except InconsistentVersionWarning as error:
        raise BserkitError(
            f"{name}, a {error.estimator_name}, was fitted by scikit-learn {error.original_sklearn_version}, and "
            f"{error.current_sklearn_version} may score otherwise. Install the former, or fit the model anew."
        ) from error
    except UntrustedTypesFoundException as error:
        raise BserkitError(f"{name} holds types that no model may hold: {error}") from error
