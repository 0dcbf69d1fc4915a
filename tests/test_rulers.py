import math

import numpy as np
import pytest
from matplotlib.text import Annotation
from scipy.optimize import minimize

from circlemlp.core import geometry
from circlemlp.core.data import Boundary
from circlemlp.report import answer, costs, rates, style
from circlemlp.report.comparison import compare
from circlemlp.report.rulers import best_chain_error, best_line_error, constant_error, rulers_by_name
from made_up import SETTINGS, made_up

QUARTER = Boundary.of({"shape": "quarter_circle", "radius": 1.0})
DISK = Boundary.of({"shape": "disk", "radius": 0.8})


def test_constant_answers_and_straight_lines_by_hand_and_by_sampling():
    assert constant_error(QUARTER) == pytest.approx(1 - math.pi / 4)
    # By symmetry the best line is x + y = s; its error on a fine grid, for the best of many s.
    ticks = (np.arange(1000) + 0.5) / 1000
    x, y = np.meshgrid(ticks, ticks)
    inside = x * x + y * y < 1
    errors = [np.mean((x + y < s) != inside) for s in np.linspace(1.1, 1.4, 61)]
    assert best_line_error(QUARTER) == pytest.approx(min(errors), abs=2e-5)
    rings = Boundary.of({"shape": "rings", "inner_radius": 0.4, "outer_radius": 0.8})
    assert best_line_error(rings) <= constant_error(rings) == pytest.approx(math.pi * (0.64 - 0.16) / 4)
    assert constant_error(DISK) == pytest.approx(1 - math.pi * 0.64 / 4)
    assert best_line_error(DISK) < constant_error(DISK) - 0.1


def chain_error(corners):
    """Return the error of a boundary through these corners, from one side that touches the arc to the other."""
    starts, ends = geometry.edges([np.array([[0, 0], [1, 0], *corners, [0, 1]])])
    inside = geometry.area_in_circle(starts, ends, 1.0)
    return geometry.area(starts, ends) + math.pi / 4 - 2 * inside


@pytest.mark.parametrize("segments", [1, 2, 3])
def test_the_best_boundary_of_a_few_segments_is_what_a_search_finds(segments):
    """The numbers are where the boundary leaves the side x = 1, and the corners before the middle."""
    inner = segments - 1
    angles = np.linspace(0, np.pi / 2, segments + 1)[1:-1]
    start = [0.2, *np.ravel([[math.cos(angle), math.sin(angle)] for angle in angles]), 0.2]

    def error(numbers):
        corners = numbers[1:-1].reshape(inner, 2)
        return chain_error([(1, numbers[0]), *corners, (numbers[-1], 1)])

    found = minimize(error, start, method="Nelder-Mead", options={"xatol": 1e-8, "fatol": 1e-12, "maxfev": 20_000})
    assert best_chain_error(segments) == pytest.approx(found.fun, abs=1e-8)


def test_one_segment_is_a_straight_line_and_many_are_what_small_angles_say():
    assert best_chain_error(1) == pytest.approx(best_line_error(QUARTER), abs=1e-9)
    assert best_chain_error(1000) == pytest.approx((math.pi / 2) ** 3 / 32 / 1000**2, rel=2e-3)


def test_segments_are_rulers_where_the_arc_touches_two_sides():
    assert list(rulers_by_name(QUARTER)) == [
        "constant answer",
        "best straight line",
        "best 4 segments",
        "best 16 segments",
    ]
    assert list(rulers_by_name(DISK)) == ["constant answer", "best straight line"]
    errors = list(rulers_by_name(QUARTER).values())
    assert errors == sorted(errors, reverse=True)


def drawn(picture, errors):
    """Return the names of the rulers in a picture of these true errors, and what is said below it."""
    comparison = compare([made_up((4,), rate, [10 * error for error in errors]) for rate in (0.1, 0.2)], SETTINGS)
    drawing = picture.draw(comparison)
    texts = [text.get_text().replace("\n", " ") for text in drawing.figure.findobj(Annotation)]
    return set(texts) & set(rulers_by_name(QUARTER)), drawing.note


@pytest.mark.parametrize("picture", [answer, rates, costs])
def test_the_rulers_between_the_errors_are_in_every_picture_of_them(picture):
    always = {"constant answer", "best straight line"} if picture is rates else set()
    with style.context():
        found, note = drawn(picture, [0.003, 0.004, 0.005, 0.006, 0.007])
        assert found == always | {"best 4 segments"}
        assert "best 4 segments 0.00515" in note
        found, note = drawn(picture, [0.0001, 0.00011, 0.00012, 0.00013, 0.00014])
        assert ("best 4 segments" in found) == (picture is rates)
        assert ("best 4 segments 0.00515" in note) == (picture is rates)


@pytest.mark.parametrize(("n", "rows"), [(1, 1), (2, 1), (3, 2), (4, 2)])
def test_the_rulers_have_their_names_once_in_each_row_of_panels(n, rows):
    errors = [0.03, 0.04, 0.05, 0.06, 0.07]
    cells = [made_up((width,), rate, errors) for width in range(4, 4 + n) for rate in (0.1, 0.2)]
    with style.context():
        figure = rates.draw(compare(cells, SETTINGS)).figure
    assert [text.get_text() for text in figure.findobj(Annotation)].count("constant\nanswer") == rows
