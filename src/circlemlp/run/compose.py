"""From a command line to checked configurations, before anything runs.

Hydra composes files and groups, once for each choice of groups. Values of other keys are applied to that as Hydra
applies them itself, which takes a thousandth of the time, and every configuration is checked, so that bad input ends
in one line and nothing has been written. Only this module and ``launching`` touch Hydra's internals.
"""

import copy
import difflib
import itertools
import math
import re
import shlex
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, NoReturn

import hydra
import yaml
from hydra import compose, initialize_config_dir
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra._internal.utils import get_args_parser
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, Override
from hydra.core.plugins import Plugins
from hydra.errors import HydraException
from hydra.plugins.launcher import Launcher
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from circlemlp.config import Config, Tracking
from circlemlp.errors import ConfigError, first_line
from circlemlp.project import CONF
from circlemlp.run.checking import allowed, choices, known_keys, parse, unknown_key
from circlemlp.store.disk import read_regular
from circlemlp.store.stages import Stage
from circlemlp.wording import in_hydra

MOST_CELLS = 100_000
MOST_BYTES = 100_000
"""The most bytes of a file of conf/."""
MOST_INTERPOLATIONS = 20
"""The most ``${...}`` of a configuration. Each can hold others, so that what they expand to doubles with each."""
CHOSEN = r"(launcher|run\.dir|sweep\.(dir|subdir)|output_subdir)\b"
"""The settings below ``hydra.`` that a user may choose."""
FILLED_IN = r"(help|hydra_help|overrides|runtime|job\.(name|id|num|override_dirname|config_name))\b"
"""Those that Hydra fills in, and the texts of its help."""
FIXED = {
    "hydra_logging.version": 1,
    "job_logging.version": 1,
    "job.config.override_dirname.item_sep": ",",
    "job.config.override_dirname.kv_sep": "=",
    "sweeper._target_": f"{BasicSweeper.__module__}.{BasicSweeper.__qualname__}",
}
"""The other settings that are not empty. Hydra imports, calls and writes what some name, so they stay as they are."""
ANY_MISTAKE = (
    *(HydraException, OmegaConfBaseException, yaml.YAMLError, AssertionError, AttributeError),
    *(IndexError, OSError, RecursionError, TypeError, ValueError),
)
"""What Hydra raises on bad input."""
GRID = "grid"
"""The node of an experiment that says over which values it sweeps."""


class ForHydra(Exception):
    """A command line that only Hydra answers, as ``explain`` does: ``--help``, ``--cfg job`` and the like."""


@dataclass(frozen=True)
class Job:
    """One configuration and the overrides that lead to it."""

    overrides: tuple[str, ...]
    config: Config


@dataclass
class Composer:
    """Configurations from overrides. Each choice of groups is composed once, whatever else is overridden."""

    bases: dict[tuple[str, ...], DictConfig] = field(default_factory=dict)

    def compose(self, overrides: Sequence[str]) -> DictConfig:
        """Return what Hydra composes, but for its own node."""
        parsed = [override for override in map(_parse, overrides) if not override.is_hydra_override()]
        groups = tuple(str(override.input_line) for override in parsed if choices(override.key_or_group))
        if groups not in self.bases:
            self.bases[groups] = compose("config", overrides=list(groups))
        composed = copy.deepcopy(self.bases[groups])
        values = [override for override in parsed if not choices(override.key_or_group)]
        ConfigLoaderImpl._apply_overrides_to_config(values, composed)
        return composed


@dataclass(frozen=True)
class CommandLine:
    """What the user asked for.

    Attributes
    ----------
    multirun : bool
        Whether ``-m`` was given.
    jobs : list of Job
        All of them, in the order of the sweep.
    in_experiment : int
        The number of cells of the sweep that the chosen experiment is.
    settings : DictConfig
        Hydra's own, under ``hydra``.
    composer : Composer
        What the jobs were composed with.
    stage : {"tuning", "confirmation"}
        Whether their replicates choose or judge, which records note.
    """

    multirun: bool
    jobs: list[Job]
    in_experiment: int
    settings: DictConfig
    composer: Composer
    stage: Stage = "tuning"


