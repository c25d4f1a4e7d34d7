"""What the command line promises: exit codes, one sentence for what the user can fix, and nothing left
behind.
"""

import errno
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from wirebert.cli.commands import COMMANDS
from wirebert.cli.main import build_parser, main, share_cores

Make = Callable[[Path], None]

KINDS = [("tcp,http", "normal"), ("udp,domain", "normal"), ("tcp,private", "dos"), ("icmp,eco_i", "probe")]
HEADER = "protocol,service,src_bytes,label"


def flows(num_rows: int = 60, header: str = HEADER, labels: dict[str, str] | None = None) -> str:
    rows = [KINDS[row % len(KINDS)] for row in range(num_rows)]
    named = labels or {}
    lines = [f"{flow},{row % 37},{named.get(label, label)}" for row, (flow, label) in enumerate(rows)]
    return "\n".join([header, *lines]) + "\n"


ONE_CLASS = flows(labels=dict.fromkeys(["normal", "dos", "probe"], "normal"))
NO_LABEL = "protocol,service,src_bytes\n" + "\n".join(f"tcp,http,{row}" for row in range(40)) + "\n"
BINARY = np.random.default_rng(0).bytes(4096)


def snapshot(folder: Path) -> dict[str, bytes | None]:
    """Everything below a folder, with its content."""
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in sorted(folder.rglob("*"))
    }


def refused(arguments: list[str], folder: Path, capfd: pytest.CaptureFixture[str]) -> str:
    """The one sentence with which the command is refused; nothing in the folder may change."""
    before = snapshot(folder)
    capfd.readouterr()
    assert main(arguments) == 2
    message = capfd.readouterr().err
    assert message.startswith("wirebert: ")
    assert message.endswith("\n")
    assert message.count("\n") == 1
    assert not re.search(r"Traceback|[─│╭]|Error\b", message)
    assert snapshot(folder) == before
    return message


BAD_TRAINING_DATA: dict[str, tuple[str | bytes | None, list[str], list[str]]] = {
    # What stands in flows.csv (None: nothing is there), more arguments, and what the message says.
    "missing": (None, [], ["flows.csv", "no such file, folder or pattern", "check the path"]),
    "empty file": ("", [], ["flows.csv", "expected", "empty"]),
    "only white space": ("\n \n\n", [], ["flows.csv", "expected", "found"]),
    "header only": (HEADER + "\n", [], ["flows.csv", "expected rows below the header", "found none"]),
    "binary": (BINARY, [], ["flows.csv", "expected", "found"]),
    "damaged gzip": (b"\x1f\x8b" + BINARY, [], ["flows.csv", "expected gzip data", "damaged"]),
    "damaged parquet": (b"PAR1" + BINARY + b"PAR1", [], ["flows.csv", "expected Parquet data", "damaged"]),
    "no label column": (NO_LABEL, [], ["flows.csv", "expected a label column", "src_bytes", "--label"]),
    "other label column": (flows(), ["--label", "lable"], ["flows", "lable", "did you mean 'label'"]),
    "one class": (ONE_CLASS, [], ["expected", "at least two", "normal"]),
    "benign class that is not there": (flows(), ["--benign", "nromal"], ["nromal", "normal"]),
    "unknown schema": (flows(), ["--schema", "nsl_kd"], ["--schema", "nsl_kd", "nsl_kdd"]),
    "schema that does not fit": (
        flows(header="a,b,c,d"),
        ["--schema", "synthetic"],
        ["flows.csv", "synthetic", "expected", "found", "--schema"],
    ),
    "schema that is no schema": (flows(), ["--schema", "flows.csv"], ["flows.csv", "expected"]),
    "unknown setting": (
        flows(),
        ["--set", "model.siez=mini"],
        ["unknown setting model.siez", "did you mean model.size?"],
    ),
    "unknown section": (
        flows(),
        ["--set", "modle.size=mini"],
        ["unknown setting modle", "did you mean model?"],
    ),
    "setting out of range": (
        flows(),
        ["--set", "training.batch_size=0"],
        ["training.batch_size must be at least 1, got 0"],
    ),
    "setting of another type": (
        flows(),
        ["--set", "training.epochs=many"],
        ["training.epochs must be a whole number, got 'many'"],
    ),
    "set without =": (
        flows(),
        ["--set", "model.size"],
        ["--set expects SECTION.NAME=VALUE, got 'model.size'"],
    ),
    "width that heads do not divide": (flows(), ["--set", "model.dim=33"], ["33", "multiple"]),
    "seed out of range": (flows(), ["--seed", "-1"], ["seed must be in [0, 2^31), got -1"]),
    "no recipe there": (
        flows(),
        ["--recipe", "no.toml"],
        ["no recipe or TOML file 'no.toml'", "known: http_params"],
    ),
    "recipe that is no TOML": (flows(), ["--recipe", "flows.csv"], ["recipe flows.csv", "expected TOML"]),
    "no test file there": (
        flows(),
        ["--test", "nothing.csv"],
        ["nothing.csv", "no such file, folder or pattern"],
    ),
    "no checkpoint there": (
        flows(),
        ["--set", "model.init_from=./no-model"],
        ["no-model", "there is no such folder; check the path"],
    ),
    "model size that is no size": (flows(), ["--set", "model.size=hueg"], ["hueg", "base", "mini"]),
    "no GPU": (flows(), ["--set", "training.device=cuda"], ["device", "cuda"]),
    "class to leave out that is not there": (
        flows(),
        ["--set", "data.split=leave_attack_out", "--set", "data.left_out_class=ddos"],
        ["ddos", "dos"],
    ),
}


