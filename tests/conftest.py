"""What every test stands on: a quiet, offline, single-threaded process, and the real data where there is some.

The environment is set here, before anything imports torch, pyarrow or transformers, which read it once. One thread per
process makes numbers the same however many tests run side by side. Nothing here imports wirebert: jaxtyping's checks
have to be in place before it is imported.
"""

import os
import signal
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

ROOT = Path(__file__).resolve().parent.parent

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
    }
)
os.environ.pop("FORCE_COLOR", None)
# A shell that runs us in the background has Ctrl-C ignored, and children would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)

# The same examples on every run and machine: a failure here is a failure for everyone. `pytest --hypothesis-profile=explore`
# looks for new ones.
settings.register_profile(
    "wirebert",
    deadline=None,
    derandomize=True,
    database=None,
    max_examples=50,
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
    """Tests on real data sets are slow ones: what they look for is found by smaller tests too."""
    for item in items:
        if "data_dir" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.slow)


TINY = {
    "model.size": "mini",
    "model.dim": "32",
    "model.num_layers": "1",
    "model.num_heads": "2",
    "model.hidden_dim": "32",
    "encoding.num_pieces": "300",
    "training.epochs": "1",
    "training.batch_size": "128",
    "evaluation.num_resamples": "100",
}


@pytest.fixture(scope="session")
def tiny() -> list[str]:
    """Arguments that make a training take seconds; what it learns is not much."""
    return [word for name, value in TINY.items() for word in ("--set", f"{name}={value}")]


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
    """The folder of a finished run on `traffic`, as `wirebert train` left it. Tests look, and do not write there."""
    from wirebert.cli import main

    out = tmp_path_factory.mktemp("runs") / "tiny"
    data = [str(traffic / "train.csv"), "--test", str(traffic / "test.csv")]
    assert main(["train", *data, "--out", str(out), *tiny]) == 0
    return out


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder with the public data sets (nsl-kdd/, ...); tests that need it are skipped without it."""
    folder = Path(os.environ.get("WIREBERT_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no data sets at {folder}; name their folder in WIREBERT_DATA")
    return folder
