from dataclasses import replace

import numpy as np
import pytest

from circlemlp import numerics, pinning
from circlemlp.errors import UserError
from circlemlp.run.cells import Cell, _read, run
from circlemlp.run.compose import compose_jobs
from circlemlp.store.datafile import generate
from circlemlp.store.notes import Notes
from circlemlp.store.records import Store
from conftest import TINY


def cell(folder, *overrides, draws=2):
    (job,) = compose_jobs((*TINY, f"data.file={folder}/tiny.npz", *overrides)).jobs
    _read.cache_clear()
    generate(job.config.data, draws)
    return Cell.of(job.config, numerics.read_back(pinning.resolve("auto")))


def test_a_cell_leaves_a_record(tmp_path):
    store, trained = Store(tmp_path), cell(tmp_path)
    run(trained, store)
    record = store.load(trained.identity)
    assert record.parameters.shape == (2, record.summary.n_parameters)
    assert np.isfinite(record.summary.validation_loss).all()


def test_the_identity_depends_on_the_draws_that_are_used_and_on_no_others(tmp_path):
    two, beside_more = cell(tmp_path), cell(tmp_path, draws=5)
    assert two.identity == beside_more.identity
    assert two.dataset.draws == beside_more.dataset.draws == 2
    other = cell(tmp_path, "model=mlp_128", draws=5)
    assert other.ingredients["data"] == two.ingredients["data"]
    more = cell(tmp_path, "training.replicates=3", draws=5)
    shared = [cell(tmp_path, "data.draws=shared", f"training.replicates={n}") for n in (2, 3)]
    assert len({one.ingredients["data"] for one in (two, more, shared[0])}) == 3
    assert shared[0].ingredients["data"] == shared[1].ingredients["data"]
    with pytest.raises(UserError, match="holds 1 draw of the data, and 2 replicates need one each"):
        cell(tmp_path, draws=1)


def test_a_later_range_has_an_identity_of_its_own_and_its_own_draws(tmp_path):
    later = cell(tmp_path, "training.first_replicate=2", draws=4)
    first = cell(tmp_path, draws=4)
    assert later.identity != first.identity
    assert later.dataset.draws == 2
    assert later.dataset.digest() == later.ingredients["data"] != first.ingredients["data"]
    with pytest.raises(UserError, match="holds 3 draws of the data, and 4 replicates need one each"):
        cell(tmp_path, "training.first_replicate=2", draws=3)


def test_what_is_trained_is_what_is_hashed(tmp_path):
    store, trained = Store(tmp_path), cell(tmp_path)
    trained.ingredients["config"]["training"]["epochs"] = 7
    run(trained, store)
    assert store.load(trained.identity).history.training_loss.shape == (2, 7 + 1)


def test_data_that_changed_in_the_meantime_leave_no_record(tmp_path):
    (job,) = compose_jobs((*TINY, "data.seed=1")).jobs
    store, trained = Store(tmp_path), replace(cell(tmp_path), dataset=generate(job.config.data, 2))
    with pytest.raises(UserError, match="changed while the cell was being trained"):
        run(trained, store)
    assert store.identities() == []
    assert Notes(store, trained.identity).failed()
