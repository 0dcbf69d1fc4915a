"""Each sentence is given results of which it is true, and others of which it is not."""

import dataclasses
import math
import re

import numpy as np
import pytest

from circlemlp.report import answer, headline, pairs, tables, words
from circlemlp.report.comparison import compare
from circlemlp.report.document import as_markdown
from circlemlp.report.statistics import Interval
from made_up import GRID, SETTINGS, made_up, with_losses

TEN = np.linspace(0.9, 1.1, 10)
SWAPPED = TEN[[1, 0, 3, 2, 5, 4, 7, 6, 9, 8]]
WOBBLE = np.random.default_rng(0).normal(size=10)


def sweep(errors, rates=(0.01, 0.1)):
    """Return the comparison of architectures 2-4-1, 2-5-1, ...: their factors of error at each rate, ten replicates."""
    return compare(
        [
            made_up((4 + i,), rate, list(factor * (TEN if (i + j) % 2 else SWAPPED)))
            for i, row in enumerate(errors)
            for j, (rate, factor) in enumerate(zip(rates, row, strict=True))
        ],
        SETTINGS,
    )


def says(sentences):
    return " ".join(sentences)


@pytest.mark.parametrize(
    ("errors", "rate", "architecture"),
    [([[0.1, 0.9], [0.1, 0.9]], "99%|100%", "0%"), ([[0.9, 0.9], [0.1, 0.1]], "0%", "99%|100%")],
)
def test_the_first_sentence_says_what_explains_the_error(errors, rate, architecture):
    text = headline.explained(sweep(errors))
    explains = rf"the learning rate explains ({rate}) \(\d+% to \d+%\), the architecture ({architecture}) \("
    assert re.search(rf"over the grid\), {explains}", text)
    assert text.endswith("is left to replicates.")


def test_the_words_of_the_first_sentences_are_explained_below_them():
    text = headline.terms(sweep([[0.1, 0.2], [0.3, 0.4]]))
    assert text.startswith(
        "2-4-1 is a network of two inputs, a hidden layer of 4 nodes, and one output. It learns from points that are "
        "uniform on the unit square, y = 1 inside the arc of radius 1, and its true error is the share of the square "
    )
    assert "those of a cell differ in points and initial weights. An estimate is the mean of the middle half" in text
    assert "on the scale of the logarithm. Interaction is what" in text
    deep = compare([made_up((6, 3), 0.1, [0.1, 0.2], draws="shared")], SETTINGS)
    assert headline.terms(deep).startswith(
        "2-6-3-1 is a network of two inputs, hidden layers of 6 and 3 nodes, and one"
    )
    batches = made_up((6, 3), 0.1, [0.1, 0.2], draws="shared")
    batches.ingredients["config"]["training"]["batch_size"] = 10
    text = headline.terms(compare([batches], SETTINGS))
    assert "differ in initial weights and order of the points." in text
    assert text.endswith("on the scale of the logarithm.")


def test_the_question_is_what_the_cells_differ_in():
    one, rate = made_up((4,), 0.1, [0.1, 0.2]), made_up((4,), 0.2, [0.1, 0.2])
    glorot, size = made_up((4,), 0.1, [0.1, 0.2]), made_up((5,), 0.1, [0.1, 0.2])
    glorot.ingredients["config"]["model"]["initialisation"] = "glorot"
    for records, question in (
        ([one], "What does a network learn?"),
        ([one, rate], "How does learning rate decide what a network learns?"),
        ([one, size], "How does shape decide what a network learns?"),
        ([one, rate, size], "How do shape and learning rate decide what a network learns?"),
        ([one, rate, glorot, size], "How do shape, initialisation and learning rate decide what a network learns?"),
    ):
        assert headline.asked(compare(records, SETTINGS)) == question


def test_an_interaction_is_called_one():
    assert "their interaction 100%" in headline.explained(sweep([[0.1, 0.9], [0.9, 0.1]]))