@pytest.mark.parametrize("case", BAD_TRAINING_DATA)
def test_what_can_not_be_trained_on_is_refused_in_one_sentence_and_leaves_nothing(
    case: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    tiny: list[str],
) -> None:
    content, more, expected = BAD_TRAINING_DATA[case]
    monkeypatch.chdir(tmp_path)
    if content is not None:
        Path("flows.csv").write_bytes(content if isinstance(content, bytes) else content.encode())
    message = refused(["train", "flows.csv", *tiny, *more], tmp_path, capfd)
    for words in expected:
        assert words in message


def fill_out(folder: Path) -> None:
    (folder / "out").mkdir()
    (folder / "out" / "thesis.tex").write_text("years of work")


def no_data(folder: Path) -> None:
    (folder / "folder").mkdir()
    (folder / "folder" / "notes.pdf").touch()


BAD_CALLS: dict[str, tuple[Make | None, list[str], list[str]]] = {
    "no data": (None, ["train"], ["no training data", "wirebert train"]),
    "standard input": (None, ["train", "-"], ["cannot be `-`", "save it to a file"]),
    "test from standard input": (None, ["train", "flows.csv", "--test", "-"], ["cannot be `-`"]),
    "folder without traffic": (
        no_data,
        ["train", "folder"],
        ["folder", "expected traffic files", "found none"],
    ),
    "output folder in use": (
        fill_out,
        ["train", "flows.csv", "--out", "out"],
        ["output folder out", "in use", "another --out"],
    ),
    "output in a file": (
        None,
        ["train", "flows.csv", "--out", "flows.csv/out"],
        ["output folder", "choose another --out"],
    ),
    "resume of no run": (
        fill_out,
        ["train", "--resume", "out"],
        ["out", "expected the folder of a run", "run.toml"],
    ),
    "resume with data": (
        fill_out,
        ["train", "flows.csv", "--resume", "out"],
        ["--resume", "no other option, got data"],
    ),
    "resume with seed": (
        fill_out,
        ["train", "--resume", "out", "--seed", "0"],
        ["no other option, got seed"],
    ),
    "no model": (
        None,
        ["predict", "no-model", "flows.csv"],
        ["no-model", "expected a model folder", "runs/demo/model"],
    ),
    "no run": (None, ["report", "no-run"], ["no-run/report.json", "No such file"]),
    "few demo rows": (None, ["demo", "--rows", "10"], ["--rows must be at least 1000", "got 10"]),
    "demo seed": (None, ["demo", "--seed", "-1"], ["seed must be in"]),
    "demo into a folder in use": (fill_out, ["demo", "--out", "out"], ["output folder out", "in use"]),
    "inspect nothing": (None, ["inspect", "nothing.csv"], ["nothing.csv", "no such file"]),
    "no data set": (None, ["datasets", "verify", "nothing"], ["nothing", "expected files of a data set"]),
}


