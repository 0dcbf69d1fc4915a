"""A copy of the index on an MLflow server, made through MLflow's client.

A server gives runs identifiers of its own, so the run of a cell is known there by a tag, and is pushed once. It is
marked as running until all of it is there; one that an interrupted push left behind is taken out, and pushed anew.

Machines may share a server. If two push the same cell at the same moment, one of them stops with a line, or the cell is
there twice; the next push goes on from there and leaves one. What people change or delete there stays so.
"""

import contextlib
import math
import re
import sys
import textwrap
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Param, ViewType
from mlflow.exceptions import MlflowException

from circlemlp.errors import UserError, first_line
from circlemlp.tracking.experiments import Experiment, page_tags
from circlemlp.tracking.index import PLACE, Index, all_of
from circlemlp.tracking.runs import PARENT, RECORDS

COPY, RUN, NOTE = "circlemlp.copy_of", "circlemlp.run", "mlflow.note.content"
"""Tags: of which experiment in the index it is, of which run there, and what is said of it."""
BESIDE = re.compile(r"\[([^]]*)\]\(/[^)]*\)")
"""A link to what our own server has beside MLflow's pages: the report."""
VALUES, POINTS = 100, 900
"""How many parameters, and how many points of metrics, a request may have; together at most 1000."""


@dataclass(frozen=True)
class _Copied:
    """What there is of an experiment: the runs of its cells, by the identifiers that they have in the index."""

    experiment_id: str
    cells: dict[str, Any]