@pytest.mark.parametrize(
    ("comparison", "why"),
    [
        (lambda: sweep([[0.1, 0.2]]), "there is only one architecture"),
        (lambda: sweep([[0.1], [0.2]], rates=(0.1,)), "there is only one learning rate"),
        (lambda: compare([GRID[0], GRID[2], GRID[4]], SETTINGS), "no two learning rates at which"),
        (lambda: compare([made_up((w,), r, [None]) for w in (4, 5) for r in (0.1, 0.2)], SETTINGS), "no two networks"),
    ],
)
def test_what_explains_the_error_is_not_said_where_it_cannot_be(comparison, why):
    text = headline.explained(comparison())
    assert "cannot be said" in text
    assert why in text


def test_holes_and_single_replicates_are_named_in_the_first_sentence():
    assert "over the grid, 2 of its 3 rates, without holes" in headline.explained(compare(GRID, SETTINGS))
    single = compare([made_up((w,), r, [w * r]) for w in (4, 5) for r in (0.1, 0.2)], SETTINGS)
    assert "which one replicate does not tell apart" in headline.explained(single)
    assert "left to replicates" not in headline.explained(single)


def at_one_rate(*factors):
    return sweep([[factor] for factor in factors], rates=(0.1,))


def test_the_second_sentence_claims_what_the_verdicts_say():
    text = headline.compared(at_one_rate(0.1, 0.105, 0.3))
    assert text.startswith("At learning rate 0.1, the lowest estimate of the true error is that of 2-4-1: 0.00999 (")
    assert "it is lower than that of 2-6-1" in text
    assert "undecided against 2-5-1" in text
    assert "lower" not in headline.compared(at_one_rate(0.1, 0.1001)).replace("the lowest", "")
    close = [made_up((w,), 0.1, list(0.1 * TEN * (1 + 0.001 * (w - 4) * WOBBLE))) for w in (4, 5)]
    assert "practically equal to that of 2-" in headline.compared(compare(close, SETTINGS))


def test_a_verdict_against_the_order_of_the_estimates_is_called_that():
    """In eight of ten replicates the second is lower; the two in which it is not move the other estimate more."""
    second = np.arange(1, 11) / 10
    first = np.where(second > 0.85, -1.0, second + 0.01)
    records = [made_up((4 + i,), 0.1, list(10 ** (one - 2))) for i, one in enumerate((first, second))]
    text = headline.compared(compare(records, SETTINGS))
    assert "the lowest estimate of the true error is that of 2-4-1" in text
    assert text.endswith("; against the order of the estimates, it is higher than that of 2-5-1.")
    assert "against the order" not in headline.compared(at_one_rate(0.1, 0.2))


def test_nothing_is_claimed_from_the_rank_of_an_architecture_at_an_edge():
    inside = ([0.9, 0.1, 0.9], [0.9, 0.5, 0.9])
    rates = (0.01, 0.03, 0.1)
    assert "it is lower than that of 2-5-1" in headline.compared(sweep(inside, rates))
    edge = headline.compared(sweep([[0.9, 0.1, 0.9], [0.9, 0.6, 0.5]], rates))
    assert "nothing is claimed, as a best rate is at an edge of the grid, against 2-5-1" in edge
    assert "lower than" not in edge


def test_the_second_sentence_says_why_nothing_is_claimed():
    assert "There is one architecture" in headline.compared(at_one_rate(0.1))
    three = compare([made_up((4,), 0.1, [0.1] * 3), made_up((5,), 0.1, [0.5] * 3)], SETTINGS)
    assert "with 3 replicates no difference is claimed: they give no p-value below 0.2500" in (headline.compared(three))
    single = compare([made_up((4,), 0.1, [0.1]), made_up((5,), 0.1, [0.5])], SETTINGS)
    assert "does not tell chance from a difference" in headline.compared(single)
    diverged = compare([made_up((w,), 0.1, [None] * 9) for w in (4, 5)], SETTINGS)
    assert "No architecture has a known true error" in headline.compared(diverged)
    assert headline.nothing_claimed(at_one_rate(0.1, 0.2)) is None


def test_more_architectures_than_can_be_looked_at_are_said_to_be_too_many(monkeypatch):
    three = at_one_rate(0.1, 0.2, 0.3)
    assert headline.nothing_claimed(three) is None
    monkeypatch.setattr(headline, "MOST_COMPARED", 2)
    assert "; more than 2 architectures are not compared with each other." in headline.compared(three)


