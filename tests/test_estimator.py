import copy
import pickle
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import sklearn.neural_network
from scipy.special import expit
from sklearn.base import clone
from sklearn.datasets import make_classification, make_moons
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.model_selection import GridSearchCV, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

import circlemlp
import plain
from circlemlp import MLPClassifier
from circlemlp.core.data import Dataset
from circlemlp.core.initialisation import initialise
from circlemlp.core.optimizers import Adam
from circlemlp.core.parameters import Layout
from circlemlp.core.recipe import Recipe
from circlemlp.core.streams import stream
from circlemlp.core.training import train

pytestmark = pytest.mark.filterwarnings("ignore:max_iter=:sklearn.exceptions.ConvergenceWarning")

X, Y = make_moons(200, noise=0.2, random_state=0)
X6, Y6 = make_classification(150, n_features=6, random_state=1)


def model(**changes):
    settings = {"hidden_layer_sizes": (8, 4), "learning_rate_init": 0.01, "batch_size": 32, "random_state": 0}
    return MLPClassifier(**{**settings, "max_iter": 6, **changes})


def assert_same(one, other):
    assert one.loss_curve_ == other.loss_curve_
    for mine, its in zip(one.coefs_ + one.intercepts_, other.coefs_ + other.intercepts_, strict=True):
        np.testing.assert_array_equal(mine, its)


@parametrize_with_checks(
    [
        MLPClassifier(),
        MLPClassifier(
            (5, 4), "tanh", solver="sgd", learning_rate_init=0.1, early_stopping=True, validation_fraction=0.2
        ),
        MLPClassifier(8, "gelu", solver="adamw", learning_rate_init=0.01, batch_size=10),
    ]
)
def test_scikit_learns_own_checks(estimator, check):
    check(estimator)


@pytest.mark.parametrize("activation", ["relu", "leaky_relu", "tanh", "gelu"])
def test_the_weights_give_the_probabilities(activation):
    fitted = model(activation=activation).fit(X6, Y6)
    assert [w.shape for w in fitted.coefs_] == [(6, 8), (8, 4), (4, 1)]
    assert [b.shape for b in fitted.intercepts_] == [(8,), (4,), (1,)]
    h = X6
    for w, b in zip(fitted.coefs_[:-1], fitted.intercepts_[:-1], strict=True):
        h = plain.ACTIVATIONS[activation](h @ w + b)
    logits = (h @ fitted.coefs_[-1] + fitted.intercepts_[-1])[:, 0]
    p = np.column_stack([1 / (1 + np.exp(logits)), 1 / (1 + np.exp(-logits))])
    np.testing.assert_allclose(fitted.decision_function(X6), logits, rtol=1e-11, atol=1e-13)
    np.testing.assert_allclose(fitted.predict_proba(X6), p, rtol=1e-11)
    np.testing.assert_allclose(fitted.predict_log_proba(X6), np.log(p), rtol=1e-10)
    np.testing.assert_array_equal(fitted.predict(X6), p.argmax(axis=1))


def test_the_smaller_probability_is_precise_too():
    fitted = model().fit(X, Y)
    fitted.coefs_[-1][:] = 0
    fitted.intercepts_[-1][:] = 50
    np.testing.assert_allclose(fitted.predict_proba(X[:1]), [[expit(-50), 1]], rtol=1e-14)
    fitted.intercepts_[-1][:] = 5000
    np.testing.assert_array_equal(fitted.predict_log_proba(X[:1]), [[-5000, 0]])