def checked(composed: DictConfig) -> Config:
    """Check a configuration that Hydra composed."""
    _check_references(OmegaConf.to_container(composed))
    values = OmegaConf.to_container(composed, resolve=True)
    assert isinstance(values, dict)
    return parse({str(key): value for key, value in values.items() if key not in ("hydra", GRID)})


def _check_references(values: object) -> None:
    """Refuse values that refer to others so often that they could expand without end."""
    if str(values).count("${") > MOST_INTERPOLATIONS:
        raise ConfigError(
            f"the configuration: more than {MOST_INTERPOLATIONS} values that refer to others, as ${{...}}"
        )


@hydra.main(version_base="1.3", config_path=str(CONF), config_name="config")
def explain(_: object) -> None:
    """Let Hydra answer ``--help``, ``--cfg job`` and the like, from the command line of this process."""


def compose_jobs(arguments: Sequence[str], *, multirun: bool = False) -> CommandLine:
    """Compose and check everything a command line of a Hydra application asks for.

    Parameters
    ----------
    arguments : sequence of str
        Without the program's name.
    multirun : bool
        Whether it is a sweep even without ``-m``.

    Raises
    ------
    ConfigError
    ForHydra
        What ``--cfg`` is to show has been checked.
    """
    parser = get_args_parser()
    parser.error = _refuse  # in place of several lines of usage
    parsed = parser.parse_intermixed_args([_decoded(argument) for argument in arguments])
    if parsed.cfg and parsed.multirun:
        raise ConfigError("--cfg: shows one configuration; leave out -m")
    for flag in ("config_name", "config_dir", "config_path", "experimental_rerun"):
        if getattr(parsed, flag):
            raise ConfigError(f"--{flag.replace('_', '-')}: there is one configuration, in conf/; use overrides")
    if (parsed.package or parsed.resolve) and not parsed.cfg:
        raise ConfigError("--package and --resolve: they belong to --cfg")
    if parsed.shell_completion:
        raise ForHydra
    texts, multirun = parsed.overrides, multirun or bool(parsed.multirun)
    try:
        for path in CONF.rglob("*.yaml"):
            _check_file(path)
        with initialize_config_dir(str(CONF), version_base="1.3"):
            for text in texts:
                _check(_parse(text), multirun=multirun)
            if parsed.help:
                print(f"{sys.modules['__main__'].__doc__}\n")
            if parsed.help or parsed.hydra_help or parsed.info:
                raise ForHydra
            command = _compose_all(texts, multirun=multirun)
    except ANY_MISTAKE as error:
        raise _in_one_line(error, texts) from None
    if parsed.cfg:
        raise ForHydra
    return command


def compose_one(arguments: Sequence[str]) -> Config:
    """Compose and check the one configuration that a command line asks for.

    Raises
    ------
    ConfigError
        Also for a sweep.
    ForHydra
    """
    command = compose_jobs(arguments)
    if command.multirun:
        raise ConfigError("-m: this takes one configuration; leave it out")
    return command.jobs[0].config


def index_command(records: str, tracking: Tracking) -> str:
    """Return the command that brings an index of records up to date: ``make ui``, unless that shows another one."""
    shipped = compose_one([])
    places = {"paths.records": (records, shipped.paths.records)} | {
        f"tracking.{key}": (getattr(tracking, key), getattr(shipped.tracking, key))
        for key in ("database", "artifacts", "uri")
    }
    others = [f"{key}={in_hydra(one)}" for key, (one, usual) in places.items() if one != usual]
    return shlex.join(["python", "pipelines/index.py", *others]) if others else "make ui"


def _refuse(message: str) -> NoReturn:
    raise ConfigError(f"{message}; --help says what there is")


def _decoded(argument: str) -> str:
    try:
        argument.encode()
    except UnicodeEncodeError:
        shown = argument.encode(errors="backslashreplace").decode()
        raise ConfigError(f"{shown}: is not UTF-8 text") from None
    return argument


