"""The settings of section `model`, and the architecture they resolve to.

`ModelConfig` has the user's settings; `Architecture` has the shapes of a model, as in its `config.json`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Final, Literal

from wirebert.errors import ConfigError
from wirebert.files import read_json_file
from wirebert.model.pattern_names import FULL, check_pattern, import_pattern

AttentionKernel = Literal["auto", "tiles", "math", "sdpa", "flash", "varlen", "memory_efficient", "flex"]

WITHOUT_DROPOUT: Final[tuple[AttentionKernel, ...]] = ("flash", "varlen", "flex")
"""Kernels that cannot drop attention weights (`flash`: those of packed rows)."""

Precision = Literal["fp32", "bf16", "fp16"]
"""Number format of matrix products; weights stay fp32."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelConfig:
    """Which DistilBERT to train and where it starts."""

    size: str = "base"
    """`base` (6 layers, width 768, 12 heads), `mini` (2, 128, 4), or a path to a DistilBERT `config.json`."""

    dim: int | None = None
    """Width of a token's hidden state, a multiple of num_heads; none: set by size."""

    num_layers: int | None = None
    """Transformer blocks, at least 1; none: set by size."""

    num_heads: int | None = None
    """Attention heads per block, at least 1; none: set by size."""

    hidden_dim: int | None = None
    """Inner width of a block's feed-forward network, at least 1; none: set by size."""

    dropout: float | None = None
    """Dropout rate of hidden values, in [0, 1); none: set by size (0.1)."""

    attention_dropout: float | None = None
    """Dropout rate of attention weights, in [0, 1); none: set by size (0.1)."""

    head_dropout: float | None = None
    """Dropout rate before the classifier, in [0, 1); none: set by size (0.2)."""

    max_positions: int | None = None
    """Longest row in tokens, at least 1; none: set by size (512)."""

    init_from: str = "scratch"
    """`scratch`, a folder with `config.json` and `model.safetensors`, or a name on the Hugging Face hub."""

    attention: AttentionKernel = "auto"
    """Attention kernel; results are equal up to rounding. On a CPU all except `math` are `sdpa`."""

    attention_pattern: str = FULL
    """Which tokens see each other: `full`, `columns` (of one group in the schema), `window:REACH`, or
    `package.module:function`. Other than full, stock `transformers` cannot compute it."""

    gradient_checkpointing: bool = False
    """Recompute each block in the backward pass instead of storing its activations: less memory, slower."""

    def __post_init__(self) -> None:
        for name in ("dim", "num_layers", "num_heads", "hidden_dim", "max_positions"):
            count: int | None = getattr(self, name)
            if count is not None and count < 1:
                raise ConfigError(f"model.{name} must be at least 1, got {count}")
        for name in ("dropout", "attention_dropout", "head_dropout"):
            rate: float | None = getattr(self, name)
            if rate is not None and not 0 <= rate < 1:
                raise ConfigError(f"model.{name} must be in [0, 1), got {rate}")
        import_pattern(self.attention_pattern)
        if self.attention in WITHOUT_DROPOUT and self.attention_dropout != 0:
            raise ConfigError(
                f"model.attention={self.attention} cannot drop attention weights: model.attention_dropout "
                f"must be 0, got {self.attention_dropout}"
            )
        if not self.size or not self.init_from:
            raise ConfigError("model.size and model.init_from must not be empty")


