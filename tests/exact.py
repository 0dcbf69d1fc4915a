"""How a network divides the square, in rational numbers and without a shortcut: every line of every layer is cut.

Parameters in floating point are rational numbers, so nothing is rounded here but the square roots and angles of the
circle, at the very end.
"""

import math
from fractions import Fraction
from itertools import pairwise


def decide(low, high, layers, slope=0):
    """Return the polygons on which the answer is 0, and those on which it is 1.

    ``layers`` are pairs of weights, a list of rows, and biases.
    """
    low, high, slope = Fraction(low), Fraction(high), Fraction(slope)
    layers = [
        ([[Fraction(w) for w in row] for row in weights], list(map(Fraction, biases))) for weights, biases in layers
    ]
    square = [(low, low), (high, low), (high, high), (low, high)]
    x, y = (Fraction(1), Fraction(0), Fraction(0)), (Fraction(0), Fraction(1), Fraction(0))
    pieces = [(square, [x, y])]
    for weights, biases in layers[:-1]:
        after = []
        for corners, inputs in pieces:
            scores = [affine(row, bias, inputs) for row, bias in zip(weights, biases, strict=True)]
            cells = [(corners, [])]
            for score in scores:
                cells = [
                    (part, [*outputs, tuple(gain * c for c in score)])
                    for cell, outputs in cells
                    for part, gain in zip(cut(cell, score), (Fraction(1), slope), strict=True)
                    if area(part)
                ]
            after += cells
        pieces = after
    ((row,), (bias,)) = layers[-1]
    zeros, ones = [], []
    for corners, inputs in pieces:
        above, below = cut(corners, affine(row, bias, inputs))
        for parts, part in ((ones, above), (zeros, below)):
            if area(part):
                parts.append(part)
    return zeros, ones


def affine(row, bias, inputs):
    """Return the coefficients (of x, of y, constant) of a weighted sum of affine functions."""
    x, y, c = (sum(w * one[k] for w, one in zip(row, inputs, strict=True)) for k in range(3))
    return x, y, c + bias


def cut(corners, function):
    """Return the parts of a polygon where an affine function is above zero, and where it is not."""
    x, y, c = function
    heights = [x * a + y * b + c for a, b in corners]
    if not any(height > 0 for height in heights):
        return [], corners
    above, below = [], []
    for (p, v), (q, w) in pairwise([*zip(corners, heights, strict=True), (corners[0], heights[0])]):
        if v >= 0:
            above.append(p)
        if v <= 0:
            below.append(p)
        if v * w < 0:
            between = tuple(a + v / (v - w) * (b - a) for a, b in zip(p, q, strict=True))
            above.append(between)
            below.append(between)
    return above, below


def area(corners):
    """Return the area of a polygon, exactly."""
    return sum(a * d - b * c for (a, b), (c, d) in pairwise([*corners, *corners[:1]])) / 2


def area_in_circle(corners, radius):
    """Return the area of a polygon inside a circle around the origin: rational up to the roots and angles."""
    total = 0.0
    for p, q in pairwise([*corners, corners[0]]):
        (a, b), (c, d) = p, q
        dx, dy = c - a, d - b
        length, middle, rest = dx * dx + dy * dy, a * dx + b * dy, a * a + b * b - Fraction(radius) ** 2
        inside = middle * middle - length * rest
        ways = [0.0, 1.0]
        if inside > 0:
            root = math.sqrt(inside)
            ways += [way for way in ((-middle - root) / length, (-middle + root) / length) if 0 < way < 1]
        for start, end in pairwise(sorted(map(float, ways))):
            (px, py), (qx, qy), (mx, my) = (
                (float(a) + way * float(dx), float(b) + way * float(dy)) for way in (start, end, (start + end) / 2)
            )
            cross = px * qy - py * qx
            if mx * mx + my * my < radius * radius:
                total += cross / 2
            else:
                total += radius * radius * math.atan2(cross, px * qx + py * qy) / 2
    return total


def true_error(low, high, inner, outer, layers, slope=0):
    """Return the true error of a network."""
    zeros, ones = decide(low, high, layers, slope)

    def in_ring(corners):
        return area_in_circle(corners, outer) - (area_in_circle(corners, inner) if inner else 0.0)

    wrong = sum(float(area(part)) - in_ring(part) for part in ones) + sum(in_ring(part) for part in zeros)
    return wrong / (high - low) ** 2
