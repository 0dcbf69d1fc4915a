"""The index itself: MLflow experiments in an SQLite database, which can be deleted at any time.

It is brought up to date as often as one likes: what is indexed is left alone, a cell's runs are there as a whole or not
at all, and a deleted database comes back with the same identifiers.
"""

import getpass
import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, get_args

from mlflow.entities import ExperimentTag, ViewType

from circlemlp import wording
from circlemlp.config import Report, Tracking
from circlemlp.errors import UserError
from circlemlp.report.cell_results import CellResult, by_architecture
from circlemlp.store.identity import code_digest, sha256
from circlemlp.store.records import DamagedRecord, Record, Store
from circlemlp.store.stages import Stage, run_id, stage_of
from circlemlp.store.trained import join
from circlemlp.tracking import artifacts, models, rows
from circlemlp.tracking.database import AGAIN, Database, check_place, writing
from circlemlp.tracking.experiments import BY_HAND, CELLS, CONFIRMED, Experiment, address, page_tags
from circlemlp.tracking.runs import Indexed

NAME, PLACE, HOME = "circlemlp.index", "circlemlp.artifacts", "circlemlp.home"
"""Tags of our experiments: the names they were made with, which a person may change; where their artifacts are; a
digest of the index's place when they were written."""

STRANGE = "was made elsewhere, by an earlier version or has lost its artifacts"
BACK = "python pipelines/index.py --all brings back what was deleted"
There = dict[str, set[str]]
"""The identities of the records in each run of a cell."""

AT_ONCE = 20
"""How many records are in memory."""


class DeletedExperiment(UserError):
    """An experiment that a person deleted in MLflow's pages."""