def test_the_third_sentence_counts_the_best_cells_apart():
    steady = with_losses(made_up((4,), 0.1, [0.1] * 3), np.ones((3, 21)))
    falling = with_losses(made_up((4,), 0.01, [0.5] * 3), np.outer([2] * 3, np.linspace(2, 1, 21)))
    text = headline.limits(compare([steady, falling], SETTINGS))
    assert "1 of 2 cells still improves after 20 epochs, at the best learning rates 0 of 1" in text
    assert "at the best learning rates" not in headline.limits(at_one_rate(0.1, 0.2))


def test_the_third_sentence_counts_cells_that_still_improve_and_names_edges():
    steady = with_losses(made_up((4,), 0.1, [0.1] * 3), np.ones((3, 21)))
    text = headline.limits(compare([steady], SETTINGS))
    assert "0 of 1 cell still improve after 20 epochs" in text
    assert "edge" not in text
    assert "that chose the learning rates" not in text
    text = headline.limits(sweep([[0.1, 0.2]]))
    assert "2 of 2 cells still improve after 6 epochs" in text
    assert "the best learning rate of 2-4-1 is at an edge of the grid" in text
    assert "the replicates that chose the learning rates also judge them" in text


def confirmed(comparison, replicates=10, **keys):
    """Return a comparison with new replicates at each architecture's best rate, as good as those that chose."""
    records = [record for cell in comparison.cells for record in cell.trained.records]
    judges = [
        made_up(
            one.cell.trained.config.model.hidden_layer_sizes,
            one.cell.learning_rate,
            list(one.cell.trained.true_error[:replicates] * 10),
            first=10,
            **keys,
        )
        for one in comparison.best
    ]
    return compare(records, SETTINGS, judges)


def test_the_population_is_named():
    text = headline.population(sweep([[0.1, 0.2], [0.1, 0.2]]))
    assert "Replicates differ in points and initial weights; replicates of the same" in text
    assert "on fresh draws of the data with fresh initialisations." in text
    assert text.endswith("are the jackknife's, and approximate.")
    batches = made_up((4,), 0.1, [0.1] * 3)
    batches.ingredients["config"]["training"]["batch_size"] = 10
    text = headline.population(compare([batches], SETTINGS))
    assert "Replicates differ in points, initial weights and order of the points" in text
    assert "There are no intervals" in text
    assert "jackknife" not in text


def test_it_is_said_who_chose_and_who_judges():
    one_stage = sweep([[0.1, 0.2], [0.1, 0.2]])
    assert headline.stages(one_stage).startswith("Replicates 0 to 9 chose the learning rates and also judge them, so ")
    assert headline.stages(confirmed(one_stage)) == (
        "Replicates 0 to 9 chose the learning rates by their validation loss (tuning); replicates 10 to 19, on new "
        "points, judge them (confirmation)."
    )
    assert headline.stages(confirmed(one_stage, 1)).endswith(
        "; replicate 10, on new points, judges them (confirmation)."
    )
    assert "also judge" not in headline.limits(confirmed(one_stage))
    no_choice = at_one_rate(0.1, 0.2)
    assert headline.stages(no_choice) == "Replicates 0 to 9 judge each architecture at its one learning rate."
    assert "there was no learning rate to choose" in headline.stages(confirmed(no_choice))
    shared = compare([made_up((4,), rate, [0.1] * 3, draws="shared") for rate in (0.1, 0.2)], SETTINGS)
    assert "replicates 10 to 12, on the same points, judge them" in headline.stages(confirmed(shared, draws="shared"))


def test_the_headline_says_which_replicates_it_is_about():
    one_stage = sweep([[0.1, 0.2], [0.1, 0.2]])
    assert "over the grid)" in headline.explained(one_stage)
    assert headline.compared(one_stage).startswith("Each at its own learning rate, the lowest")
    two = confirmed(one_stage, 9)
    assert "over the tuning grid)" in headline.explained(two)
    assert headline.compared(two).startswith("Each at its own learning rate and on 9 new replicates, the lowest")
    assert headline.compared(confirmed(at_one_rate(0.1, 0.2))).startswith(
        "At learning rate 0.1 and on 10 new replicates,"
    )
    assert "with 3 replicates no difference is claimed" in headline.compared(confirmed(one_stage, 3))


