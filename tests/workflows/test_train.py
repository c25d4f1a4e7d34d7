"""The order of the story, and that it comes out the same however often it is killed."""

import json
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import cast

import numpy as np
import pyarrow as pa
import pytest
import torch
from pyarrow import compute, csv, parquet

from wirebert.cli.main import main
from wirebert.config import resolve_run
from wirebert.data.checks.profile import profile_table
from wirebert.data.flows import find_files, open_flows
from wirebert.decision.traffic_blocks import TrafficBlocks
from wirebert.inference.artifact import load_artifact
from wirebert.run_folder import RunFolder, locked
from wirebert.training.parallel.process_group import SINGLE_PROCESS, ProcessGroup
from wirebert.workflows import fit as fitting
from wirebert.workflows import prepare as preparing
from wirebert.workflows import train as pipeline
from wirebert.workflows import typed_rows
from wirebert.workflows.rank_jobs import KernelJob

Splits = dict[str, dict[str, dict[str, object]]]


@pytest.mark.slow
def test_a_run_leaves_everything_that_its_folder_is_to_hold(trained: Path) -> None:
    left = {path.name for path in trained.iterdir() if not path.name.startswith(".")}
    files = {"run.toml", "inputs.json", "metrics.jsonl", "report.json", "report.html"}
    files |= {"split_manifest.json"}
    assert left == files | {"predictions", "plots", "model"}
    assert {path.name for path in (trained / "predictions").iterdir()} == {"valid.parquet", "test.parquet"}
    assert not [path for path in trained.rglob("*") if path.name.endswith((".part", ".partial"))]
    stock = {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"}
    assert {path.name for path in (trained / "model").iterdir()} == {
        *stock,
        *("wirebert.json", "README.md", "novelty.safetensors", "model.onnx"),
    }


@pytest.mark.slow
def test_run_toml_is_the_whole_run_with_nothing_left_to_choose(trained: Path, traffic: Path) -> None:
    run = resolve_run(trained / "run.toml")
    assert run.train == str(traffic / "train.csv")
    assert run.test == (str(traffic / "test.csv"),)
    assert (run.model.size, run.model.dim, run.training.epochs) == ("mini", 32, 1)
    assert run.training.learning_rate is not None  # by the width of the model
    assert resolve_run(trained / "run.toml", ["training.epochs=1"]) == run


@pytest.mark.slow
def test_test_files_are_opened_after_the_model_is_saved(
    traffic: Path,
    tiny: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """A test file that can not be read is noticed only then; repaired, the run is finished by --resume."""
    out, test = tmp_path / "run", tmp_path / "test.csv"
    test.touch()
    asked: list[str] = []

    def opened(data: str, *more: object, **named: object) -> object:
        asked.append(f"{Path(data).name} with model: {(out / 'model' / 'wirebert.json').exists()}")
        return open_flows(data, *more, **named)  # pyright: ignore[reportArgumentType]  # as it was called

    for module in (preparing, pipeline):
        monkeypatch.setattr(module, "open_flows", opened)
    arguments = [str(traffic / "train.csv"), "--test", str(test), "--out", str(out), *tiny]
    assert main(["train", *arguments, "--set", "evaluation.baseline=false"]) == 2
    assert "test.csv" in capfd.readouterr().err
    assert asked == ["train.csv with model: False", "test.csv with model: True"]
    assert not (out / "report.json").exists()
    shutil.copy(traffic / "test.csv", test)
    assert main(["train", "--resume", str(out)]) == 0
    assert set(report_of(out)["splits"]) == {"valid", "test"}


def report_of(folder: Path) -> dict[str, dict[str, object]]:
    return cast(
        dict[str, dict[str, object]], json.loads((folder / "report.json").read_text(encoding="utf-8"))
    )


@pytest.mark.slow
def test_a_finished_run_says_so_and_stays_as_it_is(trained: Path, capfd: pytest.CaptureFixture[str]) -> None:
    before = {path: path.stat().st_mtime_ns for path in trained.rglob("*") if path.name != ".lock"}
    assert main(["train", "--resume", str(trained)]) == 0
    assert f"{trained}: this run is finished" in capfd.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in before} == before


@pytest.fixture
def unfinished(trained: Path, traffic: Path, tmp_path: Path) -> Path:
    """A run whose report is missing, on data of its own."""
    folder = tmp_path / "unfinished"
    shutil.copytree(trained, folder)
    shutil.copy(traffic / "train.csv", tmp_path / "train.csv")
    (folder / "report.json").unlink()
    settings = (folder / "run.toml").read_text(encoding="utf-8")
    (folder / "run.toml").write_text(
        settings.replace(str(traffic / "train.csv"), str(tmp_path / "train.csv")), encoding="utf-8"
    )
    return folder


@pytest.mark.slow
def test_changed_training_data_is_refused(unfinished: Path, capfd: pytest.CaptureFixture[str]) -> None:
    data = unfinished.parent / "train.csv"
    lines = data.read_text(encoding="utf-8").splitlines(keepends=True)
    data.write_text("".join([*lines[:-2], lines[-1], lines[-2]]), encoding="utf-8")  # as many bytes as before
    assert main(["train", "--resume", str(unfinished)]) == 2
    assert "the training data changed since this run started" in capfd.readouterr().err
    assert unfinished.is_dir()


@pytest.mark.slow
def test_a_second_process_is_kept_out_of_a_run(unfinished: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with locked(RunFolder(unfinished)):
        assert main(["train", "--resume", str(unfinished)]) == 2
    assert "another process is working on this run" in capfd.readouterr().err


# Each run is trained in processes of its own, again and again until it is done, and each process is killed:
# at the
# first thing that it does to a file whose path holds the next word of the plan, or after so many file
# operations.
KILLER = """
import json, os, signal, sys
import wirebert.workflows.train
from wirebert.cli.main import main

WATCHED = {"open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "shutil.rmtree"}

def attempt(out, kill, arguments):
    left = int(kill) if kill.isdecimal() else 1
    def hook(event, found):
        nonlocal left
        if event in WATCHED:
            paths = [str(path) for path in found[:2] if isinstance(path, (str, os.PathLike))]
            if any(path.startswith(out) and (kill.isdecimal() or kill in path) for path in paths):
                left -= 1
                if left == 0:
                    os.kill(os.getpid(), signal.SIGKILL)
    sys.stdout = sys.stderr = open(os.devnull, "w")
    if kill != "none":
        sys.addaudithook(hook)
    has_run = os.path.exists(os.path.join(out, "run.toml"))
    os._exit(main(["train", "--resume", out] if has_run else ["train", *arguments, "--out", out]))

def train(out, plan, arguments):
    killed = []
    for kill in [*plan, "none"]:
        pid = os.fork()
        if pid == 0:
            attempt(out, kill, arguments)
        status = os.waitpid(pid, 0)[1]
        if os.WIFSIGNALED(status):
            killed.append(kill)
        elif os.WEXITSTATUS(status) != 0:
            sys.exit(f"attempt {kill!r} ended with {os.WEXITSTATUS(status)}")
        if os.path.exists(os.path.join(out, "report.json")):
            return killed

folder, plans, *arguments = sys.argv[1:]
killed = {name: train(f"{folder}/{name}", plan, arguments) for name, plan in json.loads(plans).items()}
print(json.dumps(killed))
"""

PLANS = {
    "calm": [],
    "stages": [
        "inputs.json",
        "checkpoints/.partial-3/state.json",
        "checkpoint-00000006",
        "model.part/wirebert.json",
        "predictions/test",
        "report.json.part",
    ],
    "any moment": ["29", "53"],
}


@pytest.fixture
def under_fire(
    tmp_path_factory: pytest.TempPathFactory, traffic: Path, tiny: list[str]
) -> tuple[Path, dict[str, list[str]]]:
    """Folders of the runs of `PLANS`, 8 steps and 4 checkpoints each, and which kills there were."""
    folder = tmp_path_factory.mktemp("under-fire")
    lines = (traffic / "train.csv").read_text(encoding="utf-8").splitlines(keepends=True)
    (folder / "few.csv").write_text("".join(lines[:500]), encoding="utf-8")
    settings = ("training.epochs=2", "training.checkpoint_every=3", "evaluation.baseline=false")
    chosen = [*tiny, *(word for setting in settings for word in ("--set", setting))]
    arguments = [str(folder / "few.csv"), "--test", str(traffic / "test.csv"), *chosen]
    done = subprocess.run(
        [sys.executable, "-c", KILLER, str(folder), json.dumps(PLANS), *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=280,
    )
    assert done.returncode == 0, done.stderr
    return folder, json.loads(done.stdout)


def assert_same_run(ours: Path, calm: Path) -> None:
    same = (
        "model/model.safetensors",
        "model/tokenizer.json",
        "predictions/valid.parquet",
        "predictions/test.parquet",
    )
    for path in same:
        assert (ours / path).read_bytes() == (calm / path).read_bytes(), path
    assert report_of(ours)["splits"] == report_of(calm)["splits"]
    assert names_below(ours) == names_below(calm)  # nothing half-written is left
    steps = [step_of(line) for line in (ours / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    assert steps == sorted(steps)  # what came after the last checkpoint was taken back


def names_below(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def step_of(line: str) -> int:
    return cast(int, json.loads(line)["step"])


@pytest.mark.soak
def test_a_killed_run_ends_with_the_bits_of_one_never_killed(
    under_fire: tuple[Path, dict[str, list[str]]],
) -> None:
    folder, killed = under_fire
    assert killed == PLANS
    for name in PLANS:
        assert_same_run(folder / name, folder / "calm")


@pytest.mark.slow
@pytest.mark.parametrize("names", [["test"], ["a", "a-2", "valid-2"]])
def test_test_files_give_their_names_to_the_splits(
    names: list[str], trained: Path, traffic: Path, tmp_path: Path
) -> None:
    run = resolve_run(trained / "run.toml")
    stems = {"test": ["anything"], "a": ["a", "b/a", "valid"]}[names[0]]
    for stem in stems:
        (tmp_path / stem).parent.mkdir(exist_ok=True)
        shutil.copy(traffic / "test.csv", tmp_path / f"{stem}.csv")
    tests = tuple(str(tmp_path / f"{stem}.csv") for stem in stems)
    schema = open_flows(run.train, run.data).schema
    parts = pipeline.open_tests(resolve_run(given={"train": run.train, "test": list(tests)}), schema)
    assert [part.name for part in parts] == names
    assert [part.flows.files for part in parts] == [find_files(test) for test in tests]


@pytest.mark.soak
def test_rows_set_apart_for_a_test_are_judged_and_nothing_else(
    traffic: Path, tiny: list[str], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    options = [
        "--set",
        "data.test_fraction=0.3",
        "--set",
        "evaluation.baseline=false",
        "--out",
        str(out),
        *tiny,
    ]
    assert main(["train", str(traffic / "train.csv"), "--test", str(traffic / "test.csv"), *options]) == 0
    capfd.readouterr()
    report = report_of(out)
    assert list(report["splits"]) == ["valid", "test", "test-2"]  # the file is called test too
    rows = {
        name: set(parquet.read_table(out / "predictions" / f"{name}.parquet")["row"].to_pylist())
        for name in ("valid", "test")
    }
    assert not rows["valid"] & rows["test"]
    # 30% of 1,500 rows and 10% of the others, rounded class by class.
    assert (len(rows["valid"]), len(rows["test"])) == (106, 449)
    assert "Test rows (30%) were split off" in str(report["data"]["split"])
    flows = open_flows(traffic / "train.csv")
    (tmp_path / "other").mkdir()
    run = resolve_run(out / "run.toml")
    prepared = preparing.prepare(run, preparing.write_typed_rows(run, RunFolder(tmp_path / "other")))
    hashes = profile_table(flows).feature_hashes
    assert prepared.test is not None
    assert prepared.test.rows is not None
    assert not np.isin(hashes[prepared.test.rows], hashes[~prepared.test.rows]).any()
    assert set(np.flatnonzero(prepared.test.rows).tolist()) == rows["test"]


@pytest.mark.slow
def test_processes_beside_a_gpu_leave_the_same_run_as_this_process_alone(
    trained: Path, traffic: Path, tiny: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a GPU: novelty, trees, export and charts by other processes, training by the processor."""

    def beside(_config: object) -> bool:
        return True

    monkeypatch.setattr(pipeline, "has_companions", beside)
    monkeypatch.setattr(fitting, "has_companions", beside)
    out = tmp_path / "run"
    data = [str(traffic / "train.csv"), "--test", str(traffic / "test.csv")]
    assert main(["train", *data, "--out", str(out), *tiny]) == 0
    for name in ("wirebert.json", "model.safetensors", "novelty.safetensors", "model.onnx"):
        assert (out / "model" / name).read_bytes() == (trained / "model" / name).read_bytes(), name
    ours, theirs = report_of(out), report_of(trained)
    assert ours["splits"] == theirs["splits"]
    trees, others = (cast(Splits, report["baselines"])["gbdt"] for report in (ours, theirs))
    assert trees["differences"] == others["differences"]
    plots = [{path.name for path in (run / "plots").iterdir()} for run in (out, trained)]
    # How many samples of the machine there are depends on how long a run takes.
    ours, theirs = ({name for name in names if not name.startswith("resource_")} for names in plots)
    assert ours == theirs


@pytest.mark.slow
def test_a_training_by_workers_is_that_of_one_process_and_profiles_its_file_once(
    trained: Path, traffic: Path, tiny: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_flows: object) -> None:
        raise AssertionError("the workers have profiled the file")

    monkeypatch.setattr(typed_rows, "profile_table", refuse)
    data = [str(traffic / "train.csv"), "--test", str(traffic / "test.csv")]
    assert main(["train", *data, "--out", str(tmp_path / "run"), "--workers", "2", *tiny]) == 0
    for name in ("tokenizer.json", "model.safetensors"):
        assert (tmp_path / "run" / "model" / name).read_bytes() == (trained / "model" / name).read_bytes()
    assert report_of(tmp_path / "run")["splits"] == report_of(trained)["splits"]


@pytest.mark.parametrize(("device", "is_beside"), [("cpu", False), ("cuda", True)])
def test_other_processes_help_beside_a_gpu_only(
    monkeypatch: pytest.MonkeyPatch, device: str, is_beside: bool
):
    def chosen(_config: object) -> torch.device:
        return torch.device(device)

    monkeypatch.setattr(fitting, "choose_training_device", chosen)
    assert fitting.has_companions(resolve_run().training) == is_beside


def test_other_ranks_get_their_kernels_ready_while_the_first_one_reads(monkeypatch: pytest.MonkeyPatch):
    sent: list[object] = []

    def send(_group: ProcessGroup, job: object) -> None:
        sent.append(job)

    monkeypatch.setattr(ProcessGroup, "send_job", send)
    run = resolve_run(None, ["model.size=mini", "training.device=cpu"])
    pipeline.warm_up(run, SINGLE_PROCESS)
    [job] = sent
    assert isinstance(job, KernelJob)
    assert job.training == run.training
    assert (job.architecture.dim, job.architecture.num_heads) == (128, 4)


@pytest.mark.slow
def test_test_labels_that_name_other_attacks_tell_attack_or_benign_only_as_in_evaluate(
    traffic: Path, tiny: list[str], tmp_path: Path
) -> None:
    flows = csv.read_csv(traffic / "test.csv")
    is_benign = compute.equal(flows["label"], pa.scalar("benign"))
    other = compute.if_else(is_benign, "benign", "anomaly")
    flows = flows.set_column(flows.schema.get_field_index("label"), "label", other)
    csv.write_csv(flows, tmp_path / "other.csv")
    train = [str(traffic / "train.csv"), "--test", str(tmp_path / "other.csv"), *tiny]
    assert main(["train", *train, "--out", str(tmp_path / "run")]) == 0
    evaluate = [str(tmp_path / "run" / "model"), str(tmp_path / "other.csv")]
    assert main(["evaluate", *evaluate, "--out", str(tmp_path / "again")]) == 0
    ours, theirs = report_of(tmp_path / "run"), report_of(tmp_path / "again")
    splits, again = (cast(Splits, report["splits"]) for report in (ours, theirs))
    assert set(splits["test"]["per_class"]) == {"benign", "attack"}
    assert len(splits["valid"]["per_class"]) > 2
    for part in ("per_class", "confusion"):
        assert splits["test"][part] == again["other"][part]
    trees = cast(dict[str, dict[str, object]], ours["baselines"]["gbdt"])
    assert set(trees["splits"]) == {"valid", "test"}
    assert set(trees["differences"]) == {"valid"}


@pytest.mark.slow
def test_validation_rows_become_the_drift_reference(
    traffic: Path, tiny: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fitting, "TrafficBlocks", partial(TrafficBlocks, num_flows=5))
    assert main(["train", str(traffic / "train.csv"), "--out", str(tmp_path / "run"), *tiny]) == 0
    reference = load_artifact(tmp_path / "run" / "model").reference
    assert reference is not None
    valid = parquet.read_table(tmp_path / "run" / "predictions" / "valid.parquet")
    num_flows = 5 * (valid.num_rows // 5)
    alerts = valid["verdict"].to_pylist()[:num_flows].count("alert")
    counted = reference.counts.sum(axis=0)[reference.starts[-2] :][:2]
    assert counted.tolist() == [num_flows - alerts, alerts]
    # A tenth of the rows are validation rows: a block of five spans about fifty flows of the file.
    assert reference.num_flows == pytest.approx(5 * 1_500 / valid.num_rows, abs=2)