class Index:
    """MLflow experiments in one database, which is made if it is not there.

    Artifacts are found below the place that the server is given, so nothing points to where an index was. One that
    finds itself in another place, to which it may have come without artifacts, or without them where it was, is written
    again from the records.

    Attributes
    ----------
    database : Database
    artifacts : str
        Where the artifacts are.

    Raises
    ------
    UserError
        If the database cannot be used. The line says what helps.
    """

    def __init__(self, tracking: Tracking, report: Report) -> None:
        assert tracking.database is not None
        self._tracking, self._report = tracking, report
        self._artifacts = Path(tracking.artifacts)
        self._named: set[str] = set()
        self._run_of: dict[str, str] = {}
        self._noted: dict[str, str | None] = {}
        self._replicates: dict[str, Counter[Stage]] = {}
        self.artifacts = self._artifacts.absolute().as_uri()
        self.database = Database(Path(tracking.database))
        with self.database.alone():
            if not self.database.path.exists():  # a database that is there says itself where its artifacts are
                check_place(self._artifacts.absolute(), self._artifacts.absolute(), "artifacts")
            self._store = self.database.open()
            self._models = models.Models(self._store, self.database.uri, self._artifacts, self._report)
            self._check_artifacts()
        check_place(self._artifacts.absolute(), self._artifacts.absolute(), "artifacts")

    def bring_up_to_date(self, records: Store, results: Sequence[Path] = ()) -> int:
        """Index what is not indexed yet, and return how many cells are new or have other replicates.

        Those that a person deleted in MLflow's pages stay deleted, until ``restore``. Records that cannot be read are
        named and left out.

        Parameters
        ----------
        records : Store
            Each record in it belongs to the stage of the experiment that it was trained for.
        results : sequence of Path
            Folders of results. Their names say which stage of an experiment they are of, and a cell that is in one has
            the replicates that it has there, and no others, as in the report.
        """
        with self.database.alone():
            self._settle()
            with self._session() as session:
                there = rows.cells(session)
            self._replicates.clear()
            left_out: list[Exception] = []
            written, decided = set[str](), set[str]()
            for folder in results:
                written |= self._add_results(records, folder, there, decided, left_out)
            new = [one for one in self._missing(records, there) if self._run_of.get(one) not in decided]
            for of, group in self._read([records], new, left_out):
                written |= self._add(of, group, [records], there, left_out, but=decided)
            self._recommend(results, left_out)
            self._show_one_core()
            self._name(left_out)
            if written:
                self.database.analyze()
            return len(written)

    def strangers(self) -> list[str]:
        """Return the identifiers of the experiments whose cells were not written here, or have lost their files."""
        with self._session() as session:
            filled = rows.with_records(session)
        return [
            one.experiment_id
            for one in self._active()
            if one.experiment_id in filled
            and (one.tags.get(HOME) != self._home or not (self._artifacts / one.experiment_id).is_dir())
        ]

    def _settle(self) -> None:
        """Forget what the runs of strangers have, so that they are all written again, here.

        What people did to them is left: names, tags and parameters of their own, and being deleted. So are deleted
        experiments.
        """
        if strangers := self.strangers():
            print(f"{self.database.path}: {STRANGE}, so it is made again", file=sys.stderr)
            with self._session() as session:
                rows.forget(session, strangers)
        for one in self._active():
            if one.tags.get(HOME) != self._home:
                self._store.set_experiment_tag(one.experiment_id, ExperimentTag(HOME, self._home))

    def _missing(self, records: Store, there: There) -> list[str]:
        """Return the records that are not in a run of the stage that their note names; without a note, in any run."""
        everything = set().union(*there.values())
        indexed = dict[str, set[str]]()
        missing = []
        for one in records.identities():
            of = self._noted[one] = self._noted.get(one) or records.noted(one)
            if of and of not in indexed:
                indexed[of] = set().union(*(there[run] for run in self._runs(of) & there.keys()))
            if one not in (indexed[of] if of else everything):
                missing.append(one)
        return missing

    def _add_results(
        self, records: Store, folder: Path, there: There, decided: set[str], left_out: list[Exception]
    ) -> set[str]:
        """Make the runs of a folder's cells those of the records that it has, and add them to those decided upon."""
        store = Store(folder / "records")
        own = set(store.identities())
        known = {run: there[run] & own for run in self._runs(folder.name) & there.keys() if there[run] & own}
        again = set().union(*(both for run, both in known.items() if there[run] != both))
        new = own.difference(*known.values())
        written = set()
        for of, group in self._read([records, store], sorted(new | again), left_out, folder.name):
            written |= self._add(of, group, [records, store], there, left_out, own=own)
        decided |= known.keys() | written
        return written

    def _show_one_core(self) -> None:
        """Let the views show each cell once: as the present core trained it, or else the one that trained last."""
        for experiment in self._active():
            with self._session() as session:
                cores = rows.cores(session, experiment.experiment_id)
            core = code_digest() if code_digest() in cores else next(iter(cores), None)
            for key, value in page_tags(core if len(cores) > 1 else None).items():
                if experiment.tags.get(key) != value:
                    with writing():
                        self._store.set_experiment_tag(experiment.experiment_id, ExperimentTag(key, value))

    def _recommend(self, results: Sequence[Path], left_out: list[Exception]) -> None:
        """Have the model that each experiment recommends."""
        experiments = self._experiments()
        for folder in results:
            name, stage = stage_of(folder.name)
            experiment = experiments.get(name)
            if stage == "tuning" or experiment is None or experiment.lifecycle_stage == "deleted":
                continue
            try:
                self._models.recommend(name, experiment, folder)
            except UserError as error:
                left_out.append(error)

    def restore(self) -> int:
        """Bring back what was deleted in MLflow's pages, and return how many cells are among that."""
        with self.database.alone():
            before = self._count()
            for experiment in self._experiments().values():
                if experiment.lifecycle_stage == "deleted":
                    self._store.restore_experiment(experiment.experiment_id)
            with self._session() as session:
                rows.restore(session)
            self._models.restore()
            return self._count() - before

    def addresses(self) -> dict[str, str]:
        """Return where MLflow shows each experiment, by its name: the cells that judge, if there are any."""
        found = {}
        for name, experiment in self._experiments().items():
            if experiment.lifecycle_stage == "active":
                with self._session() as session:
                    judged = rows.at_stage(session, experiment.experiment_id, "confirmation", deleted=False)
                found[name] = address(experiment.experiment_id, CONFIRMED if judged else CELLS)
        return found

    def cells(self) -> dict[str, dict[str, set[str]]]:
        """Return which records the cells of each experiment have, by its name and the identifiers of their runs."""
        found = {}
        for name, experiment in self._experiments().items():
            with self._session() as session:
                records = rows.cells(session)
                stages = [
                    rows.at_stage(session, experiment.experiment_id, one, deleted=False) for one in get_args(Stage)
                ]
            found[name] = {run: records.get(run, set()) for run in set().union(*stages)}
        return found

    def _count(self) -> int:
        return sum(map(len, self.cells().values()))

    def _check_artifacts(self) -> None:
        """Refuse another place of artifacts than that of the artifacts that are there."""
        for experiment in self._experiments().values():
            place = experiment.tags[PLACE]
            if place != self._place:
                raise UserError(f"{self.database.path}: keeps its artifacts in {place}, not in {self._place}; {AGAIN}")

    @property
    def _place(self) -> str:
        """The place of artifacts as seen from the database, unless it is an absolute one."""
        if self._artifacts.is_absolute():
            return str(self._artifacts)
        return os.path.relpath(self._artifacts, self.database.path.parent)

    @property
    def _home(self) -> str:
        return sha256(ascii(self.database.path.parent.resolve()))  # which may have bytes that are no characters

    def _experiments(self) -> dict[str, Any]:
        """Return the experiments of ours, deleted ones among them, by the names that they were made with."""
        found = all_of(self._store.search_experiments, ViewType.ALL)
        return {one.tags[NAME]: one for one in found if NAME in one.tags}

    def _active(self) -> list[Any]:
        """Return the experiments of ours that are not deleted."""
        return [one for one in self._experiments().values() if one.lifecycle_stage == "active"]

    def _experiment(self, about: Experiment) -> Any:
        """Return an experiment, which is made if it is not there."""
        known = self._experiments().get(about.name)
        if known is not None and known.lifecycle_stage == "deleted":
            raise DeletedExperiment(f"what belongs to {about.name}, which was deleted; {BACK}")
        if known is not None:
            return known
        if self._store.get_experiment_by_name(about.name) is not None:
            raise UserError(
                f"{self.database.path}: has an experiment {about.name} that the index did not make; "
                f"give it another name in MLflow's pages, or {AGAIN}"
            )
        tags = {NAME: about.name, PLACE: self._place, HOME: self._home, **page_tags()}
        made = self._store.create_experiment(about.name, tags=[ExperimentTag(*tag) for tag in tags.items()])
        self._store.set_experiment_tag(made, ExperimentTag("mlflow.note.content", about.description(made)))
        return self._store.get_experiment(made)

    def _runs(self, of: str) -> set[str]:
        """Return the runs of the cells in a stage of an experiment, also those of deleted ones."""
        name, stage = stage_of(of)
        experiment = self._experiments().get(name)
        if experiment is None:
            return set()
        with self._session() as session:
            return rows.at_stage(session, experiment.experiment_id, stage, deleted=True)

    def _read(
        self, stores: Sequence[Store], identities: Sequence[str], left_out: list[Exception], of: str | None = None
    ) -> Iterator[tuple[str, list[Record]]]:
        """Yield records, some at a time, and what they are of: if that is not given, what each was trained for."""
        for start in range(0, len(identities), AT_ONCE):
            groups: dict[str, list[Record]] = {}
            for record in _load(stores, identities[start : start + AT_ONCE], left_out):
                groups.setdefault(of or record.volatile.experiment or BY_HAND, []).append(record)
            yield from groups.items()

    def _add(
        self,
        of: str,
        records: Sequence[Record],
        stores: Sequence[Store],
        there: There,
        left_out: list[Exception],
        *,
        own: set[str] | None = None,
        but: Collection[str] = (),
    ) -> set[str]:
        """Put records into the runs of their cells, and return these runs.

        Parameters
        ----------
        of : str
            The stage of an experiment.
        records : sequence of Record
        stores : sequence of Store
            Where other records of the same runs are.
        there : dict
            What each run has; it is changed.
        left_out : list of Exception
        own : set of str, optional
            The only records that the runs may have.
        but : collection of str
            Runs to be left as they are.
        """
        name, stage = stage_of(of)
        written = set()
        try:
            experiment = self._experiment(Experiment.of(name))
        except DeletedExperiment as error:
            left_out.append(error)
            return set()
        for cell in join(records):
            run = run_id(name, stage, cell)
            if own is None:
                self._run_of.update((record.identity, run) for record in cell.records)
            has, new = there.get(run, set()), {record.identity for record in cell.records}
            wanted = (has if own is None else has & own) | new
            if run in but or wanted == has:
                continue
            others = _load(stores, sorted(wanted - new), left_out)
            ((result,),) = by_architecture([*cell.records, *others], self._report)
            with writing():
                self._write(experiment, self._indexed(name, stage, result))
            there[run] = wanted
            written.add(run)
        return written

    def _indexed(self, name: str, stage: Stage, result: CellResult) -> Indexed:
        about = Experiment.of(name)
        return Indexed(
            result,
            experiment=name,
            stage=stage,
            by_hand=name == BY_HAND,
            commands=about.commands_of(result.trained),
            data_file=about.file_of(result.trained.config.data),
            row=about.link_to_report(wording.anchor_of_cell(*result.key)) if about.report else "",
            bad_run_error=self._report.bad_run_error,
            points=self._tracking.curve_points,
            now_ms=round(time.time() * 1000),
        )

    def _write(self, experiment: Any, indexed: Indexed) -> None:
        """Write a cell's artifacts, and then its runs, all at once: so a run that is there is a whole one.

        Replicates have runs while their experiment has few of them. Pictures are of cells that judge, and of those that
        choose while the replicates that choose are few.
        """
        new, most = indexed.result.replicates, self._tracking.replicate_runs
        experiment_id = experiment.experiment_id
        with self._session() as session:
            if experiment_id not in self._replicates:
                self._replicates[experiment_id] = rows.count_replicates(session, experiment_id)
            there = self._replicates[experiment_id]
            there[indexed.stage] -= rows.replicates_of(session, indexed.run_id)
            detailed = there.total() + new <= most
            if not detailed and there.total() <= most:
                rows.delete_replicates(session, experiment_id)
            pictured = indexed.stage == "confirmation" or there["tuning"] + new <= most
            if not pictured and there["tuning"] <= most:
                for run in rows.at_stage(session, experiment_id, "tuning", deleted=True):
                    (self.folder(experiment_id, run) / artifacts.PICTURE).unlink(missing_ok=True)
            cell = indexed.run(with_replicates=detailed)
            artifacts.write(self.folder(experiment_id, cell.run_id), indexed.trained, picture=pictured)
            rows.put(session, experiment_id, experiment.artifact_location, _user(), cell)
        there[indexed.stage] += new

    def folder(self, experiment_id: str, run: str) -> Path:
        """Return the folder of a run's artifacts, in which MLflow's server finds them."""
        return self._artifacts / experiment_id / run / "artifacts"

    def _session(self) -> Any:
        return self._store.ManagedSessionMaker(read_only=False)

    def _name(self, left_out: Iterable[Exception]) -> None:
        """Say once what is not indexed, in one line for each kind of reason."""
        fresh = {str(error): error for error in left_out if str(error) not in self._named}
        self._named.update(fresh)
        for kind in dict.fromkeys(map(type, fresh.values())):
            first, *others = (error for error in fresh.values() if type(error) is kind)
            more = f" (and {len(others)} more like it)" if others else ""
            print(f"not indexed: {first}{more}", file=sys.stderr)


def all_of(search: Callable[..., Any], *arguments: Any) -> Iterator[Any]:
    """Yield all that a search of MLflow's finds, page after page."""
    token = None
    while True:
        page = search(*arguments, max_results=1000, page_token=token)
        yield from page
        token = page.token
        if not token:
            return


def _load(stores: Iterable[Store], identities: Iterable[str], left_out: list[Exception]) -> list[Record]:
    """Read records, each from the first store that has a good one: that of the project knows when it was trained.

    Where none has a good one, what is wrong with the first is left out; one that is nowhere any more is just not there.
    """
    records = []
    for identity in identities:
        errors: list[Exception] = []
        for store in stores:
            try:
                records.append(store.load(identity))
                break
            except KeyError:  # removed in the meantime, or never there
                continue
            except (DamagedRecord, UserError) as error:
                errors.append(error)
        else:
            left_out += errors[:1]
    return records


def _user() -> str:
    """Return who writes; a number where this machine has no name for them."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid())