@cache
def _parse(text: str) -> Override:
    hydra_ = GlobalHydra.instance()
    try:
        # The loader is there to expand globs; in a worker there are none any more.
        loader = hydra_.config_loader() if hydra_.is_initialized() else None
        (override,) = OverridesParser.create(loader).parse_overrides([text])
    except HydraException:
        key, equals, value = text.partition("=")
        if not equals:
            raise ConfigError(f"{text}: a setting has the form key=value") from None
        if not re.fullmatch(r"[+~]{0,2}[\w./@-]+", key) or key.startswith("/"):
            raise ConfigError(f"{text}: {key} is no key; keys are like model or optimizer.learning_rate") from None
        quote = "'" if '"' in value else '"'
        quoted = shlex.quote(f"{key}={quote}{value}{quote}")
        raise ConfigError(f"{text}: Hydra needs quotes around special characters: {quoted}") from None
    return override


def _compose_all(texts: Sequence[str], *, multirun: bool) -> CommandLine:
    fixed = [text for text in texts if not _parse(text).is_sweep_override()]
    composed = compose("config", overrides=fixed, return_hydra_config=True)
    settings = composed.hydra
    _check_settings(settings)
    in_experiment = _axes(composed)
    for axis in in_experiment:
        _check(_parse(axis), multirun=True)
    composer = Composer()
    sweep = list(_product([*in_experiment, *texts])) if multirun else [tuple(texts)]
    jobs = [Job(one, checked(composer.compose(one))) for one in sweep]
    return CommandLine(
        multirun, jobs, len(list(_product(in_experiment))), OmegaConf.create({"hydra": settings}), composer
    )


def _axes(composed: DictConfig) -> list[str]:
    """Return the axes of an experiment as overrides.

    Hydra's own place for them, ``hydra.sweeper.params``, has keys with dots, which ``dvc exp run -S`` cannot address.
    """
    if GRID not in composed:
        return []
    node = composed[GRID]
    grid: Any = OmegaConf.to_container(node, resolve=True) if OmegaConf.is_config(node) else node
    if not isinstance(grid, dict) or not grid:
        raise ConfigError(f"{GRID}={in_hydra(grid)}: must be a section of lists")
    axes: dict[str, str] = {}
    for name, values in grid.items():
        if not isinstance(values, list) or not values:
            raise ConfigError(f"{GRID}.{name}={values}: must be a list of one or more values")
        key = _full_key(str(name))
        if key in axes:
            raise ConfigError(f"{GRID}.{name}: {key} is in the grid twice")
        axes[key] = f"{key}={','.join(map(in_hydra, values))}"
    return list(axes.values())


def _full_key(name: str) -> str:
    """Return the group or the key of the configuration that goes by a name, which may be its last part alone."""
    if name == "experiment":
        raise ConfigError(f"{GRID}.experiment: is the grid of an experiment, which cannot choose another one")
    if re.fullmatch(r"\w+", name) and choices(name):
        return name
    found = [key for key in known_keys() if key == name or key.endswith(f".{name}")]
    if not found:
        raise ConfigError(f"{GRID}.{name}: neither a group of conf/ nor the last part of a key has this name")
    if len(found) > 1:
        raise ConfigError(f"{GRID}.{name}: is the last part of more than one key: {', '.join(found)}")
    return found[0]


def _product(texts: Sequence[str]) -> Iterator[tuple[str, ...]]:
    """Yield the overrides of each job of a sweep, as Hydra's basic sweeper does: the last text of a key counts."""
    axes: dict[str, list[str]] = {}
    for override in map(_parse, texts):
        key, swept = override.get_key_element(), override.is_sweep_override()
        values = override.sweep_string_iterator() if swept else [override.get_value_element_as_str()]
        axes[key] = [f"{key}={value}" for value in itertools.islice(values, MOST_CELLS + 1)]
        if not axes[key]:
            raise ConfigError(f"{override.input_line}: the sweep is empty")
    if math.prod(map(len, axes.values())) > MOST_CELLS:
        raise ConfigError(f"the sweep has more than {MOST_CELLS:_} cells")
    return itertools.product(*axes.values())


