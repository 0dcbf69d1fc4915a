"""The forward and the backward pass over a tile, equation by equation.

A tile consists of blocks of samples. In every layer a sample is a row. Only in the inputs it is a column, because the
long rows are fast to copy. Each ``np.matmul`` below computes one product for every replicate and block.
``HiddenLayers`` is for any number of hidden layers. ``OneHiddenLayer`` is for a single one; there the errors of the
hidden layer need not be formed, which saves passes over memory. An object of either class is for tiles of one shape,
and has the workspaces for them.
"""

import math
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from circlemlp.core.activations import Activation
from circlemlp.core.parameters import Floats, Layout, aligned_zeros
from circlemlp.core.tiles import input_rows


class Weights:
    """The parameters as matrices.

    Attributes
    ----------
    matrices : list of ndarray of shape (replicates, 1, fan_in + 1, fan_out)
        Views of the matrix [W b]' of each layer, bottom layer first.
    transposed : list of ndarray of shape (replicates, 1, fan_out, fan_in)
        Copies of W of each layer above the bottom one, made by the last ``transpose``: products are fastest with W in
        this layout. Below the only row of the top layer's W is a row of zeros, see ``HiddenLayers``.
    top : ndarray of shape (replicates, 1, fan_in, 1)
        The weights w of the top layer.
    top_bias : ndarray of shape (replicates, 1, 1)
        The bias b of the top layer.
    """

    def __init__(self, layout: Layout, parameters: Floats) -> None:
        self.matrices = layout.matrices(parameters[:, np.newaxis])
        self.top, self.top_bias = self.matrices[-1][..., :-1, :], self.matrices[-1][..., -1, :]
        shapes = [(matrix.shape[-1], matrix.shape[-2] - 1) for matrix in self.matrices[1:]]
        shapes[-1] = (2, shapes[-1][1])
        self.transposed = [np.zeros((len(parameters), 1, *shape), parameters.dtype) for shape in shapes]

    def transpose(self) -> None:
        """Copy the present weights to ``transposed``."""
        for matrix, transposed in zip(self.matrices[1:], self.transposed, strict=True):
            np.copyto(transposed[..., : matrix.shape[-1], :], matrix[..., :-1, :].mT)


class Memory:
    """Workspaces by name. Tiles of different shapes use the same memory by turns, so that it stays in the cache."""

    def __init__(self, dtype: np.dtype[Any]) -> None:
        self.dtype = dtype
        self._buffers: dict[str, Floats] = {}

    def array(self, name: str, *shape: int) -> Floats:
        """Return an array in the memory of a name, which all arrays of that name share and overwrite."""
        size = math.prod(shape)
        if name not in self._buffers or self._buffers[name].size < size:
            self._buffers[name] = aligned_zeros((size,), self.dtype)
        return self._buffers[name][:size].reshape(shape)


class Passes(Protocol):
    """What a network needs from its passes.

    Attributes
    ----------
    top_error : ndarray of shape (replicates, blocks, samples)
        The error d = delta^L = dJ/ds. The caller writes it before ``backward``, which overwrites it.
    """

    top_error: Floats

    def start_batch(self) -> None:
        """Prepare for parameters that have changed since the last batch."""

    def forward(self, x: Floats, logits: Floats) -> None:
        """Write the logits of inputs x.

        Parameters
        ----------
        x : ndarray of shape (1 or replicates, blocks, inputs, samples)
            Inputs as ``tiles.augment`` makes them.
        logits : ndarray of shape (replicates, blocks, samples)
        """

    def backward(self, x: Floats, gradients: list[Floats]) -> None:
        """Write each block's part of the gradient: shapes (replicates, blocks, fan_in + 1, fan_out).

        It may be called once after each ``forward``, because it overwrites the activations.
        """

    def finish(self, gradients: list[Floats]) -> None:
        """Turn the sum of the parts over a batch into the gradient."""


