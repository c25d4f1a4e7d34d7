import json
from collections.abc import Callable
from pathlib import Path

import pytest

from wirebert.errors import DataError, RunError
from wirebert.files import write_atomic
from wirebert.run_folder import (
    RunFolder,
    check_inputs,
    create_run_folder,
    locked,
    model_folder,
    new_run_folder,
    next_run_path,
    open_run_folder,
)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("deep", ["run", "a/b/run"])
def test_a_new_folder_is_made_with_those_above_it(deep: str, tmp_path: Path) -> None:
    assert create_run_folder(tmp_path / deep).path.is_dir()


def test_an_empty_folder_is_taken(tmp_path: Path) -> None:
    assert create_run_folder(tmp_path).path == tmp_path


def test_a_folder_in_use_is_refused_and_untouched(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    before = contents(tmp_path)
    with pytest.raises(RunError, match="in use; choose another --out"), new_run_folder(tmp_path):
        pass
    assert contents(tmp_path) == before


def test_a_folder_that_holds_a_run_can_be_continued(tmp_path: Path) -> None:
    (tmp_path / "run.toml").touch()
    with pytest.raises(RunError, match=f"continue it with --resume {tmp_path}"):
        create_run_folder(tmp_path)


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "run").touch()
    with pytest.raises(RunError, match="choose another --out"):
        create_run_folder(tmp_path / "run")
    with pytest.raises(RunError, match="cannot be created"):
        create_run_folder(tmp_path / "run" / "below")


def fill(folder: RunFolder) -> None:
    folder.encoded.mkdir()
    write_atomic(folder.run_toml, "seed = 1\n")


def make_a_neighbour(folder: RunFolder) -> None:
    (folder.path.parent / "other").mkdir()


def begin_training(folder: RunFolder) -> None:
    folder.metrics.write_text("{}\n")


def run_that_fails(path: Path, act: Callable[[RunFolder], None], error: type[BaseException]) -> None:
    with new_run_folder(path) as folder:
        act(folder)
        raise error


def test_nothing_stays_of_a_run_whose_input_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError):
        run_that_fails(tmp_path / "runs" / "new", fill, DataError)
    assert not list(tmp_path.iterdir())


def test_a_folder_that_was_there_stays_empty_when_the_input_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError):
        run_that_fails(tmp_path, fill, DataError)
    assert tmp_path.is_dir()
    assert not list(tmp_path.iterdir())


def test_what_others_put_beside_a_refused_run_stays(tmp_path: Path) -> None:
    with pytest.raises(DataError):
        run_that_fails(tmp_path / "runs" / "new", make_a_neighbour, DataError)
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["other"]


@pytest.mark.parametrize(
    ("act", "error"), [(begin_training, DataError), (fill, KeyboardInterrupt), (fill, ZeroDivisionError)]
)
def test_a_run_that_trained_or_did_not_fail_by_its_input_is_kept(
    act: Callable[[RunFolder], None], error: type[BaseException], tmp_path: Path
) -> None:
    with pytest.raises(error):
        run_that_fails(tmp_path / "run", act, error)
    assert contents(tmp_path / "run")


def test_a_second_process_is_kept_out_until_the_first_is_done(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    with (
        locked(folder),
        pytest.raises(RunError, match="another process is working on this run"),
        locked(folder),
    ):
        pass
    with locked(folder):
        pass


def test_only_the_folder_of_a_run_is_opened(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"found no run\.toml"):
        open_run_folder(tmp_path / "nothing")
    (tmp_path / "run.toml").touch()
    assert open_run_folder(tmp_path) == RunFolder(tmp_path)


def test_runs_of_one_name_are_numbered(tmp_path: Path) -> None:
    names: list[str] = []
    for _ in range(3):
        path = next_run_path("nsl", tmp_path)
        path.mkdir()
        names.append(path.name)
    assert names == ["nsl", "nsl-2", "nsl-3"]


def test_a_run_goes_on_with_the_data_it_started_with_only(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    check_inputs(folder, "abc", {"format": "delimited"})
    check_inputs(folder, "abc")
    assert json.loads(folder.inputs_json.read_text())["detected"] == {"format": "delimited"}
    with pytest.raises(RunError, match="the training data changed since this run started"):
        check_inputs(folder, "abd")


def test_a_run_goes_on_with_the_teacher_it_started_with_only(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    check_inputs(folder, "abc", others={"teacher": "one"})
    check_inputs(folder, "abc", others={"teacher": "one"})
    with pytest.raises(RunError, match="the teacher changed since this run started"):
        check_inputs(folder, "abc", others={"teacher": "two"})


def test_a_finished_run_is_one_with_a_report(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    assert not folder.is_finished
    write_atomic(folder.report_json, "{}")
    assert folder.is_finished
    assert [path.name for path in tmp_path.iterdir()] == ["report.json"]  # nothing is left aside


def test_a_run_folder_stands_for_its_model(tmp_path: Path):
    model = tmp_path / "run" / "model"
    model.mkdir(parents=True)
    (model / "wirebert.json").touch()
    assert model_folder(tmp_path / "run") == model_folder(model) == model
    assert model_folder(tmp_path / "nothing") == tmp_path / "nothing"


@pytest.mark.parametrize("named", ["run", "run/model"])
def test_a_model_behind_its_data_is_told_with_the_right_order(named: str, tmp_path: Path):
    (tmp_path / "run" / "model").mkdir(parents=True)
    (tmp_path / "run" / "model" / "wirebert.json").touch()
    model, data = tmp_path / named, tmp_path / "flows.csv"
    with pytest.raises(RunError, match=f"the model comes first: `wirebert evaluate {model} {data}`"):
        model_folder(data, str(model), "evaluate")