def test_an_architecture_that_is_not_confirmed_is_said_to_be():
    one_stage = sweep([[0.1, 0.2], [0.1, 0.2]])
    records = [record for cell in one_stage.cells for record in cell.trained.records]
    lacking = compare(records, SETTINGS, [made_up((4,), 0.01, list(0.1 * TEN), first=10)])
    assert "2-5-1: nothing is claimed, because no new replicates have the best learning rate." in says(
        words.findings(lacking)
    )
    assert "not comparable with that of 2-5-1" in headline.compared(lacking)
    assert "1 of 2 architectures exceeds 95%" in words.above_threshold(lacking)
    assert "not comparable: 2-5-1 is not confirmed" in as_markdown("t", tables.differences(lacking))
    assert "no new replicates" not in says(words.findings(confirmed(one_stage)))
    assert "2 of 2 cells still improve" in headline.limits(confirmed(at_one_rate(0.1, 0.2)))
    assert "4 of 4 cells still improve after 6 epochs, of those compared 1 of 1" in headline.limits(lacking)


def test_what_was_run_counts_both_stages():
    one_stage = sweep([[0.1, 0.2], [0.1, 0.2]])
    assert headline.counted(one_stage) == "2 architectures × 2 rates × 10 replicates."
    assert headline.recipe(one_stage).startswith("40 networks, each trained by Adam")
    both = confirmed(one_stage, 5)
    assert headline.counted(both) == "2 architectures × 2 rates × 10 replicates; then 2 cells × 5."
    assert headline.recipe(both).startswith(
        "40 networks for the tuning, then 10 for the confirmation, each trained by Adam"
    )
    assert words.diverged(one_stage) == "None of 40 networks diverged."
    assert words.diverged(confirmed(one_stage, 5)) == (
        "None of 40 networks diverged in tuning, none of 10 networks in confirmation."
    )


def test_of_one_draw_that_all_share_nothing_is_said_about_others():
    for batch_size, varied in ((None, "initial weights"), (10, "initial weights and order of the points")):
        record = made_up((4,), 0.1, [0.1] * 3, draws="shared")
        record.ingredients["config"]["training"]["batch_size"] = batch_size
        shared = compare([record], SETTINGS)
        text = headline.population(shared)
        assert f"Replicates differ in {varied}; all share one draw of the data. So " in text
        assert "on these points, and not about other points." in text
        assert headline.limits(shared).endswith(", and all networks were trained on one draw of the data.")
        assert "validation points, the same for all replicates, label" in headline.data(shared)


def test_one_draw_of_the_data_is_a_limit_only_where_there_is_one():
    fresh = compare([made_up((4,), 0.1, [0.1] * 3)], SETTINGS)
    assert headline.limits(fresh) == "What limits this: 1 of 1 cell still improves after 6 epochs."
    assert "validation points, drawn anew for each replicate, label" in headline.data(fresh)
    single = compare([made_up((4,), 0.1, [0.1])], SETTINGS)
    assert "all networks were trained on one draw" in headline.limits(single)
    assert "all networks that are judged were trained on one draw" in headline.limits(confirmed(fresh, 1))


def above(errors, noise=0.0):
    record = made_up((4,), 0.1, [None if error is None else 10 * error for error in errors])
    record.ingredients["config"]["data"]["label_noise"] = noise
    return words.above_threshold(compare([record], SETTINGS))


@pytest.mark.parametrize(
    ("errors", "text"),
    [
        (
            [0.04, 0.03, 0.02],
            r"Every architecture exceeds 95% true accuracy .* in every replicate \(the lowest: 0.9600\)",
        ),
        ([0.04, 0.03, 0.05], "0 of 1 architecture exceed 95% true accuracy, in every replicate, .*; not: 2-4-1."),
        ([0.04, None, 0.02, 0.02], "0 of 1 architecture exceed 95%"),
        ([0.04, np.nan, 0.02], "0 of 1 architecture exceed 95%"),
    ],
)
def test_the_claim_about_95_percent_is_looked_up(errors, text):
    assert re.search(text, above(errors))