class _Ends:
    """What both kinds of passes have in common: the inputs below and the logits above the hidden layers."""

    def __init__(self, memory: Memory, weights: Weights, shape: tuple[int, ...]) -> None:
        bottom = weights.matrices[0]
        self._weights = weights
        self._inputs, nodes = bottom.shape[-2:]
        self._product = memory.array("bottom gradient", *shape[:2], input_rows(self._inputs - 1), nodes)
        self._bottom_gradient = self._product[..., : self._inputs, :]

    def _write_logits(self, h: Floats, logits: Floats) -> None:
        """Write s^L = h w + b."""
        np.matmul(h, self._weights.top, out=logits[..., np.newaxis])
        np.add(logits, self._weights.top_bias, out=logits)

    @staticmethod
    def _write_top_gradient(h: Floats, d: Floats, out: Floats) -> None:
        """Write dJ/dw = h' d."""
        np.matmul(h.mT, d[..., np.newaxis], out=out[..., :-1, :])

    @staticmethod
    def _write_top_bias_gradient(d: Floats, out: Floats) -> None:
        """Write dJ/db = sum of d."""
        np.add.reduce(d, axis=-1, out=out[..., -1, 0])

    def _write_bottom_gradient(self, x: Floats, delta: Floats, out: Floats) -> None:
        """Write [x 1]' delta, leaving out the rows that belong to the rows of zeros in x."""
        np.matmul(x, delta, out=self._product)
        np.copyto(out, self._bottom_gradient)


@dataclass(frozen=True)
class _Layer:
    """A hidden layer's workspaces.

    Attributes
    ----------
    outputs : ndarray of shape (replicates, blocks, samples, nodes + 1) or (replicates, blocks, samples, nodes)
        The activations, beside a column of ones for the layer above. The last hidden layer has no such column.
    scores : ndarray of shape (replicates, blocks, samples, nodes)
        A view of ``outputs`` without the ones. It holds the scores, which ``activation`` replaces by the activations.
    ones : ndarray of shape (replicates, blocks, samples, 1 or 0)
        A view of ``outputs`` that has the ones only.
    activation : Activation
        The activation of ``outputs``. It overwrites the ones too, since only contiguous memory is processed fast.
    error : ndarray like ``outputs``
        The errors, and a last column without a meaning where ``outputs`` has ones.
    delta : ndarray like ``scores``
        A view of ``error`` that has the errors only.
    """

    outputs: Floats
    scores: Floats
    ones: Floats
    activation: Activation
    error: Floats
    delta: Floats

    @classmethod
    def of(cls, outputs: Floats, error: Floats, nodes: int, activation: type[Activation]) -> "_Layer":
        """Make the workspaces of a layer with this number of nodes on these two arrays."""
        return cls(outputs, outputs[..., :nodes], outputs[..., nodes:], activation(outputs), error, error[..., :nodes])


