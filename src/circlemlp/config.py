"""The configuration: every key, its type and its range."""

import re
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, field_validator, model_validator


def _is_a_path(text: str) -> str:
    """Refuse what a shell or a library would take for something else than a path."""
    if re.match(r"[A-Za-z]+:", text) or text.startswith(("~", "$")):
        raise ValueError("must be a path, not an address, and neither ~ nor $ is expanded here")
    if not text.isprintable():
        raise ValueError("must be a path without control characters, in UTF-8")
    return text


def _is_a_name(text: str) -> str:
    """Refuse what no page shows in one line."""
    if not text.isprintable() or len(text) > LONGEST_NAME:
        raise ValueError(f"must be a printable text of at most {LONGEST_NAME} characters")
    return text


def _is_of_a_sweep(text: str) -> str:
    if text.endswith(CONFIRMED):
        raise ValueError(f"must not end in {CONFIRMED}, as what pipelines/confirm.py leaves does")
    return text


CONFIRMED = "_confirmation"
"""How the names of folders of results, and of experiments in notes, end whose replicates judge, and of no others."""
LONGEST_NAME = 100
CONFIRMED_TOGETHER = 10
"""The number of replicates in a record of a confirmation. There are whole records only, so that a confirmation with
more replicates finds all those of one with fewer."""
Count = Annotated[int, Field(ge=1, le=10_000_000)]
PathText = Annotated[str, Field(min_length=1), AfterValidator(_is_a_path)]
ResultsFolder = Annotated[
    str, Field(pattern=r"^results/\w[\w.-]*$", description="a folder in results/, such as results/mine")
]
ConfirmationFolder = Annotated[
    str,
    Field(
        pattern=rf"^results/\w[\w.-]*{CONFIRMED}$",
        description=f"a folder in results/ whose name ends in {CONFIRMED}, such as results/mine{CONFIRMED}",
    ),
]
Seed = Annotated[int, Field(ge=0, le=2**63 - 1)]
Width = Annotated[int, Field(ge=1, le=65_536)]