def test_with_label_noise_the_claim_says_what_is_possible():
    assert "validation accuracy can be about 0.9 at best" in above([0.01] * 3, noise=0.1)
    assert "at best" not in above([0.01] * 3).replace("best learning rate", "")


def test_the_claim_is_about_the_replicates_that_judge():
    tuned, judged = made_up((4,), 0.1, [0.1] * 3), made_up((4,), 0.1, [0.6] * 5, first=3)
    assert "Every architecture" in words.above_threshold(compare([tuned], SETTINGS))
    text = words.above_threshold(compare([tuned], SETTINGS, [judged]))
    assert text.startswith("0 of 1 architecture exceed 95% true accuracy, in every one of 5 new replicates,")


def findings(records):
    return says(words.findings(compare(records, SETTINGS)))


def test_what_diverged_is_counted_and_an_architecture_without_a_rate_is_named():
    text = findings(GRID)
    assert "1 of 15 networks diverged." in text
    assert "no best learning rate" not in text
    text = findings([made_up((4,), 0.1, [None, 0.1]), made_up((5,), 0.1, [0.1, 0.1])])
    assert "2-4-1: no best learning rate, because at every one more than a quarter of the replicates diverged." in text
    assert "None of 2 networks diverged." in findings([made_up((4,), 0.1, [0.1, 0.1])])


def test_edges_are_flagged():
    assert "The best learning rate is at an edge of the grid: 2-4-1 (0.1, the highest). A better" in findings(GRID)
    assert "the best learning rate of 2-4-1 is at an edge of the grid" in headline.limits(compare(GRID, SETTINGS))
    assert "2-6-3-1 (0.03" not in findings(GRID)
    two = sweep([[0.1, 0.2], [0.2, 0.1]])
    assert "the best learning rates of 2-4-1, 2-5-1 are at an edge of the grid" in headline.limits(two)
    assert "edge" not in findings([GRID[2], GRID[3], GRID[4]])


def test_errors_that_could_not_be_computed_are_counted():
    record = made_up((4,), 0.1, [0.1] * 4)
    assert "could not be computed" not in findings([record])
    record.true_error[1] = np.nan
    assert "The true error of 1 network could not be computed" in findings([record])


def test_regimes_are_counted():
    assert re.search(r"Of 5 cells: \d \w+( \w+)?, .*1 diverged", findings(GRID))
    assert "diverged," not in findings(GRID[:1])


def test_cells_that_answer_always_the_same_are_named():
    constant = [made_up((4,), 0.1, [0.1] * 3), made_up((4,), 0.01, [2.2] * 3)]
    assert "which has true error 0.2146: 2-4-1 at 0.01." in findings(constant)
    assert "one answer" not in findings(constant[:1])


def test_the_second_judgement_is_told_apart_where_it_differs():
    falling = with_losses(made_up((4,), 0.1, [0.1] * 10), np.outer(TEN, [1.0] * 19 + [0.9, 0.1]))
    steady = with_losses(made_up((4,), 0.01, [0.3] * 10), np.outer(TEN, [1.0] * 19 + [0.3, 0.3]))
    other = with_losses(made_up((5,), 0.1, [0.2] * 10), np.outer(TEN, [1.0] * 19 + [0.9, 0.9]))
    worse = dataclasses.replace(falling, true_error=other.true_error * 2)
    ends = [made_up((4,), rate, list(0.9 * TEN)) for rate in (0.001, 1.0)]
    ends = [with_losses(one, np.outer(TEN, [1.0] * 19 + [0.95, 0.95])) for one in ends]
    text = words.judged_again(compare([worse, steady, *ends, other], SETTINGS))
    assert "2-4-1 has 0.01 for its best rate instead of 0.1" in text
    assert "2-4-1 and 2-5-1: 2-4-1 has the lower loss instead of 2-5-1 has the lower error" in text
    assert text.endswith(".")
    assert "the same is claimed" in words.judged_again(compare([other], SETTINGS))
    agreeing = dataclasses.replace(steady, true_error=other.true_error / 2)
    assert "the same is claimed" in words.judged_again(compare([agreeing, other], SETTINGS))


