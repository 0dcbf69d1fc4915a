"""A reproducible experiment: what the shape and the learning rate of a multi-layer perceptron decide.

``circlemlp.MLPClassifier`` is the core behind scikit-learn's interface; scikit-learn is imported when it is asked for.
"""

from typing import TYPE_CHECKING, Any

__all__ = ["MLPClassifier"]

if TYPE_CHECKING:
    from circlemlp.estimator import MLPClassifier
else:

    def __getattr__(name: str) -> Any:
        if name != "MLPClassifier":
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from circlemlp.estimator import MLPClassifier

        return MLPClassifier
