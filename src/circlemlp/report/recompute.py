"""Whether a record's parameters score what its history says."""

import json
from collections.abc import Iterator
from functools import lru_cache

import numpy as np

from circlemlp.core.data import Dataset, sample_dataset
from circlemlp.core.network import Network
from circlemlp.core.parameters import Layout
from circlemlp.core.true_error import true_errors
from circlemlp.store.identity import canonical
from circlemlp.store.records import Record

TOLERANCE = 1e-4
"""Of a loss, and of the largest logit: it is a hundred times what rounding to float32 was seen to do."""

ERROR_TOLERANCE = 1e-9
"""Of a true error: a million times what other kernels can change in one that is exact."""


def disagreements(record: Record) -> Iterator[str]:
    """Compute the last validation loss and accuracy of each replicate again, and yield what is not so.

    The data are drawn from the record's configuration, each replicate is evaluated on its own draw, and the arithmetic
    is that of float64. Replicates that diverged have no last values.
    """
    config, history = record.config, record.history
    numbers = config.training.numbers
    dataset, digest = _drawn(canonical(record.ingredients["config"]["data"]), numbers)
    if digest != record.ingredients["data"]:
        yield "its configuration draws other points than it says"
        return
    errors = true_errors(record.ingredients["config"], record.parameters, history.diverged_at)
    for replicate in np.flatnonzero(
        ~np.isclose(errors, record.true_error, rtol=0, atol=ERROR_TOLERANCE, equal_nan=True)
    ):
        yield (
            f"replicate {numbers[replicate]} has true error {record.true_error[replicate]:.6g}; "
            f"its parameters give {errors[replicate]:.6g}"
        )
    layout = Layout.of(config.model.hidden_layer_sizes)
    for replicate in np.flatnonzero(history.diverged_at < 0):
        parameters = record.parameters[replicate : replicate + 1].astype(np.float64)
        own = dataset.of_replicates(range(replicate, replicate + 1))
        labels = own.y_validation[0] == 1
        logits = Network(layout, parameters, config.model.activation).logits(own.x_validation[0])[0]
        loss = np.logaddexp(0, np.where(labels, -logits, logits)).mean()
        told = history.validation_loss[replicate, -1]
        if not abs(loss - told) <= TOLERANCE * told + np.finfo(np.float32).eps:
            yield f"replicate {numbers[replicate]} has validation loss {told:.6g}; its parameters give {loss:.6g}"
        correct = (logits > 0) == labels
        told = history.validation_accuracy[replicate, -1]
        undecided = np.count_nonzero(np.abs(logits) <= TOLERANCE * np.abs(logits).max())
        if abs(correct.mean() - told) * len(correct) > undecided + 0.5:
            given = correct.mean()
            yield f"replicate {numbers[replicate]} has validation accuracy {told:.6g}; its parameters give {given:.6g}"


@lru_cache(maxsize=4)  # the records of a store share few data sets
def _drawn(described: str, numbers: range) -> tuple[Dataset, str]:
    dataset = sample_dataset(json.loads(described), len(numbers), numbers.start)
    return dataset, dataset.digest()