class Section(BaseModel):
    """A part of the configuration: unknown keys, loose types, NaN and infinity are refused; -0.0 becomes 0.0."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    @field_validator("*")
    @classmethod
    def _zero_has_no_sign(cls, value: Any) -> Any:
        return value + 0.0 if isinstance(value, float) else value


class DataSection(Section):
    """What every data set has. ``file`` is where the points are kept; it does not decide what they are.

    So it is no part of what is hashed and dumped, and a record's configuration has none. ``draws`` says whether each
    replicate has points of its own, or all have the same.
    """

    file: Annotated[PathText, Field(pattern=r"\.npz$", exclude=True, description="a file.npz")] = ""
    draws: Literal["fresh", "shared"]
    n_train: Count
    n_validation: Count
    label_noise: Annotated[float, Field(ge=0, lt=0.5)]
    seed: Seed


class QuarterCircle(DataSection):
    """Points of the unit square. Those inside an arc around the origin are of class 1."""

    shape: Literal["quarter_circle"]
    radius: Annotated[float, Field(gt=0, le=1.4)]


class Disk(DataSection):
    """Points of the square [-1, 1]². Those inside a circle around the origin are of class 1."""

    shape: Literal["disk"]
    radius: Annotated[float, Field(gt=0, le=1.4)]


class Rings(DataSection):
    """Points of the square [-1, 1]². Those between two circles around the origin are of class 1."""

    shape: Literal["rings"]
    inner_radius: Annotated[float, Field(gt=0, le=1.4)]
    outer_radius: Annotated[float, Field(gt=0, le=1.4)]

    @model_validator(mode="after")
    def _inner_lies_inside(self) -> "Rings":
        if self.inner_radius >= self.outer_radius:
            raise ValueError(
                f"data.inner_radius={self.inner_radius}: must be below data.outer_radius={self.outer_radius}"
            )
        return self


Data = QuarterCircle | Disk | Rings


class Model(Section):
    """The architecture: numbers of nodes of the hidden layers, bottom first, their activation and initial weights."""

    hidden_layer_sizes: Annotated[list[Width], Field(min_length=1, max_length=64)]
    activation: Literal["relu", "leaky_relu", "tanh", "gelu"]
    initialisation: Literal["he", "glorot"]


class OptimizerSection(Section):
    """The key that every optimizer has."""

    learning_rate: Annotated[float, Field(gt=0, le=10)]


class AdaptiveSection(OptimizerSection):
    """The keys that Adam and AdamW share; with ``epsilon_hat``, epsilon is added before the bias correction."""

    beta_1: Annotated[float, Field(ge=0, lt=1)]
    beta_2: Annotated[float, Field(ge=0, lt=1)]
    epsilon: Annotated[float, Field(ge=1e-30, le=1)]  # smaller ones vanish in float32
    epsilon_hat: bool


class AdamSection(AdaptiveSection):
    """Adam."""

    name: Literal["adam"]


class AdamWSection(AdaptiveSection):
    """Adam with decoupled weight decay."""

    name: Literal["adamw"]
    weight_decay: Annotated[float, Field(ge=0, le=10)]


class SGDSection(OptimizerSection):
    """Gradient descent with momentum."""

    name: Literal["sgd"]
    momentum: Annotated[float, Field(ge=0, lt=1)]
    nesterov: bool


Optimizer = AdamSection | AdamWSection | SGDSection


class ScheduleSection(Section):
    """What becomes of the learning rate: after a warm-up it stays constant, or falls as half a cosine."""

    decay: Literal["constant", "cosine"]
    warmup_fraction: Annotated[float, Field(ge=0, lt=1)]
    final_fraction: Annotated[float, Field(ge=0, le=1)]


class EarlyStoppingSection(Section):
    """A replicate stops after ``patience`` epochs without a better validation loss. With null it never does."""

    patience: Count | None
    min_delta: Annotated[float, Field(ge=0)]


class Replicates(Section):
    """Some of all possible replicates: from which number on, and how many."""

    first_replicate: Annotated[int, Field(ge=0, le=100_000)]  # all draws before it are in the data file
    replicates: Annotated[int, Field(ge=1, le=10_000)]

    @property
    def numbers(self) -> range:
        """Their numbers."""
        return range(self.first_replicate, self.first_replicate + self.replicates)


class Training(Replicates):
    """How long networks are trained, on what batches, in which arithmetic, and how many of them."""

    epochs: Count
    batch_size: Count | None
    dtype: Literal["float32", "float64"]
    seed: Seed


class Confirmation(Section):
    """How many new replicates judge each chosen cell: those whose numbers follow the ones that chose it."""

    replicates: Annotated[int, Field(ge=CONFIRMED_TOGETHER, le=10_000, multiple_of=CONFIRMED_TOGETHER)]


class Tracking(Section):
    """The MLflow index. ``database: null`` keeps none; ``uri`` is that of an MLflow server which has a copy of it.

    ``experiment`` is the MLflow experiment of what is trained; records note it, beside what decides their result.
    """

    database: PathText | None
    artifacts: PathText
    experiment: Annotated[str, Field(min_length=1), AfterValidator(_is_a_name), AfterValidator(_is_of_a_sweep)]
    curve_points: Annotated[int, Field(ge=2, le=1000)]
    replicate_runs: Annotated[int, Field(ge=0, le=100_000)]
    port: Annotated[int, Field(ge=1, le=65_535)]
    uri: str | None = None

    @model_validator(mode="after")
    def _uri_is_of_a_server(self) -> Self:
        if self.uri is None:
            return self
        if not re.fullmatch(r"https?://(\[[\da-fA-F:]+\]|[\w.-]+)(:\d{1,5})?(/[\w.~/-]*)?", self.uri):
            raise ValueError(  # without the value, as a password could be in it
                "tracking.uri: must be the address of an MLflow server, such as http://127.0.0.1:8080; a name and a "
                "password go into the environment, as MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"
            )
        if self.database is None:
            raise ValueError(
                f"tracking.uri={self.uri}: a server has a copy of the index, so tracking.database is needed"
            )
        return self


class Paths(Section):
    """Where things are kept, relative to the project. ``results: null``: a sweep leaves only records.

    A folder of results is replaced as a whole, so it is always one of its own inside ``results/``; ``confirmation`` is
    that of the replicates which judge. ``reports: null``: a report goes into a folder with the name of its results.
    """

    records: PathText
    results: Annotated[ResultsFolder, AfterValidator(_is_of_a_sweep)] | None
    confirmation: ConfirmationFolder | None
    reports: PathText | None

    @model_validator(mode="after")
    def _confirmation_is_of_the_results(self) -> Self:
        if self.results and self.confirmation and self.confirmation != self.results + CONFIRMED:
            raise ValueError(f"paths.confirmation={self.confirmation}: must be {self.results}{CONFIRMED}, or null")
        return self

    @property
    def report_folder(self) -> Path:
        """Where the report of the results goes: not where another's is, unless a configuration says so."""
        if self.reports is not None:
            return Path(self.reports)
        return Path("reports", Path(self.results).name) if self.results else Path("reports")


