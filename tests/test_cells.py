from dataclasses import replace

import numpy as np
import pytest

from circlemlp import numerics, pinning
from circlemlp.errors import UserError
from circlemlp.run.cells import Cell, run
from circlemlp.run.compose import compose_jobs
from circlemlp.store.datafile import generate, write_dataset
from circlemlp.store.notes import Notes
from circlemlp.store.records import Store
from conftest import TINY


def cell(folder):
    (job,) = compose_jobs((*TINY, f"data.file={folder}/tiny.npz")).jobs
    write_dataset(job.config.data, generate(job.config.data, 2))
    return Cell.of(job.config, numerics.read_back(pinning.resolve("auto")))


def test_a_cell_leaves_a_record(tmp_path):
    store, trained = Store(tmp_path), cell(tmp_path)
    run(trained, store)
    record = store.load(trained.identity)
    assert record.parameters.shape == (2, record.summary.n_parameters)
    assert np.isfinite(record.summary.validation_loss).all()


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
    assert trained.identity not in store
    assert Notes(store, trained.identity).failed()
