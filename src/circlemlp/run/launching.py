"""Jobs handed to Hydra's launchers, as its sweepers do, and what runs in a worker.

A launcher asks the context it is given for the configuration of each job. Hydra's own loader composes it from the
files again, which takes most of the time of a small job and would take up a file that was edited meanwhile; the one
here hands over what the door composed and checked.
"""

import signal
import sys
from collections.abc import Sequence
from functools import cache, partial
from multiprocessing import resource_tracker
from pathlib import Path
from typing import Any

from hydra._internal.callbacks import Callbacks
from hydra.core.plugins import Plugins
from hydra.core.utils import run_job
from hydra.types import HydraContext
from omegaconf import DictConfig, OmegaConf

from circlemlp import numerics, pinning
from circlemlp.errors import ConfigError, reason
from circlemlp.run.cells import Cell, run
from circlemlp.run.compose import CommandLine, Composer, Job, checked
from circlemlp.run.door import end_with_parent
from circlemlp.store.records import Store
from circlemlp.store.stages import Stage


class Launcher:
    """What runs the jobs of a command line: the chosen launcher for a sweep, this process for one cell."""

    def __init__(self, command: CommandLine) -> None:
        self._multirun = command.multirun
        self._settings = command.settings
        self._task = partial(train_job, stage=command.stage)
        for kind in ("run", "sweep"):  # reading resolves ${now:...}: one value for all jobs, in whichever process
            folder = self._settings.hydra[kind].dir
            if not isinstance(folder, str):
                raise ConfigError(f"hydra.{kind}.dir={folder}: must be a folder")
            self._settings.hydra[kind].dir = folder
        self._context = HydraContext(config_loader=_Composed(command.composer), callbacks=Callbacks())
        self._launched = 0
        if command.multirun:  # before any worker, because it unblocks SIGINT when it is started, see interruptible()
            mask = signal.pthread_sigmask(signal.SIG_BLOCK, ())
            resource_tracker.ensure_running()
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)

    def launch(self, jobs: Sequence[Job]) -> list[str | None]:
        """Run jobs; return for each why it failed, or None where it left a record.

        Raises
        ------
        Exception
            Whatever the launcher raises.
        """
        overrides = [list(job.overrides) for job in jobs]
        if self._multirun:
            launcher = Plugins.instance().instantiate_launcher(
                config=self._settings, hydra_context=self._context, task_function=self._task
            )
            if hasattr(launcher, "joblib"):  # from the start of a worker, as the door may be gone before its first job
                launcher.joblib["initializer"] = _begin_worker
            self._launched += len(jobs)
            done = launcher.launch(overrides, initial_job_idx=self._launched - len(jobs))
        else:
            config = self._context.config_loader.load_sweep_config(self._settings, overrides[0])
            done = [run_job(self._task, config, "hydra.run.dir", None, self._context)]
        return [job.return_value for job in done]


class _Composed:
    """What a launcher asks of Hydra's loader of configurations: that of a job, with the settings all jobs share."""

    def __init__(self, composer: Composer) -> None:
        self._composer = composer

    def load_sweep_config(self, master_config: DictConfig, sweep_overrides: list[str]) -> DictConfig:
        config = self._composer.compose(sweep_overrides)
        OmegaConf.set_struct(config, False)
        config.hydra = master_config.hydra  # a copy
        config.hydra.overrides.task = list(sweep_overrides)
        config.hydra.job.override_dirname = ",".join(sorted(sweep_overrides))
        return config


def _begin_worker() -> None:
    """Begin a worker of joblib's: it ends when the door does, and does without /proc where there is none."""
    end_with_parent()
    if not Path("/proc/self").exists():  # psutil finds no process then, and loky would end the worker over that
        loky: Any = sys.modules["joblib.externals.loky.process_executor"]
        loky._USE_PSUTIL = False


def train_job(composed: DictConfig, stage: Stage) -> str | None:
    """Train the cell of one job; return why it failed, or None. A failure does not stop other jobs."""
    try:
        config = checked(composed)
        run(Cell.of(config, _environment(config.numerics)), Store(Path(config.paths.records)), stage)
    except Exception as error:  # whatever it is, the table at the end has to say it
        return reason(error)
    return None


@cache
def _environment(choice: str) -> dict[str, Any]:
    """Return the numeric environment of a worker, which has the door's environment variables."""
    mode = pinning.resolve(choice)
    pinning.pin(mode)
    return numerics.read_back(mode)
