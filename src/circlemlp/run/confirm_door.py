"""The confirmation door: the chosen cells of a sweep, trained again as new replicates, which judge them."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from circlemlp.config import CONFIRMED_TOGETHER
from circlemlp.errors import ConfigError
from circlemlp.run.compose import CommandLine, Job, checked, compose_jobs
from circlemlp.run.door import prepare
from circlemlp.run.train_door import shared, train
from circlemlp.store import selection
from circlemlp.store.selection import Selection, common_settings
from circlemlp.wording import architecture

AGAIN = "choose again, with pipelines/select_rates.py"


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
    config = shared(command)
    if config.paths.confirmation is None:
        raise ConfigError("paths.confirmation=null: name a folder for the results, such as results/mine_confirmation")
    path = Path(config.paths.reports or "reports") / selection.FILE
    chosen = selection.read(path)
    _check(command, chosen, path)
    first = chosen.tuned.numbers.stop
    starts = range(first, first + config.confirmation.replicates, CONFIRMED_TOGETHER)
    jobs = [_as(one, job, command) for job in command.jobs if chosen.wants(job.config) for one in starts]
    command = dataclasses.replace(command, jobs=jobs, stage="confirmation")
    return train(command, config, prepare(config), config.paths.confirmation)


def _check(command: CommandLine, chosen: Selection, path: Path) -> None:
    """Refuse a selection that was not made of this sweep."""
    swept = {(architecture(job.config.model), job.config.optimizer.learning_rate) for job in command.jobs}
    picked = [(architecture(one.model), rate) for one in chosen.choices for rate in one.learning_rates]
    for name, rate in picked:
        if (name, rate) not in swept:
            raise ConfigError(f"{path}: chooses {name} at {rate:g}, which is no cell of this sweep; {AGAIN}")
    for name in sorted({name for name, _ in swept} - {architecture(one.model) for one in chosen.choices}):
        raise ConfigError(f"{path}: chooses no learning rate for {name}, which is in this sweep; {AGAIN}")
    if not picked:
        why = "too many replicates diverged at every learning rate"
        raise ConfigError(f"{path}: chooses nothing, because {why}; a report without paths.confirmation says more")
    numbers = {number for job in command.jobs for number in job.config.training.numbers}
    if numbers != set(chosen.tuned.numbers):
        theirs = f"{chosen.tuned.numbers[0]} to {chosen.tuned.numbers[-1]}"
        raise ConfigError(f"{path}: was chosen by replicates {theirs}, and this sweep has others; {AGAIN}")
    if any(common_settings(job.config) != chosen.settings for job in command.jobs):
        raise ConfigError(f"{path}: was chosen under other settings than this sweep's; {AGAIN}")


def _as(first: int, job: Job, command: CommandLine) -> Job:
    """Return a job with the replicates of one record of the confirmation."""
    values = {"training.first_replicate": first, "training.replicates": CONFIRMED_TOGETHER}
    kept = [override for override in job.overrides if override.partition("=")[0].lstrip("+") not in values]
    overrides = (*kept, *(f"{key}={value}" for key, value in values.items()))
    return dataclasses.replace(job, overrides=overrides, config=checked(command.composer.compose(overrides)))