class Server:
    """An MLflow server that has a copy of an index.

    Attributes
    ----------
    uri : str
    again : str
        The command that pushes what is not there.
    """

    def __init__(self, uri: str, again: str) -> None:
        self.uri, self.again = uri, again
        self._known: dict[str, _Copied | None] = {}

    @cached_property
    def _client(self) -> MlflowClient:
        """MLflow's client, which asks the server already when it is made if the environment names a workspace."""
        return MlflowClient(self.uri)

    def push(self, index: Index, *, everything: bool = False) -> int:
        """Copy the cells that are not there yet, or have more replicates than there; return how many.

        Parameters
        ----------
        index : Index
        everything : bool
            Whether to bring back what was deleted there.

        Raises
        ------
        UserError
            If the server cannot be reached, or refuses.
        """
        with index.database.pushing():
            try:
                if everything:
                    self._restore()
                return sum(self._push(index, name, cells) for name, cells in index.cells().items())
            except UserError:
                raise
            except Exception as error:  # MLflow's client and those of the stores of artifacts have none in common
                self._known.clear()  # another machine may have been at it
                why = f"not all runs are there ({_reason(error)}); `{self.again}` pushes the others"
                raise UserError(f"tracking.uri={self.uri}: {why}") from None

    def _push(self, index: Index, name: str, cells: dict[str, set[str]]) -> int:
        if name not in self._known:
            self._known[name] = self._look(name)
        copied = self._known[name]
        if copied is None:
            return 0
        pushed = 0
        for source, records in cells.items():
            before = copied.cells.get(source)
            if before is None or (_is_active(before) and self._has_more(index, source, records, before)):
                copied.cells[source] = self._copy(index, source, copied.experiment_id)
                if before is not None:
                    self._take_out(before)
                pushed += 1
        return pushed

    def _has_more(self, index: Index, source: str, records: set[str], there: Any) -> bool:
        """Say whether a cell has more replicates than there; it may have them in other records."""
        if set(there.data.tags.get(RECORDS, "").split()) == records:
            return False
        here = MlflowClient(index.database.uri).get_run(source)
        return int(here.data.params["replicates"]) > int(there.data.params["replicates"])

    def _copy(self, index: Index, source: str, experiment_id: str) -> Any:
        """Copy a cell with its replicates; return its run there."""
        here = MlflowClient(index.database.uri)
        cell = here.get_run(source)
        made = self._create(experiment_id, cell, {RUN: source})
        folder = index.folder(cell.info.experiment_id, source)
        try:
            for replicate in filter(_is_active, _replicates(here, cell)):
                self._fill(self._create(experiment_id, replicate, {PARENT: made.info.run_id}), replicate, here)
            if folder.is_dir():
                self._client.log_artifacts(made.info.run_id, str(folder))
            self._fill(made, cell, here)
        except Exception:  # of any kind, since what is half there is in the way of the next push
            # Another machine may have taken the cell out, without the replicates that came since.
            with contextlib.suppress(MlflowException, OSError):
                self._take_out(made)
            raise
        return self._client.get_run(made.info.run_id)

    def _create(self, experiment_id: str, run: Any, tags: dict[str, str]) -> Any:
        note = {key: BESIDE.sub(r"`\1`", value) for key, value in run.data.tags.items() if key == NOTE}
        tags = run.data.tags | note | tags
        return self._client.create_run(experiment_id, run.info.start_time, tags, run.info.run_name)

    def _fill(self, made: Any, run: Any, here: MlflowClient) -> None:
        """Copy what a run has in the index, and say at last that it is finished."""
        to = made.info.run_id
        parameters = [Param(*item) for item in run.data.params.items()]
        points = [point for key in run.data.metrics for point in here.get_metric_history(run.info.run_id, key)]
        for part in range(math.ceil(max(len(parameters) / VALUES, len(points) / POINTS))):
            some = slice(part * POINTS, (part + 1) * POINTS), slice(part * VALUES, (part + 1) * VALUES)
            self._client.log_batch(to, points[some[0]], parameters[some[1]])
        if run.inputs.dataset_inputs:
            self._client.log_inputs(to, run.inputs.dataset_inputs)
        self._client.set_terminated(to, run.info.status, run.info.end_time)

    def _look(self, name: str) -> _Copied | None:
        """Return what there is of an experiment, which is made if it is not there; None if a person deleted it.

        What an interrupted push left of a cell is taken out, and so is one of two that were pushed at once.
        """
        known = self._experiments().get(name) or self._make(name)
        if not _is_active(known):
            print(f"not pushed: what belongs to {name}, which was deleted there; --all brings it back", file=sys.stderr)
            return None
        if NOTE not in known.tags:
            note = Experiment.of(name).description(known.experiment_id)
            self._client.set_experiment_tag(known.experiment_id, NOTE, BESIDE.sub(r"`\1`", note))
        cells: dict[str, Any] = {}
        for run in sorted(self._cells(known), key=lambda run: (not _is_active(run), run.info.run_id)):
            source = run.data.tags[RUN]
            if not _is_active(run):
                cells.setdefault(source, run)
            elif run.info.status == "FINISHED" and source not in cells:
                cells[source] = run
            else:
                self._take_out(run)
        return _Copied(known.experiment_id, cells)

    def _make(self, name: str) -> Any:
        if self._client.get_experiment_by_name(name) is not None:
            raise UserError(f"tracking.uri={self.uri}: has another experiment {name}; give that one another name there")
        tags = {COPY: name, **page_tags()}
        return self._client.get_experiment(self._client.create_experiment(name, tags=tags))

    def _experiments(self) -> dict[str, Any]:
        """Return the copies of experiments, deleted ones among them, by the names that these have in the index."""
        found = list(all_of(self._client.search_experiments, ViewType.ALL))
        if any(PLACE in one.tags for one in found):
            raise UserError(f"tracking.uri={self.uri}: shows an index, which is made from records alone; name a server")
        return {one.tags[COPY]: one for one in found if COPY in one.tags}

    def _cells(self, experiment: Any) -> list[Any]:
        found = all_of(self._client.search_runs, [experiment.experiment_id], f"tags.`{RUN}` LIKE '%'", ViewType.ALL)
        return list(found)

    def _take_out(self, cell: Any) -> None:
        """Delete the runs of a cell; without its tag it is not one that a person deleted."""
        for run in _replicates(self._client, cell):
            self._client.delete_run(run.info.run_id)
        self._client.delete_tag(cell.info.run_id, RUN)
        self._client.delete_run(cell.info.run_id)

    def _restore(self) -> None:
        """Bring back what people deleted there."""
        self._known.clear()
        for experiment in self._experiments().values():
            if not _is_active(experiment):
                self._client.restore_experiment(experiment.experiment_id)
            for cell in self._cells(experiment):
                for run in [cell, *_replicates(self._client, cell)]:
                    if not _is_active(run):
                        self._client.restore_run(run.info.run_id)


def _replicates(client: MlflowClient, cell: Any) -> list[Any]:
    own = f"tags.`{PARENT}` = '{cell.info.run_id}'"
    return list(all_of(client.search_runs, [cell.info.experiment_id], own, ViewType.ALL))


def _is_active(one: Any) -> bool:
    """Say whether an experiment, or a run, was not deleted."""
    return bool(getattr(one, "info", one).lifecycle_stage == "active")


def _reason(error: BaseException) -> str:
    """Say what is wrong: the error of the system under those of the libraries, if there is one."""
    chain = [error]
    while under := chain[-1].__cause__ or chain[-1].__context__:
        chain.append(under)
    for one in reversed(chain):
        if isinstance(one, TimeoutError):
            return "it does not answer"
        if isinstance(one, OSError) and one.strerror:
            return one.strerror
    return textwrap.shorten(first_line(error), 300, placeholder=" ...")