def row(a, b, **settings):
    comparison = compare(
        [made_up((4,), 0.1, list(a)), made_up((5,), 0.1, list(b))], SETTINGS.model_copy(update=settings)
    )
    return as_markdown("t", tables.differences(comparison)).splitlines()[-1]


def test_a_verdict_in_words():
    assert row(0.2 * TEN, 0.1 * TEN).endswith("| 0 of 10 | 2-5-1 has the lower error |")
    assert row(0.105 * TEN, 0.1 * TEN).endswith("| 2-5-1 has the lower error, by less than 10% |")
    assert row(0.105 * TEN, 0.1 * TEN, practically_equal=0.01).endswith("| 2-5-1 has the lower error |")
    assert row(0.1 * TEN, 0.1 * TEN * (1 + 0.01 * WOBBLE)).endswith("practically equal |")
    assert re.search(
        r"not decided; if the ratio is as estimated, about \d+ replicates would \|$", row(0.1 * TEN, 0.1 * TEN[::-1])
    )
    unknown = [made_up((w,), 0.1, [0.1] * 9) for w in (4, 5)]
    unknown[0].true_error[2] = np.nan
    assert "not every true error is known" in as_markdown("t", tables.differences(compare(unknown, SETTINGS)))
    assert "more than 10000 replicates would" in row(0.1 * TEN, 0.1 * TEN * (1 + 0.01 * np.array([1, -1] * 5)))
    assert "10 equal" in row(0.1 * TEN, 0.1 * TEN)


def test_an_interval_that_leaves_everything_open_has_no_bounds():
    assert words.interval(Interval(1.04, 1e-300, 1e300)) == "1.04 (no bounds)"
    assert words.interval(Interval(1.04, 0.9, 1.2)) == "1.04 (0.9 to 1.2)"
    assert words.interval(Interval(1.04)) == "1.04"


@pytest.mark.parametrize(("n", "lost"), [(10, 2), (30, 7)])
def test_the_loss_has_no_upper_bound_where_that_rests_on_replicates_that_diverged(n, lost):
    """The errors are bounded, by 1."""
    (cell,) = compare([made_up((4,), 0.1, [None] * lost + [0.3] * (n - lost))], SETTINGS).cells
    assert words.score(cell, "loss") == "0.3 (0.3 to ∞)"
    assert re.fullmatch(r"0\.03 \(0\.03 to 0\.\d+\)", words.score(cell, "error"))


def test_a_loss_that_is_finite_is_not_taken_for_one_that_is_not():
    (cell,) = compare([made_up((4,), 0.1, [1e13] * 10)], SETTINGS).cells
    assert "∞" not in words.score(cell, "loss")


def test_the_picture_of_the_answer_says_what_one_replicate_that_diverged_counts_as():
    one, none = (compare([made_up((4,), 0.1, [*first, *([0.3] * 9)])], SETTINGS) for first in ([None], [0.3]))
    assert "A cross is a replicate that diverged, whose error counts as 1, the worst possible." in answer.draw(one).note
    assert "cross" not in answer.draw(none).note


@pytest.mark.parametrize(
    ("lost", "line"),
    [
        (2, "| 2-4-1 |  | 0.2 (0.2 to 0.2), 8 of 10: lower | 0.167 (0.167 to 0.167), 8 of 10: lower |"),
        (3, "| 2-4-1 |  | not compared | not compared |"),
    ],
)
def test_losses_are_not_compared_where_more_than_a_quarter_diverged(lost, line):
    tuned = [made_up((w,), 0.1, list(0.1 * w * TEN)) for w in (4, 5, 6)]
    judges = [made_up((w,), 0.1, list(0.1 * w * TEN), first=10) for w in (5, 6)]
    judges.append(made_up((4,), 0.1, [None] * lost + list(0.1 * TEN[lost:]), first=10))
    assert line in as_markdown("t", [pairs.matrix(compare(tuned, SETTINGS, judges).typical)]).splitlines()