@pytest.mark.parametrize(
    "solver",
    [
        {"solver": "sgd", "momentum": 0.0, "nesterovs_momentum": False},
        {"solver": "sgd", "momentum": 0.9, "nesterovs_momentum": False},
        {"solver": "sgd", "momentum": 0.9, "nesterovs_momentum": True},
        {"solver": "adam", "epsilon": 1e-30},  # where the two forms of epsilon are one
    ],
    ids=lambda solver: f"{solver['solver']} {solver.get('momentum', '')}",
)
@pytest.mark.parametrize("batch_size", [64, 200])
@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_from_the_same_weights_it_trains_like_scikit_learns(solver, batch_size, activation):
    shared = {"hidden_layer_sizes": (8, 4), "activation": activation, "batch_size": batch_size, **solver}
    shared |= {"shuffle": False, "learning_rate_init": 0.02, "max_iter": 25, "random_state": 3}
    peer = sklearn.neural_network.MLPClassifier(alpha=0, warm_start=True, **shared)
    peer.partial_fit(X, Y, classes=[0, 1])
    start = Layout.of((8, 4)).matrices(initialise(Layout.of((8, 4)), seed=3, replicates=[0], dtype=np.float64))
    peer.coefs_, peer.intercepts_ = [m[0, :-1].copy() for m in start], [m[0, -1].copy() for m in start]
    peer.loss_curve_, peer.best_loss_ = [], np.inf
    with pytest.warns(ConvergenceWarning):
        peer.fit(X, Y)  # with a new optimizer
    mine = MLPClassifier(**shared).fit(X, Y)
    np.testing.assert_allclose(mine.loss_curve_, peer.loss_curve_, rtol=1e-10)
    np.testing.assert_allclose(mine.predict_proba(X), peer.predict_proba(X), rtol=1e-8)
    assert mine.loss_curve_[-1] < 0.97 * mine.loss_curve_[0]
    for name in ("n_iter_", "n_layers_", "n_outputs_", "out_activation_", "n_features_in_"):
        assert getattr(mine, name) == getattr(peer, name)


@pytest.mark.parametrize(("batch_size", "epochs"), [(None, 10), (32, 6)])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_it_is_the_cores_training(batch_size, epochs, dtype):
    x, y = X.astype(dtype), Y.astype(np.uint8)
    recipe = Recipe((8, 4), Adam(0.01), epochs=epochs, batch_size=batch_size, dtype=dtype, seed=7)
    parameters, history = train(Dataset(x[None], y[None], x[None], y[None]), recipe)
    fitted = model(batch_size=batch_size or 200, shuffle=batch_size is not None, max_iter=epochs, random_state=7)
    fitted.fit(x, y)
    for matrix, w, b in zip(Layout.of((8, 4)).matrices(parameters), fitted.coefs_, fitted.intercepts_, strict=True):
        np.testing.assert_array_equal(matrix[0], np.vstack([w, b]))
    curve = history.training_loss[0]
    assert fitted.loss_curve_ == list(curve[:-1] if batch_size is None else curve[1:])


def test_weight_decay_is_adamws():
    adam, none, some = model(), model(solver="adamw", weight_decay=0.0), model(solver="adamw", weight_decay=0.5)
    assert_same(adam.fit(X, Y), none.fit(X, Y))
    assert np.linalg.norm(some.fit(X, Y).coefs_[1]) < np.linalg.norm(adam.coefs_[1])


@pytest.mark.parametrize(
    "labels", [["no", "yes"], [-1, 1], [False, True], [2.0, 7.0], np.array(["a", "b"], dtype=object), [0, 1]], ids=repr
)
def test_two_labels_of_any_kind(labels):
    labels = np.asarray(labels)
    fitted = model(max_iter=60).fit(X, labels[Y])
    np.testing.assert_array_equal(fitted.classes_, labels)
    predicted = fitted.predict(X)
    assert predicted.dtype == labels.dtype
    assert np.mean(predicted == labels[Y]) > 0.9
    assert_same(fitted, model(max_iter=60).fit(X, Y))
    partly = model().partial_fit(X, labels[Y], classes=labels[::-1])
    np.testing.assert_array_equal(partly.classes_, labels)


BAD = np.where(np.arange(400).reshape(200, 2) == 7, np.nan, X)


@pytest.mark.parametrize(
    ("x", "y", "says"),
    [
        (X, np.arange(200) % 3, "Only binary classification is supported. The type of the target is multiclass"),
        (X, np.ones(200), "only one class"),
        (X, X[:, 0], "Unknown label type: continuous"),
        (X, Y[:-1], "inconsistent numbers of samples"),
        (X[:, 0], Y, "Expected 2D array, got 1D array"),
        (X[:0], Y[:0], r"0 sample\(s\)"),
        (BAD, Y, "Input X contains NaN"),
        (np.where(np.isnan(BAD), np.inf, BAD), Y, "Input X contains infinity"),
    ],
)
def test_data_it_cannot_take(x, y, says):
    with pytest.raises(ValueError, match=says):
        model().fit(x, y)