@pytest.mark.parametrize("case", BAD_CALLS)
def test_a_command_that_makes_no_sense_is_refused_in_one_sentence(
    case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    make, arguments, expected = BAD_CALLS[case]
    monkeypatch.chdir(tmp_path)
    Path("flows.csv").write_text(flows())
    if make is not None:
        make(tmp_path)
    message = refused(arguments, tmp_path, capfd)
    for words in expected:
        assert words in message


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["config.json", "model.safetensors", "model.onnx", "tokenizer.json", "wirebert.json"]
)
@pytest.mark.parametrize("damage", ["gone", "short", "changed"])
def test_a_damaged_model_folder_is_refused_by_the_file(
    name: str, damage: str, trained: Path, traffic: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(trained / "model", tmp_path / "model")
    file = tmp_path / "model" / name
    content = file.read_bytes()
    file.unlink()
    if damage != "gone":
        # Half of the content, or one byte of its middle another one.
        half = len(content) // 2
        file.write_bytes(
            content[:half]
            if damage == "short"
            else content[:half] + bytes([content[half] ^ 1]) + content[half + 1 :]
        )
    # Weights are read, and checked, where they are used.
    engine = ["--backend", "torch"] if name == "model.safetensors" else []
    words = ["predict", str(tmp_path / "model"), str(traffic / "test.csv"), *engine]
    assert name in refused(words, tmp_path, capfd)


@pytest.mark.slow
def test_evaluating_needs_labels(
    trained: Path, tmp_path: Path, traffic: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    lines = (traffic / "test.csv").read_text(encoding="utf-8").splitlines()
    (tmp_path / "bare.csv").write_text("\n".join(line.rpartition(",")[0] for line in lines) + "\n")
    empty = [lines[0], *(line.rpartition(",")[0] + "," for line in lines[1:])]
    (tmp_path / "empty.csv").write_text("\n".join(empty) + "\n")
    for name, words in {"bare": "label", "empty": "no flow has a label"}.items():
        out = ["--out", str(tmp_path / "out")]
        message = refused(
            ["evaluate", str(trained / "model"), str(tmp_path / f"{name}.csv"), *out], tmp_path, capfd
        )
        assert name in message
        assert words in message


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("there.csv", ["there.csv", "exists", "choose another name"]),
        ("verdicts.xlsx", ["verdicts.xlsx", ".csv, .jsonl, .parquet"]),
        ("no/verdicts.csv", ["no/verdicts.csv", "does not exist"]),
    ],
)
def test_verdicts_overwrite_nothing(
    name: str,
    words: list[str],
    trained: Path,
    traffic: Path,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "there.csv").write_text("mine\n")
    model, data, out = str(trained / "model"), str(traffic / "test.csv"), str(tmp_path / name)
    message = refused(["predict", model, data, "--out", out], tmp_path, capfd)
    for word in words:
        assert word in message


@pytest.mark.slow
def test_a_file_of_another_layout_is_refused_by_a_model(
    trained: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "other.csv").write_text("a,b\n1,2\n3,4\n")
    message = refused(["predict", str(trained / "model"), str(tmp_path / "other.csv")], tmp_path, capfd)
    assert "other.csv" in message
    assert "expected" in message