@dataclass(frozen=True, kw_only=True, slots=True)
class Architecture:
    """The shapes and dropout rates of one model: everything needed to build it."""

    vocab_size: int
    num_classes: int
    dim: int = 768
    num_layers: int = 6
    num_heads: int = 12
    hidden_dim: int = 3072
    dropout: float = 0.1
    attention_dropout: float = 0.1
    head_dropout: float = 0.2
    max_positions: int = 512
    positions: bool = True
    """False: the order has no meaning, so the position rows are zero and frozen."""

    num_columns: int = 0
    """Number of column embeddings, each shared by the tokens of one slot; 0: none."""

    pad_id: int = 0

    attention_pattern: str = FULL
    """Which tokens see each other (`wirebert.model.patterns`)."""

    max_masked: int = 0
    """Maximum masked tokens per row of a masked language model; 0: a classifier."""

    def __post_init__(self) -> None:
        if self.dim % self.num_heads:
            raise ConfigError(
                f"model.dim must be a multiple of model.num_heads, got {self.dim} and {self.num_heads}"
            )

    @property
    def num_parameters(self) -> int:
        """Number of weights of a stock classifier of this shape."""
        dim, hidden_dim = self.dim, self.hidden_dim
        embeddings = (self.vocab_size + self.max_positions + 2) * dim
        block = 4 * (dim + 1) * dim + (dim + 1) * hidden_dim + (hidden_dim + 1) * dim + 4 * dim
        head = (dim + 1) * dim + (dim + 1) * self.num_classes
        return embeddings + self.num_layers * block + head

    @classmethod
    def from_hugging_face(cls, settings: Mapping[str, object], *, where: str) -> "Architecture":
        """Read a DistilBERT `config.json`; `where` names it in error messages.

        Missing settings have DistilBERT's defaults. Positions and columns are not in such a file: a stock
        model has positions and no column embeddings.

        Raises:
            ConfigError: The file is of another kind of model, or has a setting that is not supported.
        """
        if settings.get("model_type", "distilbert") not in ("distilbert", _PATTERNED):
            raise ConfigError(
                f"{where}: expected model_type 'distilbert', got {settings['model_type']!r}; use a "
                "DistilBERT model"
            )
        for name, only in _ONLY.items():
            if settings.get(name, only) != only:
                raise ConfigError(
                    f"{where}: {name} must be {only!r}, got {settings[name]!r}; no other is supported"
                )
        names = settings.get("id2label")
        num_classes = len(names) if isinstance(names, Mapping) else settings.get("num_labels", 2)
        values = {ours: settings[theirs] for ours, theirs in _THEIR_NAMES.items() if theirs in settings}
        for name, value in values.items():
            _check(name, value, where)
        pattern = settings.get("attention_pattern", FULL)
        if not isinstance(pattern, str):
            raise ConfigError(f"{where}: attention_pattern must be a text, got {pattern!r}")
        check_pattern(pattern)
        return cls(**{"vocab_size": 30_522, **values}, num_classes=num_classes, attention_pattern=pattern)  # pyright: ignore[reportArgumentType]  # checked above

    def to_hugging_face(self, classes: tuple[str, ...]) -> dict[str, object]:
        """The `config.json` that a stock `DistilBertForSequenceClassification` of this shape reads.

        Without classes it is the one of a `DistilBertForMaskedLM`.
        """
        kind = "SequenceClassification" if classes else "MaskedLM"
        return {
            "architectures": [f"DistilBertFor{kind}"],
            # A stock model would silently compute full attention, so it must reject the file.
            "model_type": "distilbert" if self.attention_pattern == FULL else _PATTERNED,
            **{theirs: getattr(self, ours) for ours, theirs in _THEIR_NAMES.items()},
            **_ONLY,
            "initializer_range": 0.02,
            "tie_weights_": True,
            **(_class_names(classes) if classes else {}),
            "dtype": "float32",
            **({} if self.attention_pattern == FULL else {"attention_pattern": self.attention_pattern}),
        }


def _class_names(classes: tuple[str, ...]) -> dict[str, object]:
    return {
        "id2label": {str(index): name for index, name in enumerate(classes)},
        "label2id": {name: index for index, name in enumerate(classes)},
        "problem_type": "single_label_classification",
    }


_PATTERNED: Final = "wirebert-distilbert"
"""Model type of models that stock `transformers` cannot compute."""

_THEIR_NAMES: Final = {
    "vocab_size": "vocab_size",
    "dim": "dim",
    "num_layers": "n_layers",
    "num_heads": "n_heads",
    "hidden_dim": "hidden_dim",
    "dropout": "dropout",
    "attention_dropout": "attention_dropout",
    "head_dropout": "seq_classif_dropout",
    "max_positions": "max_position_embeddings",
    "pad_id": "pad_token_id",
}
_RATES: Final = ("dropout", "attention_dropout", "head_dropout")
_ONLY: Final[dict[str, object]] = {"activation": "gelu", "sinusoidal_pos_embds": False}


