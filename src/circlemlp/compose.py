"""From a command line to checked configurations, before anything runs.

Hydra itself checks a key only when it composes a job, and reports a problem over several lines. Here the
whole sweep is composed and checked first, with Hydra's own parser, sweeper and composition, so that bad
input ends in one line and nothing has been written.
"""

import difflib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hydra import compose, initialize_config_dir
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra._internal.utils import get_args_parser
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from circlemlp.config import Config, known_keys, parse, unknown_key
from circlemlp.errors import ConfigError

PROJECT = Path(__file__).resolve().parents[2]
CONF = PROJECT / "conf"


@dataclass(frozen=True)
class Job:
    """One configuration and the overrides that lead to it."""

    overrides: tuple[str, ...]
    config: Config


@dataclass(frozen=True)
class CommandLine:
    """What the user asked for.

    Attributes
    ----------
    multirun : bool
        Whether ``-m`` was given.
    jobs : list of Job
        All of them, or, where the sweeper chooses values as it goes (Optuna, say), the one that has no
        swept value.
    complete : bool
        Whether ``jobs`` is all of them.
    """

    multirun: bool
    jobs: list[Job]
    complete: bool


def plain_config(composed: DictConfig) -> Config:
    """Check a configuration that Hydra composed."""
    return parse({key: value for key, value in _plain(composed).items() if key != "hydra"})


def compose_jobs(arguments: Sequence[str]) -> CommandLine | None:
    """Compose and check everything a command line of a Hydra application asks for.

    Parameters
    ----------
    arguments : sequence of str
        Without the program's name.

    Returns
    -------
    CommandLine or None
        None where the user only wants to be told something (``--help``, ``--cfg job`` and the like).

    Raises
    ------
    ConfigError
    """
    parsed = get_args_parser().parse_args(list(arguments))
    if parsed.help or parsed.hydra_help or parsed.cfg or parsed.info or parsed.shell_completion:
        return None
    try:
        overrides = OverridesParser.create().parse_overrides(parsed.overrides)
        for override in overrides:
            _check(override)
        with initialize_config_dir(str(CONF), version_base="1.3"):
            return _compose_all(overrides, parsed.overrides, multirun=bool(parsed.multirun))
    except (HydraException, OmegaConfBaseException) as error:
        raise _in_one_line(error, parsed.overrides) from None


def _compose_all(overrides: list[Override], texts: Sequence[str], *, multirun: bool) -> CommandLine:
    fixed = [text for text, override in zip(texts, overrides, strict=True) if not override.is_sweep_override()]
    if not multirun:
        for override in overrides:
            if override.is_sweep_override():
                raise ConfigError(f"{override.input_line}: several values make a sweep; add -m")
        return CommandLine(False, [_job(fixed)], complete=True)
    sweeper = compose("config", overrides=fixed, return_hydra_config=True).hydra.sweeper
    if not sweeper["_target_"].endswith("BasicSweeper"):
        return CommandLine(True, [_job(fixed)], complete=False)
    axes = [f"{key}={value}" for key, value in (sweeper.params or {}).items()]
    swept = OverridesParser.create().parse_overrides([*axes, *texts])
    (batch,) = BasicSweeper.split_arguments(swept, max_batch_size=None)
    return CommandLine(True, [_job(one) for one in batch], complete=True)


def _job(overrides: Sequence[str]) -> Job:
    return Job(tuple(overrides), plain_config(compose("config", overrides=list(overrides))))


def _in_one_line(error: Exception, texts: Sequence[str]) -> ConfigError:
    refused = re.search(r"Could not override '([^']+)'", str(error))
    if refused:
        key = refused[1]
        (value, *_) = [text.partition("=")[2] for text in texts if text.startswith(f"{key}=")] or ["?"]
        return unknown_key(key, value)
    return ConfigError(" ".join(str(error).split()))


def _plain(composed: DictConfig) -> dict[str, object]:
    values = OmegaConf.to_container(composed, resolve=True)
    assert isinstance(values, dict)
    return {str(key): value for key, value in values.items()}


def _check(override: Override) -> None:
    """Refuse a key or a choice that does not exist, naming the nearest that does."""
    key, value = override.key_or_group, (override.input_line or "").partition("=")[2]
    if key.split(".")[0].split("/")[0] == "hydra":
        return
    choices = sorted(path.stem for path in (CONF / key).glob("*.yaml"))
    if choices and not override.is_delete():
        for one in value.split(","):
            if one not in choices and not (key == "experiment" and one == "null"):
                nearest = difflib.get_close_matches(one, choices, n=1, cutoff=0.0)[0]
                raise ConfigError(f"{key}={one}: must be one of {', '.join(choices)}; the nearest is {nearest}")
    elif not any(known == key or known.startswith(f"{key}.") for known in known_keys()):
        raise unknown_key(key, value)
