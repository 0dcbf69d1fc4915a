"""What a caption says is computed: each is given results of which it is true, and others of which it is not."""

import dataclasses

import numpy as np
import pandas as pd
import pytest

from circlemlp.report import answer, costs, learned, rates, style
from circlemlp.report.comparison import compare
from circlemlp.report.figures import loss_curves
from circlemlp.store.tables import curve_rows
from made_up import SETTINGS, made_up, with_losses

TEN = np.linspace(0.9, 1.1, 10)
UPRIGHT, LEVEL, CONSTANT = [1, 0, 0, -1, 0.5], [0, 1, 0, -1, 0.5], [0, 0, 0, 0, 1]
"""Networks with one hidden node: 1 on the left of x = 0.5, below y = 0.5, and everywhere."""


@pytest.fixture(autouse=True)
def _look():
    with style.context():
        yield


def one(hidden, factor, rate=0.1, **keys):
    return made_up(hidden, rate, list(factor * TEN), **keys)


def caption(module, *records):
    return module.draw(compare(records, SETTINGS)).finding


def test_the_answer_says_how_far_apart_the_estimates_are():
    text = caption(answer, one((4,), 0.4), one((5,), 0.1))
    assert text.startswith("From 2-5-1 to 2-4-1 the estimate of the true error grows from 0.00999 to 0.04, 4-fold;")
    assert text.endswith("; replicates of one architecture differ up to 1.22-fold.")
    assert caption(answer, one((4,), 0.1), one((5,), 0.4)).startswith("From 2-4-1 to 2-5-1 ")
    assert caption(answer, one((4,), 0.1)).startswith("The true error of 2-4-1 is 0.00999 (")
    single = [made_up((width,), 0.1, [0.1 * width]) for width in (4, 5)]
    assert caption(answer, *single) == (
        "From 2-4-1 to 2-5-1 the estimate of the true error grows from 0.04 to 0.05, 1.25-fold."
    )
    assert caption(answer, made_up((4,), 0.1, [None])).startswith("No true error is known")


def test_the_rates_say_how_much_they_change_and_which_were_chosen():
    text = caption(rates, one((4,), 0.1, 0.01), one((4,), 0.4, 0.1), one((5,), 0.3, 0.01), one((5,), 0.1, 0.1))
    assert text == (
        "Within the grid the median true error changes 3- to 4-fold with the learning rate; chosen were 0.01 (2-4-1), "
        "0.1 (2-5-1)."
    )
    text = caption(rates, one((4,), 0.1, 0.01), one((4,), 0.2, 0.1))
    assert (
        text == "Within the grid the median true error changes 2-fold with the learning rate; chosen was 0.01 (2-4-1)."
    )
    diverged = [made_up((4,), rate, [None, None, 0.1]) for rate in (0.01, 0.1)]
    assert caption(rates, *diverged).endswith("changes 1-fold with the learning rate.")
    assert caption(rates, one((4,), 0.1, 0.01), made_up((4,), 0.1, [None] * 10)) == "Chosen was 0.01 (2-4-1)."


def test_the_costs_say_what_the_lowest_error_costs_and_who_reaches_the_goal():
    text = caption(costs, one((4,), 0.4, accuracies=[0.995] * 10), one((40,), 0.1))
    assert text.startswith("The estimate of 2-40-1 is lower by a factor of 4 than that of 2-4-1, at ")
    assert text.endswith("; the median network of 1 of 2 architectures reaches 99% validation accuracy.")
    text = caption(costs, one((4,), 0.1), one((40,), 0.4))
    assert text.startswith(
        "The cheapest training, of 2-4-1, also has the lowest estimate; the median network of 0 of 2 "
    )


def with_parameters(record, *networks):
    return dataclasses.replace(record, parameters=np.array(networks, np.float32))


def boundaries(*networks):
    records = [with_parameters(made_up((1,), 0.1, [0.1] * len(networks)), *networks)]
    comparison = compare(records, SETTINGS)
    overlay = learned.draw_overlay(comparison)
    return learned.draw_grid(comparison).finding, overlay and overlay.finding


def test_the_boundaries_are_counted_and_it_is_said_where_they_are_far():
    upright, where = boundaries(UPRIGHT)
    assert upright == (
        "The boundaries have 1 segment; the smallest wrong area, 0.01 of the square, is that of 2-1-1 at 0.1, with 1 "
        "segment."
    )
    assert where.endswith("farthest from the true one, by their median, at 0° to 15° (2-1-1).")
    assert boundaries(LEVEL)[1].endswith("at 75° to 90° (2-1-1).")
    constant, where = boundaries(CONSTANT)
    assert constant.startswith("1 of 1 network gives one answer everywhere; the smallest wrong area")
    assert where is None
    diverged = made_up((1,), 0.1, [None])
    diverged.parameters[:] = np.nan
    assert learned.draw_grid(compare([diverged], SETTINGS)).finding.startswith(
        "No network that is shown has a boundary"
    )


def test_the_curves_say_how_much_higher_the_validation_loss_ends():
    def ends(*factors):
        records = []
        for width, factor in enumerate(factors):
            record = with_losses(made_up((4 + width,), 0.1, [0.1] * 3), np.full((3, 7), 0.1))
            record.history.training_loss[:] = 0.1 / factor
            records.append(record)
        curves = pd.DataFrame([row for record in records for row in curve_rows([record])])
        return loss_curves(compare(records, SETTINGS), curves).finding

    assert ends(1.5) == "At the end the median network's validation loss is 1.5 times its training loss."
    assert ends(2, 1.25).endswith("is 1.25 to 2 times its training loss, most with 2-4-1.")
    assert ends(1.25, 2).endswith("is 1.25 to 2 times its training loss, most with 2-5-1.")


def test_the_numbers_beside_the_curves_are_their_medians():
    losses = np.geomspace(1, 0.1, 31) * np.array([[1], [2], [4]])
    record = with_losses(made_up((4,), 0.1, [0.1] * 3), losses)
    table = loss_curves(compare([record], SETTINGS), pd.DataFrame(curve_rows([record]))).data
    assert table.head[2:5] == ["median loss", "epoch 0", "epoch 3"]
    assert [row[2] for row in table.rows] == ["training", "validation"]
    assert [float(x) for x in table.rows[1][3:]] == pytest.approx(losses[1, ::3], rel=0.01)


def test_the_numbers_beside_the_errors_are_those_of_every_replicate():
    unknown = made_up((4,), 0.1, [0.1, 0.3, 0.2])
    unknown.true_error[1] = np.nan
    assert [
        row[-1] for row in rates.draw(compare([unknown, made_up((4,), 0.2, [0.4, 0.2, 0.3])], SETTINGS)).data.rows
    ] == [
        "0.01 ? 0.02",
        "0.04 0.02 0.03",
    ]
