import json
import os

import pytest

from circlemlp.config import Model, Replicates
from circlemlp.errors import UserError
from circlemlp.run.compose import compose_jobs
from circlemlp.store.selection import Choice, Selection, read, write


def choice(sizes, rate, typical=None):
    return Choice(
        architecture="words",
        model=Model(hidden_layer_sizes=sizes, activation="relu", initialisation="he"),
        learning_rate=rate,
        by_typical_loss=typical,
        validation_loss=None if rate is None else 0.01234,
        edge=None,
        not_separated=[0.003],
        chosen_by_resamples={} if rate is None else {f"{rate:g}": 1.0},
    )


SELECTION = Selection(
    rule="The lowest, of 25 % — trimmed.",
    tuned=Replicates(first_replicate=0, replicates=10),
    settings="5" * 64,
    choices=[choice([64], 0.1, 0.03), choice([64, 32], 0.01, 0.01), choice([128], None)],
)


def test_what_is_read_is_what_was_written(tmp_path):
    path = tmp_path / "new" / "selection.json"
    write(path, SELECTION)
    assert read(path) == SELECTION
    assert "—" in path.read_text()  # it is there for a person to read
    assert [one.learning_rates for one in SELECTION.choices] == [[0.1, 0.03], [0.01], []]
    assert SELECTION.tuned.numbers == range(10)


def test_it_wants_each_architecture_at_the_rates_that_either_rule_chose():
    rates = "optimizer.learning_rate=0.01,0.03,0.1"
    jobs = compose_jobs(["-m", "model=mlp_64,mlp_64_32,mlp_128", "model.activation=relu,tanh", rates]).jobs
    wanted = [job.config for job in jobs if SELECTION.wants(job.config)]
    assert [(one.model.hidden_layer_sizes, one.optimizer.learning_rate) for one in wanted] == [
        ([64], 0.03),
        ([64], 0.1),
        ([64, 32], 0.01),
    ]
    assert {one.model.activation for one in wanted} == {"relu"}


def test_a_missing_one_says_how_to_make_it(tmp_path):
    with pytest.raises(UserError) as error:
        read(tmp_path / "selection.json")
    says = (
        "selection.json: there is no selection here; make it from a sweep's results with: "
        f"python pipelines/select_rates.py paths.results=results/... paths.reports={tmp_path}"
    )
    assert str(error.value).endswith(says)


def damaged(change):
    values = SELECTION.model_dump()
    change(values)
    return json.dumps(values)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("", "the file: Invalid JSON"),
        ("[]", "the file: "),
        (damaged(lambda values: values.pop("rule")), "rule: "),
        (damaged(lambda values: values["tuned"].update(replicates=0)), "tuned.replicates: "),
        (damaged(lambda values: values["choices"][1].update(learning_rate="fast")), "choices.1.learning_rate: "),
        (damaged(lambda values: values["choices"][0]["model"].update(width=3)), "choices.0.model.width: "),
    ],
)
def test_what_is_no_selection_is_one_line_that_names_the_place(tmp_path, content, says):
    path = tmp_path / "selection.json"
    path.write_text(content)
    with pytest.raises(UserError) as error:
        read(path)
    assert f"selection.json: cannot be read as a selection ({says}" in str(error.value)
    assert "\n" not in str(error.value)


def test_a_pipe_is_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "selection.json")
    with pytest.raises(UserError, match="is not a regular file"):
        read(tmp_path / "selection.json")