def test_it_is_said_why_no_interval_has_bounds():
    """One pair that flips make equal leaves all pairs open; pairs that are always equal do not."""
    two_valued, plain, lower = 0.1 * (1 + 0.1 * np.array([1, -1] * 5)), 0.1 * np.ones(10), 0.01 * TEN
    records = [made_up((4 + i,), 0.1, list(one)) for i, one in enumerate((two_valued, plain, lower))]
    text, table = tables.differences(compare(records, SETTINGS))
    assert "There are no bounds: the ratios of some pair take so few values" in text
    assert "has the lower" not in as_markdown("t", [table])
    text, table = tables.differences(compare([*records[1:], made_up((7,), 0.1, list(plain))], SETTINGS))
    assert "no bounds" not in text
    assert "| 1 (1 to 1) | 0 of 10, 10 equal | practically equal |" in as_markdown("t", [table])
    assert as_markdown("t", [table]).count("2-6-1 has the lower error") == 2


def test_pairs_that_cannot_be_compared_are_not_counted_among_those_that_the_intervals_hold_for():
    records = [made_up((w,), 0.1, list(0.1 * w * TEN)) for w in (4, 5, 6)]
    assert "(the largest |t| of 3 pairs, by 1024 flips of signs)" in tables.differences(compare(records, SETTINGS))[0]
    records[0].true_error[1] = np.nan
    assert "(the largest |t| of 1 pair, by 1024 flips of signs)" in tables.differences(compare(records, SETTINGS))[0]


def test_nothing_is_claimed_of_a_best_rate_at_an_edge():
    records = [made_up((w,), rate, list(w * rate * TEN)) for w in (4, 5) for rate in (0.1, 0.2)]
    comparison = compare(records, SETTINGS)
    table = as_markdown("t", tables.differences(comparison))
    assert "| nothing is claimed: a best rate is at an edge of the grid |" in table
    assert "has the lower" not in table + words.judged_again(comparison) + " ".join(headline.headline(comparison))


def test_the_rounding_of_one_area_is_no_difference():
    records = [made_up((w,), 0.1, [0.1] * 10) for w in (4, 5)]
    records[0].true_error[:] = 0.21460183660255172
    records[1].true_error[:] = np.resize([0.2146018366025516, 0.21460183660255172, 0.21460183660255175], 10)
    (one,) = compare(records, SETTINGS).last.differences
    assert (one.verdict, one.wins, one.losses) == ("equal", 0, 0)


def test_many_pairs_are_shown_with_the_lowest_alone(monkeypatch):
    comparison = at_one_rate(0.3, 0.1, 0.2)
    assert len(tables.differences(comparison)[1].rows) == 3
    monkeypatch.setattr(tables, "MOST_PAIRS", 2)
    text, table = tables.differences(comparison)
    assert text.endswith("Shown are the pairs with 2-5-1.")
    assert len(table.rows) == 2


def test_what_was_run_counts_holes():
    holes = compare(GRID, SETTINGS)
    assert headline.counted(holes) == "2 architectures × 3 rates × 3 replicates (1 of 6 cells is missing)."


def test_what_was_run_names_batches_and_shortens_long_grids():
    batches = made_up((4,), 0.1, [0.1] * 3)
    batches.ingredients["config"]["training"]["batch_size"] = 10
    assert "by Adam on mini-batches of 10 for 6 epochs" in headline.recipe(compare([batches], SETTINGS))
    assert "by Adam on the full batch for 6 epochs" in headline.recipe(sweep([[0.1, 0.2]]))
    rates = [round(0.01 * (1 + place), 2) for place in range(31)]
    many = [made_up((4,), rate, [0.1]) for rate in rates]
    assert headline.recipe(compare(many, SETTINGS)).endswith("Learning rates: 0.01 to 0.31.")
    assert headline.recipe(compare(many[:2], SETTINGS)).endswith("Learning rates: 0.01, 0.02.")


def test_a_score_says_why_it_is_not_known():
    known, lost, unknown = made_up((4,), 0.1, [0.1] * 3), made_up((4,), 0.2, [None] * 3), made_up((4,), 0.3, [0.1] * 3)
    unknown.true_error[1] = np.nan
    first, second, third = compare([known, lost, unknown], SETTINGS).cells
    assert [words.score(first, name) for name in ("error", "accuracy", "loss")] == ["0.01", "0.9700", "0.1"]
    assert words.score(second, "error") == words.score(second, "loss") == "diverged"
    assert words.score(third, "error") == "not known of 1"
    assert words.score(third, "loss") == "0.1"