def test_what_a_fitted_model_cannot_take():
    with pytest.raises(NotFittedError):
        model().predict(X)
    fitted = model(warm_start=True).fit(X, Y)
    with pytest.raises(ValueError, match="contains NaN"):
        fitted.predict(BAD)
    with pytest.raises(ValueError, match="expecting 2 features"):
        fitted.decision_function(X6)
    with pytest.raises(ValueError, match="A warm start needs the classes"):
        fitted.fit(X, Y + 1)
    with pytest.raises(ValueError, match="not those of the fitted network"):
        fitted.set_params(hidden_layer_sizes=(8,)).fit(X, Y)


def test_what_partial_fit_cannot_take():
    with pytest.raises(ValueError, match="classes must be passed on the first call"):
        model().partial_fit(X, Y)
    with pytest.raises(ValueError, match="Only binary classification is supported"):
        model().partial_fit(X, Y, classes=[0, 1, 2])
    fitted = model().partial_fit(X, Y, classes=[0, 1])
    with pytest.raises(ValueError, match="not the same as on last call"):
        fitted.partial_fit(X, Y, classes=[0, 2])
    with pytest.raises(ValueError, match=r"labels \[2\]"):
        fitted.partial_fit(X, 2 * Y)
    with pytest.raises(AttributeError) as raised:
        _ = model(early_stopping=True).partial_fit
    assert "does not support early_stopping=True" in str(raised.value.__cause__)


@pytest.mark.parametrize(
    "changes",
    [
        {"hidden_layer_sizes": ()},
        {"hidden_layer_sizes": (4, 0)},
        {"hidden_layer_sizes": (2.5,)},
        {"hidden_layer_sizes": [[4]]},
        {"hidden_layer_sizes": 0},
        {"activation": "logistic"},
        {"initialisation": "zeros"},
        {"solver": "lbfgs"},
        {"learning_rate_init": 0.0},
        {"momentum": 1.0},
        {"batch_size": 0},
        {"validation_fraction": 0.0},
        {"weight_decay": -1.0},
    ],
    ids=str,
)
def test_parameters_out_of_range(changes):
    with pytest.raises(ValueError, match=next(iter(changes))):
        model(**changes).fit(X, Y)


@pytest.mark.parametrize("solver", ["adam", "adamw", "sgd"])
@pytest.mark.parametrize("batch_size", [7, 200])
def test_warm_starts_and_partial_fits_go_on_where_the_last_one_ended(solver, batch_size):
    at_once = model(solver=solver, batch_size=batch_size).fit(X, Y)
    warm = model(solver=solver, batch_size=batch_size, warm_start=True, max_iter=3).fit(X, Y)
    assert warm.loss_curve_ == at_once.loss_curve_[:3]
    assert_same(warm.fit(X, Y), at_once)
    assert (warm.n_iter_, warm.t_, warm.best_loss_) == (3, 1200, at_once.best_loss_)
    partly = model(solver=solver, batch_size=batch_size).partial_fit(X, Y, classes=[0, 1])
    for _ in range(5):
        partly.partial_fit(X, Y)
    assert_same(partly, at_once)
    assert (partly.n_iter_, partly.t_, partly.loss_) == (1, 1200, at_once.loss_)


def test_every_epoch_takes_another_order():
    one, other = (model().partial_fit(X, Y, classes=[0, 1]) for _ in range(2))
    other._shuffling = stream(0, "shuffling", 0)  # as if the stream began again
    one.partial_fit(X, Y)
    other.partial_fit(X, Y)
    assert one.loss_ != other.loss_


def test_a_new_fit_begins_again():
    once = model().fit(X, Y)
    assert_same(model().fit(X6, Y6).fit(X, Y), once)
    again = model().fit(X, Y).fit(X, Y)
    assert_same(again, once)
    assert again.n_iter_ == len(again.loss_curve_) == 6


def test_partial_fit_takes_samples_of_one_class():
    fitted = model(learning_rate_init=0.1).partial_fit(X[Y == 1], Y[Y == 1], classes=[0, 1])
    before = fitted.predict_proba(X)[:, 1].mean()
    fitted.partial_fit(X[Y == 0], Y[Y == 0])
    assert fitted.predict_proba(X)[:, 1].mean() < before


