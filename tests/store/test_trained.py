import numpy as np

from circlemlp.store.trained import join
from made_up import made_up


def test_the_ranges_of_a_cell_are_joined_in_the_order_of_their_replicates():
    later, other, first = (
        made_up((4,), 0.1, [0.3, None], first=2),
        made_up((4,), 0.2, [0.5]),
        made_up((4,), 0.1, [0.1, 0.2]),
    )
    cell, beside = join([later, other, first])
    assert beside.records == (other,)
    assert cell.records == (first, later)
    assert cell.numbers.tolist() == [0, 1, 2, 3]
    assert cell.summary.validation_loss == [0.1, 0.2, 0.3, None]
    assert cell.summary.diverged_at == [None, None, None, 3]
    assert cell.true_error[:3].tolist() == [0.01, 0.02, 0.03]
    np.testing.assert_array_equal(cell.parameters, np.concatenate([first.parameters, later.parameters]))
    assert cell.history.training_loss.shape == (4, 7)


def test_a_replicate_that_two_records_have_is_there_once():
    (cell,) = join([made_up((4,), 0.1, [0.1, 0.2, 0.3]), made_up((4,), 0.1, [0.2, 0.3, 0.4], first=1)])
    assert cell.numbers.tolist() == [0, 1, 2, 3]
    assert cell.summary.validation_loss == [0.1, 0.2, 0.3, 0.4]


def test_other_settings_make_another_cell():
    records = [
        made_up((4,), 0.1, [0.1]),
        made_up((4,), 0.1, [0.1], seed=1),
        made_up((4,), 0.1, [0.1], draws="shared"),
        made_up((4,), 0.1, [0.1], activation="tanh"),
    ]
    assert [cell.records for cell in join(records)] == [(record,) for record in records]
