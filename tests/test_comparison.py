import math

from circlemlp.report.comparison import compare
from made_up import GRID, made_up


def test_cells_come_by_size_and_rate():
    cells = compare(GRID).cells
    assert [(c.architecture, c.learning_rate) for c in cells] == [
        ("2-4-1", 0.01),
        ("2-4-1", 0.1),
        ("2-6-3-1", 0.01),
        ("2-6-3-1", 0.03),
        ("2-6-3-1", 0.1),
    ]


def test_the_best_rate_has_the_lowest_loss_and_a_diverged_replicate_forbids_it():
    small, large = compare(GRID).best
    assert (small.cell.learning_rate, small.edge) == (0.1, "highest")
    assert (large.cell.learning_rate, large.edge) == (0.03, None)
    diverged = compare(GRID).cells[-1]
    assert (diverged.diverged, diverged.replicates, diverged.loss.n) == (1, 3, 2)
    assert math.isinf(diverged.ranking_loss)


def test_the_lowest_rate_is_an_edge_and_the_only_one_is_none():
    assert compare([made_up((4,), 0.1, [0.4]), made_up((4,), 0.2, [0.5])]).best[0].edge == "lowest"
    assert compare([made_up((4,), 0.1, [0.4])]).best[0].edge is None


def test_differences_are_paired():
    # The same differences in every pair, under noise that would drown them unpaired.
    a = made_up((4,), 0.1, [1.0, 2.0, 3.0, 4.0])
    b = made_up((5,), 0.1, [0.9, 1.91, 2.9, 3.89])
    (difference,) = compare([a, b]).differences
    assert difference.loss.excludes_zero
    assert math.isclose(difference.loss.mean, 0.1, rel_tol=1e-9)


def test_what_the_replicates_do_not_support_is_not_a_difference():
    a, b = made_up((4,), 0.1, [1.0, 2.0, 3.0]), made_up((5,), 0.1, [2.0, 1.0, 3.1])
    assert not compare([a, b]).differences[0].loss.excludes_zero
