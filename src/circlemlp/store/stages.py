"""The two stages of an experiment, and where MLflow has a cell of each.

Names tell the stages apart, those of folders of results and of experiments in records' notes: only the confirmation
door gives any that end as ``CONFIRMED`` does.
"""

from typing import Literal

from circlemlp.config import CONFIRMED
from circlemlp.store.identity import sha256
from circlemlp.store.trained import Trained

Stage = Literal["tuning", "confirmation"]


def stage_of(name: str) -> tuple[str, Stage]:
    """Return the experiment and the stage that a folder of results, or a record's note, names."""
    experiment = name.removesuffix(CONFIRMED)
    return experiment, "tuning" if experiment == name else "confirmation"


def name_of(experiment: str, stage: Stage) -> str:
    """Return the name by which a record's note says which stage of an experiment it is of."""
    return experiment if stage == "tuning" else experiment + CONFIRMED


def run_id(experiment: str, stage: Stage, cell: Trained) -> str:
    """Return the identifier of a cell's MLflow run: the same one whichever of its replicates are trained."""
    return sha256("/".join([experiment, stage, cell.identity]))[:32]
