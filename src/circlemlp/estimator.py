"""The core behind scikit-learn's interface.

A fitted estimator keeps no network. It keeps the parameters and the optimizer's state, in the core's flat buffers, and
a random generator. An epoch is a function of these and the data, so every call of ``partial_fit``, or of ``fit`` with a
warm start, continues exactly where the last one ended. Early stopping is the exception: it restores the best
parameters, but neither the optimizer's state nor the generator.
"""

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import KW_ONLY, dataclass
from functools import partial
from itertools import islice
from numbers import Integral, Real
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit, log_expit
from sklearn.base import BaseEstimator, ClassifierMixin, _fit_context
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import train_test_split
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, Options, StrOptions
from sklearn.utils.metaestimators import available_if
from sklearn.utils.multiclass import check_classification_targets, type_of_target
from sklearn.utils.validation import check_is_fitted, validate_data

from circlemlp.core.activations import ACTIVATIONS
from circlemlp.core.batches import Batches
from circlemlp.core.initialisation import INITIALISATIONS, initialise
from circlemlp.core.loss import LossSum
from circlemlp.core.network import Network
from circlemlp.core.optimizers import OPTIMIZERS, SGD, Adam, AdamW, Optimizer, State
from circlemlp.core.parameters import Floats, Layout
from circlemlp.core.streams import stream
from circlemlp.core.tiles import Cut
from circlemlp.core.training import pass_over

Labels = NDArray[np.uint8]
Split = tuple[Floats, Labels]


def _without_early_stopping(estimator: "MLPClassifier") -> bool:
    if estimator.early_stopping:
        raise AttributeError("partial_fit does not support early_stopping=True.")
    return True


