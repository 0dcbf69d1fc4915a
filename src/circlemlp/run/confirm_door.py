"""The confirmation door: the chosen cells of a sweep, trained again as new replicates, which judge them."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from circlemlp.config import Replicates
from circlemlp.errors import ConfigError
from circlemlp.run.compose import CommandLine, Job, checked, compose_jobs, explain
from circlemlp.run.door import prepare
from circlemlp.run.train_door import shared, train
from circlemlp.store import selection
from circlemlp.store.selection import Selection
from circlemlp.wording import architecture


def confirm_door(arguments: Sequence[str]) -> int:
    """Train the replicates that judge the cells of a sweep which ``selection.json`` names, and show what came of it.

    Parameters
    ----------
    arguments : sequence of str
        The command line of the sweep, without the program's name; it is a sweep even without ``-m``.

    Returns
    -------
    int
        As ``train_door``.

    Raises
    ------
    UserError
        Before anything is written. Also where the selection is of another sweep.
    """
    command = compose_jobs(arguments, multirun=True)
    if command is None:
        explain()
        return 0
    config = shared(command)
    path = Path(config.paths.reports) / selection.FILE
    command = dataclasses.replace(command, jobs=_wanted(command, selection.read(path), path))
    return train(command, config, prepare(config), config.paths.confirmation)


def _wanted(command: CommandLine, selection: Selection, path: Path) -> list[Job]:
    """Return the jobs of the chosen cells, each as the replicates that are to judge."""
    wanted = [job for job in command.jobs if selection.wants(job.config)]
    swept = {architecture(job.config.model) for job in command.jobs}
    found = {(architecture(job.config.model), job.config.optimizer.learning_rate) for job in wanted}
    chosen = [(architecture(one.model), rate) for one in selection.choices for rate in one.learning_rates]
    again = "choose again, with pipelines/select_rates.py"
    for name, rate in chosen:
        if (name, rate) not in found:
            raise ConfigError(f"{path}: chooses {name} at {rate:g}, which is no cell of this sweep; {again}")
    for name in sorted(swept - {architecture(one.model) for one in selection.choices}):
        raise ConfigError(f"{path}: chooses no learning rate for {name}, which is in this sweep; {again}")
    if not chosen:
        why = "too many replicates diverged at every learning rate"
        raise ConfigError(f"{path}: chooses nothing, because {why}; a report without paths.confirmation says more")
    return [_as(selection.confirmation, job, command) for job in wanted]


def _as(replicates: Replicates, job: Job, command: CommandLine) -> Job:
    """Return a job with other replicates."""
    values = {f"training.{key}": str(value) for key, value in replicates.model_dump().items()}
    kept = [override for override in job.overrides if override.partition("=")[0].lstrip("+") not in values]
    overrides = (*kept, *("=".join(pair) for pair in values.items()))
    return dataclasses.replace(job, overrides=overrides, config=checked(command.composer.compose(overrides)))