def _check(name: str, value: object, where: str) -> None:
    """Raise a ConfigError if a value of a `config.json` is invalid."""
    if name in _RATES:
        fits, want = isinstance(value, int | float) and 0 <= value < 1, "a number in [0, 1)"
    else:
        least = 0 if name == "pad_id" else 1
        fits, want = isinstance(value, int) and value >= least, f"a whole number of at least {least}"
    if not fits:
        raise ConfigError(f"{where}: {_THEIR_NAMES[name]} must be {want}, got {value!r}")


_BASE: Final = Architecture(vocab_size=30_522, num_classes=2)
SIZES: Final = {"base": _BASE, "mini": replace(_BASE, dim=128, num_layers=2, num_heads=4, hidden_dim=512)}
"""The named sizes; vocabulary and classes are replaced by those of the data."""


def resolve(
    config: ModelConfig,
    *,
    vocab_size: int,
    num_classes: int,
    positions: bool = True,
    num_columns: int = 0,
    pad_id: int = 0,
    max_masked: int = 0,
    pretrained: Architecture | None = None,
) -> Architecture:
    """The architecture set by `config`, for this vocabulary and these classes.

    A pretrained model fixes the shapes: a setting that contradicts it raises a ConfigError. Dropout may
    differ.

    >>> mini = ModelConfig(size="mini", num_layers=3)
    >>> architecture = resolve(mini, vocab_size=500, num_classes=5)
    >>> architecture.num_layers, architecture.dim
    (3, 128)
    >>> resolve(ModelConfig(dim=100), vocab_size=500, num_classes=5)
    Traceback (most recent call last):
    wirebert.errors.ConfigError: model.dim must be a multiple of model.num_heads, got 100 and 12
    """
    named = find_architecture(config.size)
    origin = named if pretrained is None else pretrained
    asked = {
        name: value
        for name in (field.name for field in fields(ModelConfig))
        if name in _THEIR_NAMES and (value := getattr(config, name)) is not None
    }
    if pretrained is not None:
        wanted = {**({} if config.size == "base" else _shapes(named)), **asked}
        for name, fixed in _shapes(pretrained).items():
            if wanted.get(name, fixed) != fixed:
                raise ConfigError(
                    f"model.{name} is {fixed} in {config.init_from!r}, where the model starts, "
                    f"but model.size={config.size} and the other settings ask for {wanted[name]}; leave them "
                    "out"
                )
    return replace(
        origin,
        **asked,
        vocab_size=vocab_size,
        num_classes=num_classes,
        positions=positions,
        num_columns=num_columns,
        pad_id=pad_id,
        attention_pattern=config.attention_pattern,
        max_masked=max_masked,
    )


def find_architecture(size: str) -> Architecture:
    """The architecture of a named size or of a `config.json`."""
    return SIZES[size] if size in SIZES else read_architecture(Path(size))


def _shapes(architecture: Architecture) -> dict[str, int]:
    """The settings that determine the weights' shapes, except vocabulary and classes."""
    names = ("dim", "num_layers", "num_heads", "hidden_dim", "max_positions")
    return {name: getattr(architecture, name) for name in names}


def read_architecture(path: Path) -> Architecture:
    """The architecture in the `config.json` at `path`."""
    return Architecture.from_hugging_face(read_settings(path), where=str(path))


def read_settings(path: Path) -> dict[str, object]:
    """The object in the JSON file at `path`."""
    try:
        settings = read_json_file(path)
    except OSError as error:
        raise ConfigError(
            f"{path}: expected a DistilBERT config.json, or one of the sizes {', '.join(SIZES)}, "
            f"but it cannot be read ({error.strerror})"
        ) from error
    except ValueError as error:
        raise ConfigError(
            f"{path}: expected a DistilBERT config.json, but it is not JSON ({error})"
        ) from error
    if not isinstance(settings, dict):
        raise ConfigError(f"{path}: expected a JSON object, got a {type(settings).__name__}")
    return settings
