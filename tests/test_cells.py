import numpy as np
import pytest

from circlemlp.run.cells import Cell, run
from circlemlp.run.compose import compose_jobs
from circlemlp.store.datafile import generate
from circlemlp.errors import UserError
from circlemlp.store.identity import ingredients
from circlemlp.store.notes import Notes
from circlemlp.store.records import Store
from conftest import TINY


def cell(dataset=None):
    (job,) = compose_jobs(TINY).jobs
    data = generate(job.config.data)
    digest = data.digest()
    return Cell(job.config, dataset or data, ingredients(job.config.deciding(), digest, {"mode": "portable"}))


def test_a_cell_leaves_a_record(tmp_path):
    store, trained = Store(tmp_path), cell()
    run(trained, store)
    record = store.load(trained.identity)
    assert record.arrays["parameters"].shape == (2, record.summary["n_parameters"])
    assert np.isfinite(record.summary["validation_loss"]).all()


def test_data_that_changed_in_the_meantime_leave_no_record(tmp_path):
    (job,) = compose_jobs((*TINY, "data.seed=1")).jobs
    store, trained = Store(tmp_path), cell(generate(job.config.data))
    with pytest.raises(UserError, match="changed while the cell was being trained"):
        run(trained, store)
    assert trained.identity not in store
    assert Notes(store, trained.identity).failed()
