"""What a training costs, in floating-point operations of the textbook's algorithm, which no computer changes.

Counted are, for a layer with fan_in inputs and fan_out nodes:

- in the forward pass of a sample, 2 fan_in fan_out: a product and a sum for every weight, beginning with the bias. An
  activation is one operation for each hidden node, whatever function it is.
- in the backward pass of a sample, 2 fan_in fan_out for the gradient of the weights and fan_out for that of the biases,
  which are sums over samples. The errors of the hidden layer below take 2 fan_in fan_out: a product for every weight,
  one sum less, and the product with the slope. A slope is one operation too.
- in a step of the optimizer, ``STEP`` for every parameter: products, sums, quotients and roots of its formula.

Validation is a forward pass. Not counted are losses and top errors, about ten operations a sample beside thousands, and
what is evaluated once, before the first epoch and after the last. The core takes other steps to the same numbers, see
docs/performance.md.
"""

from itertools import pairwise

import numpy as np

from circlemlp.config import CellConfig
from circlemlp.core.parameters import Layout
from circlemlp.report.regimes import epochs_to_goal
from circlemlp.store.trained import Trained

STEP = {"adam": 10, "adamw": 11, "sgd": 4}
"""Operations for each parameter: Adam's are M, 2; V, 3; theta, 5. AdamW also shrinks theta, and SGD has M and theta."""
NESTEROV = 2
"""More of SGD's in Nesterov's form, which adds g to mu M."""


def per_epoch(config: CellConfig) -> int:
    """Return the operations of one replicate's epoch: training, optimizer and validation."""
    data, training, optimizer = config.data, config.training, config.optimizer
    layout = Layout.of(config.model.hidden_layer_sizes)
    weights = [fan_in * fan_out for fan_in, fan_out in pairwise(layout.layer_sizes)]
    nodes, hidden = sum(layout.layer_sizes[1:]), sum(layout.layer_sizes[1:-1])
    forward = 2 * sum(weights) + hidden
    backward = 2 * sum(weights) + nodes + 2 * sum(weights[1:]) + hidden
    step = STEP[optimizer.name] + (NESTEROV if optimizer.name == "sgd" and optimizer.nesterov else 0)
    steps = -(-data.n_train // (training.batch_size or data.n_train))
    return data.n_train * (forward + backward) + steps * step * layout.n_parameters + data.n_validation * forward


def of_training(cell: Trained) -> float:
    """Return the operations of the median replicate, which may have stopped early; a diverged one has all epochs."""
    stopped = cell.history.stopped_at
    epochs = np.where(stopped >= 0, stopped, cell.config.training.epochs)
    return float(np.median(epochs)) * per_epoch(cell.config)


def to_goal(cell: Trained) -> float:
    """Return the operations until 99 % validation accuracy; infinite if the median replicate never gets there."""
    return epochs_to_goal(cell) * per_epoch(cell.config)