def test_early_stopping_takes_back_the_best_parameters():
    settings = {"learning_rate_init": 0.3, "random_state": 19}
    fitted = model(early_stopping=True, validation_fraction=0.25, max_iter=100, **settings).fit(X, Y)
    train_x, held_x, train_y, held_y = train_test_split(X, Y, test_size=0.25, stratify=Y, random_state=19)
    scores = fitted.validation_scores_
    assert fitted.score(held_x, held_y) == fitted.best_validation_score_ == max(scores)
    assert scores[-1] < max(scores)
    assert scores.count(max(scores)) > 1  # of equals, it is the first
    best = int(np.argmax(scores)) + 1
    assert fitted.n_iter_ == len(scores) == len(fitted.loss_curve_) == best + fitted.n_iter_no_change + 1
    replayed = model(max_iter=best, **settings).fit(train_x, train_y)
    np.testing.assert_array_equal(fitted.predict_proba(X), replayed.predict_proba(X))
    assert fitted.best_loss_ is None


def test_without_early_stopping_the_training_loss_is_what_counts():
    fitted = model(learning_rate_init=0.5, max_iter=5).fit(X, Y)
    assert fitted.best_loss_ == min(fitted.loss_curve_) < fitted.loss_ == fitted.loss_curve_[-1]
    assert fitted.validation_scores_ is fitted.best_validation_score_ is None


def test_a_warm_start_with_another_solver_starts_its_state_anew():
    fitted = model(solver="sgd", warm_start=True, max_iter=20, learning_rate_init=0.001).fit(X, Y)
    before = [coefs.copy() for coefs in fitted.coefs_]
    fitted.set_params(solver="adam", max_iter=1, batch_size=len(X)).fit(X, Y)
    for old, new in zip(before, fitted.coefs_, strict=True):
        # Adam's first step changes no parameter by more than the learning rate.
        assert 0 < np.abs(new - old).max() <= 0.001 * (1 + 1e-6)


def test_early_stopping_can_be_turned_on_and_off_between_warm_starts():
    fitted = model(warm_start=True).fit(X, Y)
    assert len(fitted.set_params(early_stopping=True).fit(X, Y).validation_scores_) == 6
    assert len(fitted.fit(X, Y).validation_scores_) == 12
    assert fitted.set_params(early_stopping=False).fit(X, Y).validation_scores_ is None
    assert len(fitted.loss_curve_) == 24


@pytest.mark.parametrize("early_stopping", [False, True])
def test_it_stops_as_early_as_scikit_learns(early_stopping):
    shared = {"tol": 10.0, "n_iter_no_change": 4, "early_stopping": early_stopping, "random_state": 0}
    mine = MLPClassifier(**shared).fit(X, Y)  # and says nothing of convergence
    peer = sklearn.neural_network.MLPClassifier(**shared).fit(X, Y)
    assert mine.n_iter_ == peer.n_iter_ == 6


@pytest.mark.filterwarnings("default")
def test_it_warns_when_the_epochs_were_not_enough():
    with pytest.warns(ConvergenceWarning, match="max_iter=6") as caught:
        model().fit(X, Y)
    assert caught[0].filename == __file__


def test_it_warns_of_a_batch_larger_than_the_data():
    with pytest.warns(UserWarning, match="batch_size=1000 is clipped to the 200 samples") as caught:
        fitted = model(batch_size=1000).fit(X, Y)
    assert caught[0].filename == __file__
    assert_same(fitted, model(batch_size=200).fit(X, Y))
    assert_same(fitted, model(batch_size="auto").fit(X, Y))


@pytest.mark.parametrize("method", ["predict", "predict_proba", "predict_log_proba", "decision_function"])
def test_an_input_too_large_for_float32_is_one_error_and_no_warning(method):
    answer = getattr(model().fit(X.astype(np.float32), Y), method)
    assert np.isfinite(answer([[1e30, 1e30]])).all()
    with pytest.raises(ValueError, match=r"Input X contains a value too large for dtype\('float32'\)"):
        answer([[1e300, 1e300]])