@dataclass(eq=False, repr=False)  # its __init__ stores the parameters as they are, as scikit-learn wants it
class MLPClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc] # scikit-learn has no types
    """A multi-layer perceptron for two classes, trained by backpropagation on the mean log loss.

    Parameters and attributes have the names and meanings that they have in ``sklearn.neural_network.MLPClassifier``,
    with these differences: initial weights are He's unless ``initialisation`` says otherwise; Adam's ``epsilon`` is
    that of Algorithm 1, added after the bias correction; there is no L2 penalty ``alpha``, no learning-rate schedule,
    no L-BFGS, no ``sample_weight``, no sparse X and no "identity" or "logistic" activation; a warm start with the same
    solver also keeps the optimizer's state.

    Parameters
    ----------
    hidden_layer_sizes : int or sequence of int, default=(100,)
        The numbers of nodes in the hidden layers, of which there is at least one.
    activation : {"relu", "leaky_relu", "tanh", "gelu"}, default="relu"
        The activation of the hidden layers.
    initialisation : {"he", "glorot"}, default="he"
        How initial weights are drawn. "glorot" is scikit-learn's way, and often the better one where there are many
        features.
    solver : {"adam", "adamw", "sgd"}, default="adam"
        The optimizer.
    batch_size : int or "auto", default="auto"
        "auto" is min(200, n_samples). ``n_samples`` is the full batch. A larger number is clipped to it, and a warning
        says so.
    learning_rate_init : float, default=0.001
        The step size, eta > 0.
    max_iter : int, default=200
        The most epochs of one ``fit``.
    shuffle : bool, default=True
        Whether every epoch takes the samples in a new order.
    random_state : int, RandomState or None, default=None
        It decides the initial weights, the shuffling and the split for early stopping. An int is the core's seed.
    tol : float, default=1e-4
        The smallest change that counts as an improvement.
    verbose : bool or int, default=False
        Whether to print a line every epoch.
    warm_start : bool, default=False
        Whether ``fit`` continues the last one, on data with the same features and classes.
    momentum : float, default=0.9
        The decay rate mu of "sgd", in [0, 1).
    nesterovs_momentum : bool, default=True
        Whether "sgd" takes Nesterov's form.
    early_stopping : bool, default=False
        Whether to hold out a stratified part of the data, to stop when the accuracy on it no longer improves, and to
        restore the best parameters. Otherwise training stops when the training loss no longer improves.
    validation_fraction : float, default=0.1
        The part of the data that is held out, in (0, 1).
    beta_1, beta_2 : float, default=0.9, 0.999
        The decay rates of the moments of "adam" and "adamw", in [0, 1).
    epsilon : float, default=1e-8
        The number that "adam" and "adamw" add to the denominator of a step.
    n_iter_no_change : int or inf, default=10
        Training stops when more than this number of epochs in a row bring no improvement.
    weight_decay : float, default=0.01
        The decay rate lambda of "adamw", >= 0.

    Attributes
    ----------
    classes_ : ndarray of shape (2,)
        The labels, sorted. The network computes the probability of the second one.
    coefs_ : list of ndarray of shape (fan_in, fan_out)
        The weights, bottom layer first. They are views, so writing to them changes the model.
    intercepts_ : list of ndarray of shape (fan_out,)
        The biases, as views too.
    loss_curve_ : list of float
        The mean training loss of every epoch since training began, each sample's with the parameters before the step of
        its batch.
    loss_ : float
        The last value of ``loss_curve_``.
    best_loss_ : float or None
        The least value of ``loss_curve_``; None with early stopping.
    validation_scores_ : list of float or None
        The accuracy on the held-out part after every epoch; None without early stopping.
    best_validation_score_ : float or None
        The largest value of ``validation_scores_``.
    n_iter_ : int
        The number of epochs in the last call of ``fit`` or ``partial_fit``.
    t_ : int
        The number of samples that training has seen, counted in every epoch.
    n_layers_, n_outputs_ : int
        The number of layers, counting inputs and output; and 1.
    out_activation_ : str
        "logistic".
    n_features_in_ : int
        The number of features.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        The names of the features, if the columns of X had names.

    Examples
    --------
    >>> import numpy as np
    >>> from circlemlp import MLPClassifier
    >>> X = np.random.default_rng(0).uniform(-1, 1, size=(1000, 2))
    >>> y = np.where((X**2).sum(axis=1) < 0.5, "inside", "outside")
    >>> classifier = MLPClassifier((16,), learning_rate_init=0.01, tol=1e-3, random_state=0).fit(X, y)
    >>> round(classifier.score(X, y), 1)
    1.0
    >>> classifier.predict([[0.1, 0.2], [0.9, -0.8]])
    array(['inside', 'outside'], dtype='<U7')
    >>> print(classifier.predict_proba([[0.1, 0.2], [0.9, -0.8]]).round(1))
    [[1. 0.]
     [0. 1.]]
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "hidden_layer_sizes": ["array-like", Interval(Integral, 1, None, closed="left")],
        "activation": [StrOptions(set(ACTIVATIONS))],
        "initialisation": [StrOptions(set(INITIALISATIONS))],
        "solver": [StrOptions(set(OPTIMIZERS))],
        "batch_size": [StrOptions({"auto"}), Interval(Integral, 1, None, closed="left")],
        "learning_rate_init": [Interval(Real, 0, None, closed="neither")],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "shuffle": ["boolean"],
        "random_state": ["random_state"],
        "tol": [Interval(Real, 0, None, closed="left")],
        "verbose": ["verbose"],
        "warm_start": ["boolean"],
        "momentum": [Interval(Real, 0, 1, closed="left")],
        "nesterovs_momentum": ["boolean"],
        "early_stopping": ["boolean"],
        "validation_fraction": [Interval(Real, 0, 1, closed="neither")],
        "beta_1": [Interval(Real, 0, 1, closed="left")],
        "beta_2": [Interval(Real, 0, 1, closed="left")],
        "epsilon": [Interval(Real, 1e-30, None, closed="left")],  # smaller ones vanish in float32
        "n_iter_no_change": [Interval(Integral, 1, None, closed="left"), Options(Real, {np.inf})],
        "weight_decay": [Interval(Real, 0, None, closed="left")],
    }

    hidden_layer_sizes: int | Sequence[int] = (100,)
    activation: str = "relu"
    initialisation: str = "he"
    _: KW_ONLY
    solver: str = "adam"
    batch_size: int | str = "auto"
    learning_rate_init: float = 0.001
    max_iter: int = 200
    shuffle: bool = True
    random_state: int | np.random.RandomState | None = None
    tol: float = 1e-4
    verbose: bool | int = False
    warm_start: bool = False
    momentum: float = 0.9
    nesterovs_momentum: bool = True
    early_stopping: bool = False
    validation_fraction: float = 0.1
    beta_1: float = 0.9
    beta_2: float = 0.999
    epsilon: float = 1e-8
    n_iter_no_change: float = 10
    weight_decay: float = 0.01

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: ArrayLike, y: ArrayLike) -> Self:
        """Train until nothing improves, or for ``max_iter`` epochs.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            float32 is trained in float32, everything else in float64.
        y : array-like of shape (n_samples,)
            Labels of any type, of which there are two.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            If X or y has the wrong shape or values that are not finite, if y does not have two classes, if a warm
            start has other features, classes or layers than before, or if training diverged.
        """
        goes_on = self.warm_start and self.__sklearn_is_fitted__()
        X, y = self._check_data(X, y, reset=not goes_on)
        classes = _two_classes(y)
        if goes_on and not np.array_equal(classes, self.classes_):
            raise ValueError(f"A warm start needs the classes {self.classes_} of the last fit, but y has {classes}.")
        self._prepare(X, classes, goes_on)
        train, held_out = self._split(X, self._encode(y))
        best_parameters = self._parameters.copy()
        for _ in islice(self._epochs(*train), self.max_iter):
            if self._is_best(held_out):
                np.copyto(best_parameters, self._parameters)
            if self._epochs_without_improvement > self.n_iter_no_change:
                break
        else:
            warnings.warn(f"max_iter={self.max_iter} epochs were not enough.", ConvergenceWarning, stacklevel=3)
        if self.early_stopping:
            np.copyto(self._parameters, best_parameters)
        return self._check_divergence()

    @available_if(_without_early_stopping)
    @_fit_context(prefer_skip_nested_validation=True)
    def partial_fit(self, X: ArrayLike, y: ArrayLike, classes: ArrayLike | None = None) -> Self:
        """Train for one epoch on these samples. There is no such method with ``early_stopping=True``.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
        y : array-like of shape (n_samples,)
            Labels. They need not be of both classes.
        classes : array-like of shape (2,), optional
            Both labels; needed in the first call.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            As ``fit`` does, and if the first call lacks ``classes`` or a later one has others.
        """
        goes_on = self.__sklearn_is_fitted__()
        if not goes_on and classes is None:
            raise ValueError("classes must be passed on the first call to partial_fit.")
        both = self.classes_ if classes is None else _two_classes(classes)
        if goes_on and not np.array_equal(both, self.classes_):
            raise ValueError(f"classes={both} is not the same as on last call to partial_fit, was: {self.classes_}.")
        X, y = self._check_data(X, y, reset=not goes_on)
        unknown = np.setdiff1d(y, both)
        if len(unknown):
            raise ValueError(f"y has the labels {unknown}, which are not in the classes {both}.")
        self._prepare(X, both, goes_on)
        next(self._epochs(X, self._encode(y)))
        self._is_best(held_out=None)
        return self._check_divergence()

    def decision_function(self, X: ArrayLike) -> Floats:
        """Return the logits of ``classes_[1]``, shape (n_samples,), in the type of the parameters.

        Raises
        ------
        ValueError
            If X has another number of features, or values that are not finite or too large for the type.
        """
        check_is_fitted(self)
        logits = self._logits(validate_data(self, X, dtype=(np.float64, np.float32), reset=False))
        if np.isnan(logits).any():
            self._check_divergence()  # the caller may have ignored the error of ``fit``
            raise ValueError(f"Input X contains a value too large for {logits.dtype!r}.")
        return logits

    def predict(self, X: ArrayLike) -> NDArray[Any]:
        """Return the more probable labels, shape (n_samples,)."""
        logits = self.decision_function(X)
        labels: NDArray[Any] = self.classes_[(logits > 0).astype(np.intp)]
        return labels

    def predict_proba(self, X: ArrayLike) -> Floats:
        """Return the probabilities of ``classes_``, shape (n_samples, 2). The small one is as precise as the large."""
        logits = self.decision_function(X)
        probabilities: Floats = expit(np.column_stack([-logits, logits]))
        return probabilities

    def predict_log_proba(self, X: ArrayLike) -> Floats:
        """Return the logarithms of the probabilities, shape (n_samples, 2). They are finite even where these are 0."""
        logits = self.decision_function(X)
        logarithms: Floats = log_expit(np.column_stack([-logits, logits]))
        return logarithms

    @property
    def coefs_(self) -> list[Floats]:
        """The weights of each layer, see the class."""
        return [matrix[0, :-1] for matrix in self._layout.matrices(self._parameters)]

    @property
    def intercepts_(self) -> list[Floats]:
        """The biases of each layer, see the class."""
        return [matrix[0, -1] for matrix in self._layout.matrices(self._parameters)]

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "_parameters")

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_class = False
        return tags

    def _check_data(self, X: ArrayLike, y: ArrayLike, reset: bool) -> tuple[Floats, NDArray[Any]]:
        samples, labels = validate_data(self, X, y, dtype=(np.float64, np.float32), order="C", reset=reset)
        check_classification_targets(labels)
        return samples, labels

    def _encode(self, y: NDArray[Any]) -> Labels:
        labels: Labels = (y == self.classes_[1]).astype(np.uint8)
        return labels

    def _prepare(self, X: Floats, classes: NDArray[Any], goes_on: bool) -> None:
        """Set everything that training begins with, or check that it can continue."""
        layout = Layout.of(_sizes(self.hidden_layer_sizes), X.shape[1])
        if not goes_on:
            self.classes_ = classes
            self._seed = _seed(self.random_state)
            self._layout = layout
            self._parameters = initialise(
                layout, seed=self._seed, replicates=[0], dtype=X.dtype, initialisation=self.initialisation
            )
            self._shuffling = stream(self._seed, "shuffling", 0)
            self.n_layers_, self.n_outputs_, self.out_activation_ = len(layout.layer_sizes), 1, "logistic"
            self.loss_curve_: list[float] = []
            self.t_ = 0
        elif layout != self._layout:
            raise ValueError(f"hidden_layer_sizes={self.hidden_layer_sizes} are not those of the fitted network.")
        if not goes_on or self.solver != self._solver:  # the state of another solver has no meaning
            self._solver: str = self.solver
            self._state = State.of(self._parameters)
        if not goes_on or self.early_stopping != (self.validation_scores_ is not None):
            self.validation_scores_: Any = [] if self.early_stopping else None
            self._best = -np.inf
            self._epochs_without_improvement = 0
        self.n_iter_ = 0

    def _split(self, X: Floats, y: Labels) -> tuple[Split, Split | None]:
        """Hold out a part for early stopping, always the same part of the same data, also after a warm start."""
        if not self.early_stopping:
            return (X, y), None
        train_x, held_x, train_y, held_y = train_test_split(
            X, y, test_size=self.validation_fraction, stratify=y, random_state=self._seed
        )
        return (train_x, train_y), (held_x, held_y)

    def _epochs(self, X: Floats, y: Labels) -> Iterator[None]:
        """Train epoch by epoch. The iterator never ends."""
        dtype = self._parameters.dtype
        network = Network(self._layout, self._parameters, self.activation)
        step = partial(self._optimizer().step, self._state, network.gradient, self._parameters)
        shuffle = [self._shuffling] if self.shuffle else []
        batch_size = self._clipped_batch_size(len(X))
        cut = Cut.of(self._layout, dtype, 1, batch_size)
        x, labels = X[np.newaxis], y[np.newaxis]
        batches = Batches(x, labels, replicates=1, cut=cut, dtype=dtype, batch_size=batch_size, shuffle=shuffle)
        losses = LossSum(1, batches.window, dtype)
        while True:
            self.loss_ = float(pass_over(batches, network, step, losses)[0])
            self.loss_curve_.append(self.loss_)
            self.t_ += len(X)
            self.n_iter_ += 1
            if self.verbose:
                print(f"Iteration {self.n_iter_}, loss = {self.loss_:.8f}")
            yield

    def _optimizer(self) -> Optimizer:
        # Python's floats keep float32 arithmetic in float32. NumPy's floats, as from a grid search, would not.
        if self.solver == "sgd":
            return SGD(float(self.learning_rate_init), float(self.momentum), self.nesterovs_momentum)
        adam = Adam if self.solver == "adam" else partial(AdamW, weight_decay=float(self.weight_decay))
        return adam(float(self.learning_rate_init), float(self.beta_1), float(self.beta_2), float(self.epsilon))

    def _clipped_batch_size(self, n: int) -> int:
        if isinstance(self.batch_size, str):
            return min(200, n)
        if self.batch_size > n:
            warnings.warn(f"batch_size={self.batch_size} is clipped to the {n} samples there are.", stacklevel=5)
        return min(int(self.batch_size), n)

    def _is_best(self, held_out: Split | None) -> bool:
        """Compare the last epoch with the best so far: by accuracy on held-out samples, or by training loss."""
        score = -self.loss_ if held_out is None else self._accuracy(*held_out)
        improved = score >= self._best + self.tol
        self._epochs_without_improvement = 0 if improved else self._epochs_without_improvement + 1
        is_best = score > self._best
        if is_best:
            self._best = score
        self.best_loss_ = -self._best if held_out is None else None
        self.best_validation_score_ = None if held_out is None else self._best
        return is_best

    def _accuracy(self, X: Floats, y: Labels) -> float:
        accuracy = float(np.mean((self._logits(X) > 0) == y))
        self.validation_scores_.append(accuracy)
        if self.verbose:
            print(f"Validation score: {accuracy:.6f}")
        return accuracy

    def _check_divergence(self) -> Self:
        if not np.isfinite(self._parameters).all():
            raise ValueError(
                "Training diverged to non-finite parameters: learning_rate_init or the values of X are too large."
            )
        return self

    def _logits(self, X: Floats) -> Floats:
        logits: Floats = Network(self._layout, self._parameters, self.activation).logits(X)[0]
        return logits


def _two_classes(labels: ArrayLike) -> NDArray[Any]:
    """Return the two classes, sorted. Raise ValueError if there are not exactly two."""
    kind = type_of_target(labels, input_name="y", raise_unknown=True)
    if kind != "binary":
        raise ValueError(f"Only binary classification is supported. The type of the target is {kind}.")
    classes = np.unique(labels)
    if len(classes) < 2:
        raise ValueError(f"Two classes are needed, but there is only one class: {classes[0]}.")
    return classes


def _sizes(hidden_layer_sizes: int | Sequence[int]) -> list[int]:
    sizes = np.atleast_1d(hidden_layer_sizes)
    if sizes.dtype.kind not in "iu" or sizes.ndim > 1 or (sizes < 1).any():
        raise ValueError(f"hidden_layer_sizes must be one or more integers > 0, got {hidden_layer_sizes!r}.")
    return [int(size) for size in sizes]


def _seed(random_state: int | np.random.RandomState | None) -> int:
    if isinstance(random_state, Integral):
        return int(random_state)
    return int(check_random_state(random_state).randint(2**31 - 1))