class HiddenLayers(_Ends):
    """The passes through any number of hidden layers.

    The error of the last hidden layer, (d w') * f'(s), begins with a product of a column and a row. NumPy computes such
    products in a slow loop of its own. With a column and a row of zeros beside them, the BLAS computes it.
    """

    def __init__(self, memory: Memory, weights: Weights, activation: type[Activation], shape: tuple[int, ...]) -> None:
        super().__init__(memory, weights, shape)
        nodes = [matrix.shape[-1] for matrix in weights.matrices[:-1]]
        columns = [n + 1 for n in nodes[:-1]] + nodes[-1:]
        self._layers = [
            _Layer.of(memory.array(f"outputs {i}", *shape, m), memory.array(f"error {i}", *shape, m), n, activation)
            for i, (n, m) in enumerate(zip(nodes, columns, strict=True))
        ]
        self._top_errors = np.zeros((shape[0], 2, *shape[1:]), memory.dtype).transpose(0, 2, 3, 1)
        self.top_error = self._top_errors[..., 0]

    def start_batch(self) -> None:
        """See ``Passes``."""
        self._weights.transpose()

    def forward(self, x: Floats, logits: Floats) -> None:
        """See ``Passes``."""
        h = x[..., : self._inputs, :].mT
        for layer, matrix in zip(self._layers, self._weights.matrices, strict=False):
            np.matmul(h, matrix, out=layer.scores)  # s^l = [h^(l-1) 1] [W b]'
            layer.activation.forward()  # h^l = f(s^l)
            layer.ones.fill(1)
            h = layer.outputs
        self._write_logits(h, logits)

    def backward(self, x: Floats, gradients: list[Floats]) -> None:
        """See ``Passes``."""
        last = self._layers[-1]
        self._write_top_gradient(last.scores, self.top_error, gradients[-1])
        self._write_top_bias_gradient(self.top_error, gradients[-1])
        np.matmul(self._top_errors, self._weights.transposed[-1], out=last.delta)
        last.activation.error_below(last.error)  # delta^(L-1) = (d w') * f'(s^(L-1))
        for level in range(len(self._layers) - 1, 0, -1):
            below, layer = self._layers[level - 1], self._layers[level]
            np.matmul(below.outputs.mT, layer.delta, out=gradients[level])  # dJ/d[W^l b^l]' = [h^(l-1) 1]' delta^l
            np.matmul(layer.delta, self._weights.transposed[level - 1], out=below.delta)
            below.activation.error_below(below.error)  # delta^(l-1) = (delta^l W^l) * f'(s^(l-1))
        self._write_bottom_gradient(x, self._layers[0].delta, gradients[0])

    def finish(self, gradients: list[Floats]) -> None:
        """Do nothing, since the sum of the parts is the gradient."""


class OneHiddenLayer(_Ends):
    """The passes through one hidden layer.

    Its error is E w', column by column, with E = f'(s) * d. So the sum over the samples can come first:

        dJ/d[W b]' = G * w',  G = (d * [x 1])' f'(s),

    where the slopes are multiplied by the activation's unit, and d is divided by it. With the unit of the ReLU, |d| |x|
    may be up to 1e19 in float32 and 1e154 in float64.

    If f is homogeneous, h = f'(s) * s, and the top gradient follows from G as well:

        dJ/dw = h' d = (f'(s) * [x 1] [W b]')' d = the column sums of [W b]' * G.
    """

    def __init__(self, memory: Memory, weights: Weights, activation: type[Activation], shape: tuple[int, ...]) -> None:
        super().__init__(memory, weights, shape)
        bottom = weights.matrices[0]
        self._scores = memory.array("scores", *shape, bottom.shape[-1])
        self._activation = activation(self._scores)
        replicates, blocks, samples = shape
        inputs = self._product.shape[-2]
        # The layout is that of the inputs, so that NumPy processes long rows.
        self._weighted = memory.array("weighted inputs", replicates, inputs, blocks, samples).swapaxes(1, 2)
        self._terms = np.empty_like(bottom)
        self.top_error = memory.array("top error", *shape)

    def start_batch(self) -> None:
        """Do nothing, since these passes need no transposed weights."""

    def forward(self, x: Floats, logits: Floats) -> None:
        """See ``Passes``."""
        np.matmul(x[..., : self._inputs, :].mT, self._weights.matrices[0], out=self._scores)  # s = [x 1] [W b]'
        self._activation.forward()  # h = f(s)
        self._write_logits(self._scores, logits)

    def backward(self, x: Floats, gradients: list[Floats]) -> None:
        """See ``Passes``."""
        bottom, top = gradients
        d = self.top_error
        if not self._activation.homogeneous:
            self._write_top_gradient(self._scores, d, top)
        self._write_top_bias_gradient(d, top)
        np.multiply(d, 1 / self._activation.unit, out=d)
        np.multiply(x, d[..., np.newaxis, :], out=self._weighted)
        self._activation.slope()
        self._write_bottom_gradient(self._weighted, self._scores, bottom)

    def finish(self, gradients: list[Floats]) -> None:
        """See ``Passes``."""
        bottom, top = gradients
        if self._activation.homogeneous:
            np.multiply(self._weights.matrices[0], bottom, out=self._terms)
            np.add.reduce(self._terms, axis=-2, out=top[..., :-1, 0])
        np.multiply(bottom, self._weights.top.mT, out=bottom)