def test_without_a_command_there_is_help_with_examples(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    text = capsys.readouterr().out
    assert text.startswith("usage: wirebert")
    examples = text.partition("examples:\n")[2].strip().splitlines()
    assert len(examples) == 4
    parser = build_parser()
    for example in examples:
        parser.parse_args(example.split("   ")[0].split()[1:])


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (["trian"], "did you mean 'train'?"),
        (["train", "x.csv", "--epoch-s", "3"], "did you mean '--epochs'?"),
        (["predict", "model", "x.csv", "--ot=y.csv"], "did you mean '--out'?"),
        (["predict", "model", "x.csv", "--backend", "onxx"], "did you mean 'onnx'?"),
        (["serve", "model", "more"], "unexpected argument 'more'"),
        (["train", "x.csv", "--set", "training.epoch=3"], "did you mean training.epochs?"),
    ],
)
def test_what_was_probably_meant_is_guessed(
    arguments: list[str], hint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        code = main(arguments)
    except SystemExit as stop:
        code = stop.code
    assert code == 2
    assert hint in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments", [["foo"], ["train", "--foo"], ["predict", "model"], ["demo", "--rows", "many"]]
)
def test_arguments_that_no_command_has_are_refused_in_one_line(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 2
    message = capsys.readouterr().err
    assert message.startswith("wirebert: ")
    assert message.count("\n") == 1
    assert "--help`" in message


@pytest.mark.parametrize("name", ["evil\x1b]0;x\x07.csv", "evil\x9b31m", "evil\u202e"])
def test_a_hostile_name_in_a_usage_error_moves_no_terminal(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main(["predict", "model", "a.csv", name])
    message = capsys.readouterr().err
    assert message.isascii()
    assert not set("\x1b\x07\x9b") & set(message)


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], *([name, "--help"] for name in COMMANDS)])
def test_asking_for_help_is_no_error(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 0
    assert "wirebert" in capsys.readouterr().out


def test_every_command_of_the_parser_does_something() -> None:
    for name in COMMANDS:
        assert re.search(rf"^    {name}\s", build_parser().format_help(), re.MULTILINE)


def test_a_bug_of_ours_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(options: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("wirebert.cli.report_commands.report", fail)
    with pytest.raises(ZeroDivisionError):
        main(["report", "run"])


@pytest.mark.slow
def test_a_bug_of_ours_ends_the_process_with_1() -> None:
    program = """
import sys, types
from wirebert.cli.main import main
sys.modules["wirebert.cli.report_commands"] = types.SimpleNamespace(report=lambda options: 1 // 0)
sys.exit(main(["report", "run"]))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "Traceback" in done.stderr
    assert "ZeroDivisionError" in done.stderr


@pytest.mark.parametrize(("way_on", "message"), [("", "interrupted"), ("go on", "interrupted; go on")])
def test_ctrl_c_ends_with_130(
    way_on: str, message: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stop(options: object) -> None:
        raise KeyboardInterrupt(way_on)

    monkeypatch.setattr("wirebert.cli.report_commands.report", stop)
    assert main(["report", "run"]) == 130
    assert capsys.readouterr().err == f"wirebert: {message}\n"


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EACCES, errno.EROFS])
def test_a_disk_that_takes_nothing_is_no_bug_of_ours(
    number: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(options: object) -> None:
        raise OSError(number, os.strerror(number), "runs/a/report.html")

    monkeypatch.setattr("wirebert.cli.report_commands.report", fail)
    assert main(["report", "run"]) == 2
    message = capsys.readouterr().err
    assert message.startswith("wirebert: runs/a/report.html: ")
    assert message.count("\n") == 1


@pytest.mark.soak
@pytest.mark.parametrize(
    ("stop", "word", "code"), [(signal.SIGINT, "interrupted", 130), (signal.SIGTERM, "terminated", 143)]
)
def test_a_stopped_training_goes_on_to_its_end(
    traffic: Path,
    tiny: list[str],
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    stop: signal.Signals,
    word: str,
    code: int,
) -> None:
    out = tmp_path / "run"
    more = [
        "training.epochs=4",
        "training.log_every=1",
        "training.batch_size=32",
        "evaluation.baseline=false",
    ]
    settings = [*tiny, *(word for setting in more for word in ("--set", setting))]
    command = [sys.executable, "-m", "wirebert", "train", str(traffic / "train.csv"), "--out", str(out)]
    with subprocess.Popen(
        [*command, *settings], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    ) as process:
        deadline = time.monotonic() + 120
        while (
            not (out / "metrics.jsonl").exists()
            or '"event": "step"' not in (out / "metrics.jsonl").read_text()
        ):
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.02)
        process.send_signal(stop)
        message = process.communicate(timeout=120)[1].decode()
    assert process.returncode == code, message
    assert message == f"wirebert: {word}; continue with `wirebert train --resume {out}`\n"
    assert list((out / "checkpoints").iterdir())
    assert not (out / "report.json").exists()
    settled = (out / "run.toml").read_text()
    (out / "run.toml").write_text(
        settled.replace("early_stopping_patience = 0", "early_stopping_patience = 0")
    )
    assert main(["train", "--resume", str(out)]) == 0
    assert (out / "report.json").exists()
    assert f"model: {out / 'model'}" in capfd.readouterr().out


@pytest.mark.slow
def test_a_reader_that_leaves_early_is_no_error(trained: Path, traffic: Path) -> None:
    arguments = ["predict", str(trained / "model"), str(traffic / "train.csv")]
    full = [sys.executable, "-m", "wirebert", *arguments]
    with subprocess.Popen(full, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.close()  # gone before the first line
        assert process.stderr is not None
        message = process.stderr.read().decode()
        assert process.wait(timeout=120) == 0
    assert [line for line in message.splitlines() if "untrusted_threshold" not in line] == []


@pytest.mark.parametrize("command", ["train", "learn"])
@pytest.mark.parametrize("setting", ["training.device=cuda", "training.precision=tf32"])
def test_what_the_machine_lacks_is_told_before_anything_is_read(
    command: str,
    setting: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
):
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    words = [command, str(tmp_path / "missing.csv"), "--out", str(tmp_path / "run"), "--set", setting]
    assert main(words) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"wirebert: {setting.partition('=')[0]}")
    assert error.count("\n") == 1


def test_processes_of_torchrun_share_the_cores_unless_the_user_set_threads(monkeypatch: pytest.MonkeyPatch):
    def cores(_pid: int) -> set[int]:
        return set(range(16))

    monkeypatch.setattr(os, "sched_getaffinity", cores, raising=False)
    launched = {"TORCHELASTIC_RUN_ID": "none", "LOCAL_WORLD_SIZE": "2", "OMP_NUM_THREADS": "1"}
    alone, chosen = {"OMP_NUM_THREADS": "1"}, {**launched, "OMP_NUM_THREADS": "3"}
    for environment, threads in ((launched, "8"), (alone, "1"), (chosen, "3")):
        share_cores(environment)
        assert environment["OMP_NUM_THREADS"] == threads
