"""What the tuning replicates chose, as a small file that a person can read: the confirmation trains what it says."""

import json
from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from circlemlp.config import CellConfig, Model, Replicates, Section
from circlemlp.errors import UserError
from circlemlp.store.disk import read_regular, replace_file
from circlemlp.store.identity import canonical, sha256
from circlemlp.store.records import Digest
from circlemlp.wording import in_hydra

FILE = "selection.json"
"""Its name in a folder of reports."""
SELECTION_LIMIT = 10_000_000
"""The most bytes of the file."""


class Choice(Section):
    """The learning rate of one architecture.

    Attributes
    ----------
    architecture : str
        In words; ``model`` is what counts.
    model : Model
    learning_rate : float or None
        None where more than a quarter of the replicates diverged at every rate.
    by_typical_loss : float or None
        The one that the medians of the last tenth of the validation losses choose.
    validation_loss : float or None
        The trimmed mean that chose ``learning_rate``.
    edge : {"lowest", "highest"} or None
        Where ``learning_rate`` is the end of the grid, so that a better one may lie beyond.
    not_separated : list of float or None
        Other rates whose loss may be as low; None if there are too few replicates to tell.
    chosen_by_resamples : dict of str to float
        How often resampled replicates choose each rate.
    """

    architecture: str
    model: Model
    learning_rate: float | None
    by_typical_loss: float | None
    validation_loss: float | None
    edge: Literal["lowest", "highest"] | None
    not_separated: list[float] | None
    chosen_by_resamples: dict[str, float]

    @property
    def learning_rates(self) -> list[float]:
        """The rates to confirm, without repetition: the chosen one first."""
        return list(dict.fromkeys(rate for rate in (self.learning_rate, self.by_typical_loss) if rate is not None))


class Selection(Section):
    """What was chosen and why.

    Attributes
    ----------
    rule : str
        Says it in a sentence.
    settings : str
        The digest of what all cells have in common, see ``common_settings``.
    tuned : Replicates
        Those that chose. Others are to judge.
    choices : list of Choice
    """

    rule: str
    settings: Digest
    tuned: Replicates
    choices: list[Choice]

    def wants(self, config: CellConfig) -> bool:
        """Say whether a cell is one to confirm, by its architecture and learning rate."""
        rate = config.optimizer.learning_rate
        return any(choice.model == config.model and rate in choice.learning_rates for choice in self.choices)


def common_settings(config: CellConfig) -> str:
    """Return the digest of a cell's configuration without architecture, learning rate and range of replicates."""
    values = config.deciding()
    del values["model"], values["optimizer"]["learning_rate"]
    del values["training"]["first_replicate"], values["training"]["replicates"]
    return sha256(canonical(values))


def write(path: Path, selection: Selection) -> None:
    """Write a selection: the same bytes for the same one."""
    replace_file(path, (json.dumps(selection.model_dump(), indent=2, ensure_ascii=False) + "\n").encode())


def read(path: Path) -> Selection:
    """Read a selection.

    Raises
    ------
    UserError
        If it is missing, or not what a selection holds.
    """
    folders = f"paths.results=results/... paths.reports={in_hydra(str(path.parent))}"
    remedy = f"make it from a sweep's results with: python pipelines/select_rates.py {folders}"
    try:
        return Selection.model_validate_json(read_regular(path, SELECTION_LIMIT))
    except (FileNotFoundError, NotADirectoryError):
        raise UserError(f"{path}: there is no selection here; {remedy}") from None
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"])) or "the file"
        raise UserError(f"{path}: cannot be read as a selection ({where}: {first['msg']}); {remedy}") from None
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read as a selection ({error}); {remedy}") from None
