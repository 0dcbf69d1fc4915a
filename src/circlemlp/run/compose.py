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
from typing import NoReturn

from hydra import compose, initialize_config_dir
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra._internal.utils import get_args_parser
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, Override
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from circlemlp.config import Config, known_keys, parse, unknown_key
from circlemlp.errors import ConfigError, first_line

PROJECT = Path(__file__).resolve().parents[3]
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
        All of them, in the order of the sweep.
    exports : bool
        Whether the folder of results is to be written: the jobs are a shipped experiment's, with nothing
        about them changed, or the command line names the folder itself.
    """

    multirun: bool
    jobs: list[Job]
    exports: bool


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
        None where the user only wants to be told something (``--help``, ``--cfg job`` and the like), which is
        Hydra's to answer; what ``--cfg`` is to show has been checked.

    Raises
    ------
    ConfigError
    """
    parser = get_args_parser()
    parser.error = _refuse  # in place of several lines of usage
    parsed = parser.parse_args(list(arguments))
    if parsed.help or parsed.hydra_help or parsed.info or parsed.shell_completion:
        return None
    if parsed.cfg and parsed.multirun:
        raise ConfigError("--cfg: shows one configuration; leave out -m")
    for flag in ("config_name", "config_dir", "config_path", "experimental_rerun"):
        if getattr(parsed, flag):
            raise ConfigError(f"--{flag.replace('_', '-')}: there is one configuration, in conf/; use overrides")
    try:
        overrides = OverridesParser.create().parse_overrides(parsed.overrides)
        for override in overrides:
            _check(override)
        with initialize_config_dir(str(CONF), version_base="1.3"):
            command = _compose_all(overrides, parsed.overrides, multirun=bool(parsed.multirun))
        return None if parsed.cfg else command
    except (
        HydraException,
        OmegaConfBaseException,
        YAMLError,
        AssertionError,
        AttributeError,
        IndexError,
        OSError,
        RecursionError,
        TypeError,
        ValueError,
    ) as error:
        raise _in_one_line(error, parsed.overrides) from None


def _refuse(message: str) -> NoReturn:
    raise ConfigError(f"{message}; --help says what there is")


def _compose_all(overrides: list[Override], texts: Sequence[str], *, multirun: bool) -> CommandLine:
    named = any(override.key_or_group == "paths.results" for override in overrides)
    fixed = [text for text, override in zip(texts, overrides, strict=True) if not override.is_sweep_override()]
    if not multirun:
        for override in overrides:
            if override.is_sweep_override():
                raise ConfigError(f"{override.input_line}: several values make a sweep; add -m")
        return CommandLine(False, [_job(fixed)], exports=named)
    sweeper = compose("config", overrides=fixed, return_hydra_config=True).hydra.sweeper
    if not sweeper["_target_"].endswith("BasicSweeper"):
        raise ConfigError("hydra/sweeper: the sweep is checked before it starts, so only the basic sweeper will do")
    axes = [f"{key}={value}" for key, value in (sweeper.params or {}).items()]
    loader = GlobalHydra.instance().config_loader()
    swept = OverridesParser.create(config_loader=loader).parse_overrides([*axes, *texts])
    (batch,) = BasicSweeper.split_arguments(swept, max_batch_size=None)
    if not batch:
        raise ConfigError("the sweep is empty: no choice matches a glob in it")
    # What is swept is the experiment; where and how Hydra runs it is not.
    same_axes = not any(override.key_or_group.startswith("hydra.sweeper") for override in overrides)
    about = {override.key_or_group.split(".")[0].split("/")[0] for override in overrides}
    unchanged = about <= {"experiment", "hydra", "paths", "progress", "title", "tracking"}
    whole = "experiment" in about and unchanged and same_axes
    return CommandLine(True, [_job(one) for one in batch], exports=whole or named)


def _job(overrides: Sequence[str]) -> Job:
    return Job(tuple(overrides), plain_config(compose("config", overrides=list(overrides))))


def _in_one_line(error: Exception, texts: Sequence[str]) -> ConfigError:
    refused = re.search(r"Could not override '([^']+)'", str(error))
    if refused:
        key = refused[1]
        (value, *_) = [text.partition("=")[2] for text in texts if text.lstrip("+").startswith(f"{key}=")] or ["?"]
        return ConfigError(f"{key}={value}: Hydra has no such key") if _is_hydra(key) else unknown_key(key, value)
    if isinstance(error, OmegaConfBaseException) and error.full_key:
        return ConfigError(f"{error.full_key}: {first_line(error)}")
    return ConfigError(" ".join(str(error).split()) or f"the configuration in conf/: {type(error).__name__}")


def _plain(composed: DictConfig) -> dict[str, object]:
    values = OmegaConf.to_container(composed, resolve=True)
    assert isinstance(values, dict)
    return {str(key): value for key, value in values.items()}


def _is_hydra(key: str) -> bool:
    return re.split("[./]", key)[0] == "hydra"


def _check(override: Override) -> None:
    """Refuse a key or a choice that does not exist, naming the nearest that does."""
    key, text = override.key_or_group, (override.input_line or "").partition("=")[2]
    if not key:
        raise ConfigError(f"{override.input_line}: a key is missing before the =")
    if override.is_interval_sweep():
        raise ConfigError(f"{override.input_line}: an interval needs a sampling sweeper; give values or range(...)")
    if override.is_delete():
        raise ConfigError(f"{override.input_line}: nothing can be left out; give it a value")
    if key == "hydra.mode":
        raise ConfigError("hydra.mode: add -m for a sweep, or leave it out")
    if _is_hydra(key):
        return
    choices = sorted(path.stem for path in (CONF / key).glob("*.yaml"))
    if choices:
        value = override.value()
        wanted = value.list if isinstance(value, ChoiceSweep) else [] if override.is_sweep_override() else [value]
        for one in (getattr(item, "text", item) for item in wanted):
            if str(one) not in choices:
                nearest = difflib.get_close_matches(str(one), choices, n=1, cutoff=0.0)[0]
                shown = "null" if one is None else one
                raise ConfigError(f"{key}={shown}: must be one of {', '.join(choices)}; the nearest is {nearest}")
    elif not any(known == key or known.startswith(f"{key}.") for known in known_keys()):
        groups = [path.name for path in CONF.iterdir() if path.is_dir()]
        nearest = difflib.get_close_matches(key, [*groups, *known_keys()], n=1, cutoff=0.0)[0]
        if nearest not in groups:
            raise unknown_key(key, text)
        choices = sorted(path.stem for path in (CONF / nearest).glob("*.yaml"))
        raise ConfigError(
            f"{key}={text}: there is no such key; the nearest known key is {nearest} (one of {', '.join(choices)})"
        )