@pytest.mark.parametrize("solver", ["sgd", "adam"])
def test_divergence_is_one_error(solver):
    with pytest.raises(ValueError, match="Training diverged"):
        model(solver=solver, learning_rate_init=1e300, max_iter=20).fit(X, Y)


def test_the_random_state_decides_everything():
    assert_same(model(random_state=5).fit(X, Y), model(random_state=np.int64(5)).fit(X, Y))
    same = [model(random_state=np.random.RandomState(5)).fit(X, Y) for _ in range(2)]
    assert_same(*same)
    fits = [model(random_state=seed).fit(X, Y).loss_ for seed in (0, 1, None, None)] + [same[0].loss_]
    assert len(set(fits)) == 5


@pytest.mark.parametrize("again", [lambda one: pickle.loads(pickle.dumps(one)), copy.deepcopy])
def test_copies_go_on_identically_and_apart(again):
    first = model().partial_fit(X, Y, classes=[0, 1])
    second = again(first)
    np.testing.assert_array_equal(second.predict_proba(X), first.predict_proba(X))
    first.partial_fit(X, Y)
    assert len(second.loss_curve_) == 1
    assert_same(second.partial_fit(X, Y), first)
    assert not hasattr(clone(first), "coefs_")


def test_a_pickle_holds_little_beside_the_parameters():
    fitted = model(hidden_layer_sizes=(200, 200)).fit(X, Y)
    n_parameters = Layout.of((200, 200)).n_parameters
    assert len(pickle.dumps(fitted)) < 4 * 8 * n_parameters + 10_000


def test_float32_stays_float32():
    narrow, wide = model().fit(X.astype(np.float32), Y), model().fit(X, Y)
    for fitted, dtype in ((narrow, np.float32), (wide, np.float64)):
        arrays = [*fitted.coefs_, *fitted.intercepts_, fitted.predict_proba(X), fitted.decision_function(X)]
        assert {array.dtype for array in arrays} == {np.dtype(dtype)}
    np.testing.assert_allclose(narrow.loss_curve_, wide.loss_curve_, rtol=1e-4)
    assert narrow.loss_curve_ != wide.loss_curve_
    for solver in ("adam", "adamw", "sgd"):
        fits = [model(solver=solver, learning_rate_init=r).fit(X.astype("f4"), Y) for r in (0.01, np.float64(0.01))]
        assert_same(*fits)


def test_verbose_prints_a_line_an_epoch(capsys):
    fitted = model(verbose=True, max_iter=2, early_stopping=True).fit(X, Y)
    expected = [
        f"Iteration {i}, loss = {loss:.8f}\nValidation score: {score:.6f}\n"
        for i, loss, score in zip((1, 2), fitted.loss_curve_, fitted.validation_scores_, strict=True)
    ]
    assert capsys.readouterr().out == "".join(expected)


def test_in_a_pipeline_and_a_grid_search():
    grid = {"mlpclassifier__hidden_layer_sizes": [1, (32,)], "mlpclassifier__learning_rate_init": [1e-4, 0.03]}
    pipeline = make_pipeline(StandardScaler(), model(max_iter=40))
    search = GridSearchCV(pipeline, grid, cv=3, scoring="roc_auc").fit(X, Y)
    assert search.best_params_ == {
        "mlpclassifier__hidden_layer_sizes": (32,),
        "mlpclassifier__learning_rate_init": 0.03,
    }
    assert search.best_score_ > 0.97


def test_names_of_columns_are_kept():
    frame = pd.DataFrame(X, columns=["a", "b"])
    fitted = model(early_stopping=True).fit(frame, pd.Series(Y))
    assert list(fitted.feature_names_in_) == ["a", "b"]
    with pytest.raises(ValueError, match="feature names should match"):
        fitted.predict(frame[["b", "a"]])


def test_scikit_learn_is_imported_when_asked_for():
    code = """
import sys
import circlemlp, circlemlp.core.training
assert "sklearn" not in sys.modules
from circlemlp import MLPClassifier
assert "sklearn" in sys.modules and MLPClassifier is circlemlp.MLPClassifier
"""
    subprocess.run([sys.executable, "-c", code], check=True)
    with pytest.raises(AttributeError, match="has no attribute 'MLPRegressor'"):
        _ = circlemlp.MLPRegressor