class Report(Section):
    """What the report calls a bad run (a true error above it) and practically equal (errors that differ by less)."""

    bad_run_error: Annotated[float, Field(gt=0, le=1)]
    practically_equal: Annotated[float, Field(gt=0, le=1)]


class Indexing(Section):
    """What the program that keeps the index has to know of a sweep that it follows."""

    tracking: Tracking
    report: Report


class Printing(Section):
    """What is printed. ``print_every``: a line every this many epochs for each finished cell."""

    print_every: Count | None


class CellConfig(Section):
    """What decides a cell's result."""

    data: Annotated[Data, Field(discriminator="shape")]
    model: Model
    optimizer: Annotated[Optimizer, Field(discriminator="name")]
    schedule: ScheduleSection
    training: Training
    early_stopping: EarlyStoppingSection

    def deciding(self) -> dict[str, Any]:
        """Return what decides a cell's result as plain values, the same ones for the same result: what is hashed.

        A setting that decides nothing beside the others takes one value, whatever it says.
        """
        values = self.model_dump(include=set(CellConfig.model_fields))
        data, optimizer, schedule, training, stopping = (
            values[name] for name in ("data", "optimizer", "schedule", "training", "early_stopping")
        )
        if training["batch_size"] is not None:
            training["batch_size"] = min(training["batch_size"], data["n_train"])
        steps = training["epochs"] * -(-data["n_train"] // (training["batch_size"] or data["n_train"]))
        if stopping["patience"] is not None and stopping["patience"] > training["epochs"]:
            stopping["patience"] = None
        if stopping["patience"] is None:
            stopping["min_delta"] = 0.0
        warmup = round(schedule["warmup_fraction"] * steps)
        schedule["warmup_fraction"] = warmup / steps
        if schedule["decay"] == "constant" or schedule["final_fraction"] == 1 or steps - warmup <= 1:
            schedule |= {"decay": "constant", "final_fraction": 1.0}
        if optimizer.get("momentum") == 0:
            optimizer["nesterov"] = False
        if optimizer.get("beta_2") == 0:
            optimizer["epsilon_hat"] = False
        if optimizer.get("weight_decay") == 0:
            del optimizer["weight_decay"]
            optimizer["name"] = "adam"
        return values


class Config(CellConfig):
    """Everything."""

    title: Annotated[str, Field(min_length=1)]
    numerics: Literal["auto", "portable", "native"]
    confirmation: Confirmation
    tracking: Tracking
    paths: Paths
    report: Report
    printing: Printing

    @model_validator(mode="after")
    def _data_has_a_file(self) -> Self:
        if not self.data.file:
            raise ValueError("data.file: is missing; allowed: a file.npz")
        return self