def _check_settings(composed: DictConfig) -> None:
    """Refuse settings of Hydra's own that would make it do more than launch jobs."""
    settings: Any = OmegaConf.to_container(composed)
    _check_references({key: value for key, value in settings.items() if key not in ("overrides", "job")})
    settings["launcher"] = OmegaConf.to_container(composed.launcher, resolve=True)
    for key, value in _leaves(settings):
        as_shipped = value == FIXED.get(key) or value in (None, False, [], {})
        if not (as_shipped or re.match(f"{CHOSEN}|{FILLED_IN}", key)):
            raise ConfigError(f"hydra.{key}={value}: this setting of Hydra's cannot be changed here")
        if key.startswith("launcher.") and "_target_" in key.split(".")[2:]:
            raise ConfigError(f"hydra.{key}={value}: nothing is instantiated but the launcher")
    target = settings["launcher"]["_target_"]
    if target not in (f"{one.__module__}.{one.__qualname__}" for one in Plugins.instance().discover(Launcher)):
        raise ConfigError(f"hydra.launcher._target_={target}: there is no such launcher")


def _leaves(values: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the dotted keys and the values of nested sections and lists."""
    items = values.items() if isinstance(values, dict) else enumerate(values) if isinstance(values, list) else ()
    if not items:
        yield prefix.removesuffix("."), values
    for key, value in items:
        yield from _leaves(value, f"{prefix}{key}.")


def _check_file(path: Path) -> None:
    """Refuse a file of conf/ that could expand to more than a person wrote."""
    name = path.relative_to(CONF.parent)
    try:
        content = read_regular(path, MOST_BYTES)
    except ValueError as error:
        raise ConfigError(f"{name}: {error}") from None
    if b"*" in content and any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(content)):
        raise ConfigError(f"{name}: has YAML aliases (*name), which are not allowed here; write the values out")


def _in_one_line(error: Exception, texts: Sequence[str]) -> ConfigError:
    refused = re.search(r"Could not override '([^']+)'", str(error))
    if refused:
        key = refused[1]
        (value, *_) = [text.partition("=")[2] for text in texts if text.lstrip("+").startswith(f"{key}=")] or ["?"]
        return ConfigError(f"{key}={value}: Hydra has no such key") if _is_hydra(key) else unknown_key(key, value)
    if isinstance(error, OmegaConfBaseException) and error.full_key:
        return ConfigError(f"{error.full_key}: {first_line(error)}")
    if isinstance(error, AssertionError | AttributeError | IndexError | TypeError):  # of Hydra's insides
        return ConfigError(f"Hydra cannot compose a configuration from: {shlex.join(texts)}")
    return ConfigError(" ".join(str(error).split()) or f"the configuration in conf/: {type(error).__name__}")


def _is_hydra(key: str) -> bool:
    return re.split("[./]", key)[0] == "hydra"


def _check(override: Override, *, multirun: bool) -> None:
    """Refuse a key or a choice that does not exist, naming the nearest that does."""
    key, line = override.key_or_group, override.input_line or ""
    if not key:
        raise ConfigError(f"{line}: a key is missing before the =")
    if override.is_interval_sweep():
        raise ConfigError(f"{line}: an interval needs a sampling sweeper; give values or range(...)")
    if override.is_delete():
        raise ConfigError(f"{line}: nothing can be left out; give it a value")
    if override.is_sweep_override() and not multirun:
        raise ConfigError(f"{line}: several values make a sweep; add -m")
    if override.is_sweep_override() and _is_hydra(key):
        raise ConfigError(f"{line}: a sweep has one value of each of Hydra's own settings")
    if key == "hydra.mode":
        raise ConfigError("hydra.mode: add -m for a sweep, or leave it out")
    hydras_own = key.startswith("hydra/") and key != "hydra/launcher" and override.value() not in choices(key)
    if key == "hydra.searchpath" or hydras_own:  # refused before anything is read
        raise ConfigError(f"{line}: this setting of Hydra's cannot be changed here")
    if _is_hydra(key):
        return
    if known := choices(key):
        value = override.value()
        wanted = value.list if isinstance(value, ChoiceSweep) else [] if override.is_sweep_override() else [value]
        for one in (getattr(item, "text", item) for item in wanted):
            if str(one) not in known:
                nearest = difflib.get_close_matches(str(one), known, n=1, cutoff=0.0)[0]
                shown = "null" if one is None else one
                raise ConfigError(f"{key}={shown}: must be {allowed(key)}; the nearest is {nearest}")
    elif not any(one == key or one.startswith(f"{key}.") for one in known_keys()):
        raise unknown_key(key, line.partition("=")[2])
