"""A reproducible experiment: what the shape and the learning rate of a multi-layer perceptron decide.

``circlemlp.MLPClassifier`` is the core behind scikit-learn's interface. It is imported when it is asked for, because it
loads scikit-learn, and NumPy, whose kernels the rest of the package pins first.
"""

from importlib import import_module
from typing import Any

__all__ = ["MLPClassifier"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module("circlemlp.estimator"), name)
