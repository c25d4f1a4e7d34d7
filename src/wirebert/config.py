"""The settings of a run: a frozen dataclass, from a TOML recipe and dotted overrides."""

import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Final, Literal, TypeVar

from wirebert.data.flows import DataConfig
from wirebert.data.registry import identify
from wirebert.data.schema.schema import missing_name
from wirebert.decision.config import DecisionConfig
from wirebert.encoding.config import EncodingConfig
from wirebert.errors import ConfigError
from wirebert.files import read_toml_file, write_atomic
from wirebert.metrics.registry import MACRO_F1, primary_choices
from wirebert.model.config import ModelConfig
from wirebert.serialization import merge, settings_from_dict, settings_to_toml
from wirebert.training.config import TrainConfig
from wirebert.training.distillation_config import DistillationConfig
from wirebert.training.masking_config import MaskingConfig
from wirebert.training.surprisal_config import SurprisalConfig


@dataclass(frozen=True, kw_only=True, slots=True)
class EvaluationConfig:
    """How the finished model is evaluated."""

    baseline: bool = True
    """Train boosted trees on the same rows, and report them as a baseline."""

    baseline_rows: int = 200_000
    """Most training rows of the baseline, spread evenly over the file."""

    num_resamples: int = 1000
    """Bootstrap resamples behind every interval."""

    primary_metric: str = MACRO_F1
    """The metric that decides a comparison; fixed before any test file is opened."""

    def __post_init__(self) -> None:
        if self.baseline_rows < 100:
            raise ConfigError(f"evaluation.baseline_rows must be at least 100, got {self.baseline_rows}")
        if self.num_resamples < 100:
            raise ConfigError(f"evaluation.num_resamples must be at least 100, got {self.num_resamples}")
        if self.primary_metric not in primary_choices():
            choices = ", ".join(primary_choices())
            raise ConfigError(
                f"evaluation.primary_metric must be one of {choices}, got {self.primary_metric!r}"
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class ComparisonConfig:
    """How `wirebert compare` benchmarks the recipe against other methods."""

    protocol: Literal["labels", "benign_only", "leave_attack_out"] = "labels"
    """labels: methods that learn from labels. Other protocols compare detectors without labels, fitted on
    benign rows: benign_only on the tests, leave_attack_out on each attack name of the training file."""

    detectors: tuple[str, ...] = (
        *("learn", "nearest", "ecod", "copod", "isolation_forest", "autoencoder", "deep_svdd"),
    )
    """The detectors of protocols other than labels."""

    contamination: float = 0.0
    """Fraction of attacks among the rows that detectors without labels are fitted on, in [0, 0.5]."""

    max_train_rows: int = 20_000
    """Most rows that detectors are fitted on."""

    num_seeds: int = 5
    """Seeds of every method, starting from the run's seed."""

    num_splits: int = 1
    """Splits of the file, starting from data.split_seed; each is a separate comparison, tuning included."""

    num_trials: int = 8
    """Settings that are tried for each other method: as many as were tried for the recipe."""

    num_folds: int = 3
    """Folds of the training file for tuning, each holding out whole attacks."""

    max_search_rows: int = 60_000
    """Most rows of the training file for tuning trials; rare labels are kept whole."""

    methods: tuple[str, ...] = ("xgboost", "lightgbm", "forest", "logistic", "tabm", "text_svm")
    """The other methods; `text_svm` is skipped for data without text columns."""

    alternative_label_map: Mapping[str, str] = field(default_factory=dict[str, str], hash=False)
    """Label -> class: a second class map, for additional metrics on test files."""

    def __post_init__(self) -> None:
        for name in ("num_seeds", "num_splits", "num_trials"):
            if getattr(self, name) < 1:
                raise ConfigError(f"comparison.{name} must be at least 1, got {getattr(self, name)}")
        if self.num_folds < 2:
            raise ConfigError(f"comparison.num_folds must be at least 2, got {self.num_folds}")
        if not 0 <= self.contamination <= 0.5:
            raise ConfigError(f"comparison.contamination must be in [0, 0.5], got {self.contamination}")
        if self.max_train_rows < 100:
            raise ConfigError(f"comparison.max_train_rows must be at least 100, got {self.max_train_rows}")
        if self.max_search_rows < 100:
            raise ConfigError(f"comparison.max_search_rows must be at least 100, got {self.max_search_rows}")


@dataclass(frozen=True, kw_only=True, slots=True)
class RunConfig:
    """Everything that determines the outcome of one training."""

    train: str = ""
    """Training data: a file, a folder or a glob."""

    test: tuple[str, ...] = ()
    """Test data: files, folders or globs; opened only after the model is saved."""

    seed: int = 1
    """Random seed for the split, initial weights, order of flows and every other draw."""

    data: DataConfig = field(default_factory=DataConfig)
    encoding: EncodingConfig = field(default_factory=EncodingConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    training: TrainConfig = field(default_factory=TrainConfig)
    distillation: DistillationConfig = field(default_factory=DistillationConfig)
    decision: DecisionConfig = field(default_factory=DecisionConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    comparison: ComparisonConfig = field(default_factory=ComparisonConfig)

    def __post_init__(self) -> None:
        _check_seed(self.seed)


@dataclass(frozen=True, kw_only=True, slots=True)
class LearnConfig:
    """Everything that determines what `wirebert learn` makes of unlabelled traffic."""

    rows: tuple[str, ...] = ()
    """Data, labelled or not: files, folders or globs. The first one determines the schema."""

    seed: int = 1
    """Random seed for initial weights, order of flows, masks and every other draw."""

    data: DataConfig = field(default_factory=DataConfig)
    encoding: EncodingConfig = field(default_factory=EncodingConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    training: TrainConfig = field(default_factory=TrainConfig)
    masking: MaskingConfig = field(default_factory=MaskingConfig)
    surprisal: SurprisalConfig = field(default_factory=SurprisalConfig)
    decision: DecisionConfig = field(default_factory=DecisionConfig)

    def __post_init__(self) -> None:
        _check_seed(self.seed)
        if self.training.reweights_classes:
            raise ConfigError(
                f"training.class_weights must be none without labels, got {self.training.class_weights!r}"
            )
        if self.data.split not in ("random", "time"):
            raise ConfigError(
                f"data.split must be left out: later flows set the thresholds, got {self.data.split}"
            )
        for name in ("prior", "logit_offsets"):
            if getattr(self.decision, name):
                raise ConfigError(f"decision.{name} must be left out, as no class has labels")


LEARN_DEFAULTS: Final[Mapping[str, object]] = {
    "model": {"size": "mini"},
    "data": {"valid_fraction": 0.2},
    "decision": {"alert_score": "attack_and_novelty", "novelty_weight": 4.0},
}
"""Where `wirebert learn` has other defaults than the sections. `mini` scores on a CPU what a sensor sees."""

AnyRun = TypeVar("AnyRun", RunConfig, LearnConfig)


def _check_seed(seed: int) -> None:
    if not 0 <= seed < 2**31:
        raise ConfigError(f"seed must be in [0, 2^31), got {seed}")


def resolve_run(
    recipe: Path | None = None,
    overrides: Iterable[str] = (),
    given: Mapping[str, object] | None = None,
    *,
    inherited: Mapping[str, object] | None = None,
) -> RunConfig:
    """The run from a recipe, then `section.name=value` overrides, then command-line options.

    Args:
        inherited: Settings that replace the defaults.
    """
    return _resolve(RunConfig, recipe, overrides, given, inherited)


def resolve_learning(
    recipe: Path | None = None,
    overrides: Iterable[str] = (),
    given: Mapping[str, object] | None = None,
    *,
    inherited: Mapping[str, object] | None = None,
) -> LearnConfig:
    """What `wirebert learn` runs, from a recipe, then overrides, then command-line options."""
    return _resolve(LearnConfig, recipe, overrides, given, {**LEARN_DEFAULTS, **(inherited or {})})


def _resolve(
    kind: type[AnyRun],
    recipe: Path | None,
    overrides: Iterable[str],
    given: Mapping[str, object] | None,
    inherited: Mapping[str, object] | None = None,
) -> AnyRun:
    values = merge(inherited or {}, {} if recipe is None else read_toml(recipe))
    values.pop(_FOR_FILE, None)
    for override in overrides:
        values = merge(values, parse_override(override))
    return settings_from_dict(kind, merge(values, given or {}))


NO_RECIPE: Final = "none"
"""`--recipe none`: the defaults, even for a file that a recipe is made for."""

_FOR_FILE: Final = "for_file"
"""In a recipe: the published file that it is made for."""


def known_recipes() -> dict[str, Path]:
    """The recipes that come with wirebert, by name."""
    folder = Path(str(resources.files("wirebert").joinpath("recipes")))
    return {path.stem: path for path in sorted(folder.glob("*.toml"))}


def find_recipe(name: str) -> Path | None:
    """The recipe of this name, or the TOML file; None for `NO_RECIPE`.

    Raises:
        ConfigError: there is neither.
    """
    known = known_recipes()
    if name == NO_RECIPE or name in known:
        return known.get(name)
    if not Path(name).is_file():
        raise ConfigError(f"--recipe: {missing_name('recipe or TOML file', name, [*known, NO_RECIPE])}")
    return Path(name)


def recipe_for(data: str) -> Path | None:
    """The recipe that is made for this training file, recognised by its content; None if there is none."""
    published = identify(Path(data))
    made_for = {read_toml(path).get(_FOR_FILE): path for path in known_recipes().values()}
    return None if published is None else made_for.get(published.name)


_SETS_CLASSES: Final = re.compile(
    r"data\.(label|label_map|benign|positive|schema|split|left_out_class|min_class_rows|rare_classes)\b"
)


def sets_classes(settings: Iterable[str]) -> bool:
    """Whether settings, by their names, make other classes than those a recipe is made for."""
    return any(map(_SETS_CLASSES.match, settings))


def read_toml(path: Path) -> dict[str, object]:
    """The content of a recipe.

    Raises:
        ConfigError: the file cannot be read, or is not TOML.
    """
    try:
        # A run may name a data file by bytes that are no UTF-8.
        return read_toml_file(path, "surrogateescape")
    except OSError as error:
        raise ConfigError(f"recipe {path}: expected a readable TOML file, found {error.strerror}") from error
    except ValueError as error:
        raise ConfigError(f"recipe {path}: expected TOML, found an error: {error}") from error


def write_run(run: RunConfig | LearnConfig, path: Path) -> None:
    """Write the resolved run with a comment on each setting; `resolve_run`/`resolve_learning` read it."""
    write_atomic(path, settings_to_toml(run).encode("utf-8", "surrogateescape"))


_NAME: Final = r'(?:"[^"]+"|[^."=]+)'
_OVERRIDE: Final = re.compile(rf"({_NAME}(?:\.{_NAME})*)=(.*)", re.DOTALL)


def parse_override(text: str) -> dict[str, object]:
    """The nested value that `section.name=value` sets; a value that is not TOML is read as text.

    A name with a dot or an equals sign is quoted as in TOML.

    >>> parse_override("training.epochs=3")
    {'training': {'epochs': 3}}
    >>> parse_override("model.size=mini")
    {'model': {'size': 'mini'}}
    >>> parse_override('decision.prior."v1.0"=0.2')
    {'decision': {'prior': {'v1.0': 0.2}}}
    >>> parse_override("mini")
    Traceback (most recent call last):
    wirebert.errors.ConfigError: --set expects SECTION.NAME=VALUE, got 'mini'
    """
    match = _OVERRIDE.fullmatch(text)
    names = [name.strip().strip('"') for name in re.findall(_NAME, match[1])] if match else []
    if match is None or not all(names):
        raise ConfigError(f"--set expects SECTION.NAME=VALUE, got {text!r}")
    value_text = match[2]
    try:
        parsed = tomllib.loads(f"value = {value_text}")
    except (tomllib.TOMLDecodeError, RecursionError):
        parsed = {}
    # More than one name: the text had a line break, so it is not one value.
    value: object = parsed["value"] if len(parsed) == 1 else value_text.strip()
    for name in reversed(names):
        value = {name: value}
    return value if isinstance(value, dict) else {}