def test_departures_are_named_where_there_are_some():
    plain, other = made_up((4,), 0.1, [0.1] * 3), made_up((4,), 0.1, [0.1] * 3)
    config = other.ingredients["config"]
    config["schedule"] = {"decay": "cosine", "warmup_fraction": 0.5, "final_fraction": 0.0}
    config["early_stopping"] = {"patience": 2, "min_delta": 0.0}
    other.history.stopped_at[1] = 4
    text = headline.recipe(compare([other], SETTINGS))
    assert "for up to 6 epochs in float32. Learning rates: 0.1. Schedule: a warm-up" in text
    assert text.endswith("chosen on the validation points; 1 of 3 did.")
    assert headline.recipe(compare([plain], SETTINGS)).endswith("for 6 epochs in float32. Learning rates: 0.1.")


def test_the_rules_are_those_of_the_settings():
    comparison = compare(GRID, SETTINGS.model_copy(update={"practically_equal": 0.2}))
    assert "a higher rate ended lower by a factor of more than 1.2" in words.rules(comparison)
    assert "the best straight line, 0.03654;" in words.rules(comparison)


def test_a_cost_that_is_never_reached_is_called_that():
    assert [words.gigaflop(cost) for cost in (2.346e11, 5.67e13, 8e6)] == ["235", "56700", "0.008"]
    assert words.epochs(1000.5) == "1000.5"
    assert words.epochs(math.inf) == words.gigaflop(math.inf) == "never"


def test_a_share_of_bad_runs_has_its_interval():
    (cell,) = compare([made_up((4,), 0.1, [0.1] * 9 + [0.5])], SETTINGS).cells
    assert words.bad_runs(cell) == "1 of 10 (2% to 40%)"


def test_a_rate_of_the_second_choice_that_is_not_confirmed_is_said_to_be_none():
    falling = with_losses(made_up((4,), 0.1, [0.1] * 10), np.outer(TEN, [1.0] * 19 + [0.9, 0.1]))
    steady = with_losses(made_up((4,), 0.01, [0.3] * 10), np.outer(TEN, [1.0] * 19 + [0.3, 0.3]))
    judges = [with_losses(made_up((4,), rate, [0.2] * 9, first=10), np.full((9, 21), 0.2)) for rate in (0.1, 0.01)]
    text = words.judged_again(compare([falling, steady], SETTINGS, judges[:1]))
    assert "2-4-1 has 0.01, which is not confirmed, for its best rate instead of 0.1" in text
    assert "not confirmed" not in words.judged_again(compare([falling, steady], SETTINGS, judges))


def test_long_lists_are_cut():
    assert words.some(["a", "b"]) == "a, b"
    assert words.some(list("abcdefgh")) == "a, b, c, d, e, f, and 2 more"


def test_of_a_thousand_cells_every_sentence_is_there_and_short():
    rng, rates = np.random.default_rng(0), [round(0.01 * 1.2**place, 6) for place in range(20)]
    records = [
        made_up((4 + i,), rate, list(0.1 * rng.lognormal(abs(j - 10) / 10, 0.3, 8)))
        for i in range(50)
        for j, rate in enumerate(rates)
    ]
    comparison = compare(records, SETTINGS)
    first, second, third = headline.headline(comparison)
    assert re.search(r"the learning rate explains \d+% \(\d+% to \d+%\), the architecture \d+% \(", first)
    assert re.search(r"it is undecided against (2-\d+-1, ){6}and \d\d more\.$", second)
    assert third.startswith("What limits this: 1000 of 1000 cells still improve after 6 epochs")
    everything = [first, second, third, *words.findings(comparison), words.judged_again(comparison)]
    assert max(map(len, everything)) < 1000
    text, table = tables.differences(comparison)
    assert "(the largest |t| of 1225 pairs, by 256 flips of signs)" in text
    assert len(table.rows) == 49
