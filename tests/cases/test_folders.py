"""A folder of what people collect: each file is listed, and other vocabularies of labels stop the run."""

import json
import shutil
from pathlib import Path

import pytest

from wirebert.cli.main import main

CASES = Path(__file__).parent
ZEEK = CASES / "readers" / "zeek-comma" / "conn.log"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("eve-labelled.json", "nfdump-1.7.5.csv", "flows.xlsx", "flows.tar.gz"):
        shutil.copy(CASES / "readers" / name, tmp_path)
    (tmp_path / "capture.pcap").write_bytes(b"\xd4\xc3\xb2\xa1" + bytes(40))
    (tmp_path / "README.txt").write_text("About the data.\n")
    (tmp_path / "empty.csv").touch()
    (tmp_path / "zeek").mkdir()
    shutil.copy(ZEEK, tmp_path / "zeek")
    return tmp_path


def test_each_file_of_a_folder_is_listed(folder: Path, capfd: pytest.CaptureFixture[str]):
    assert main(["inspect", str(folder), "--json"]) == 0
    plain = json.loads(capfd.readouterr().out)
    listing = {Path(one["path"]).name: one for one in plain["listing"]}
    assert {name: one["num_rows"] for name, one in listing.items() if one["read_as"]} == {
        "eve-labelled.json": 12,
        "nfdump-1.7.5.csv": 30,
        "conn.log": 25,
    }
    assert listing["eve-labelled.json"]["is_labelled"]
    assert not listing["conn.log"]["is_labelled"]
    assert "found a packet capture" in listing["capture.pcap"]["skipped"]
    assert "found a spreadsheet" in listing["flows.xlsx"]["skipped"]
    assert "found an archive" in listing["flows.tar.gz"]["skipped"]
    assert "found an empty file" in listing["empty.csv"]["skipped"]
    assert listing["README.txt"]["skipped"] == "it is about the data"
    assert plain["format"].count("1 file ") == 3  # never called by the format of one of them


def test_two_vocabularies_stop_the_run(folder: Path, capfd: pytest.CaptureFixture[str]):
    head, *rows = ZEEK.read_text().splitlines()[6:]
    types, *rows = rows
    labels = ["Malicious" if index % 2 else "Benign-ish" for index in range(len(rows))]
    lines = [f"{head},label", f"{types},string", *map(",".join, zip(rows, labels, strict=True))]
    top = ZEEK.read_text().splitlines()[:6]
    (folder / "zeek" / "conn.log").write_text("\n".join([*top, *lines]) + "\n")
    assert main(["train", str(folder), "--out", str(folder / "run")]) == 2
    error = capfd.readouterr().err
    assert "expected labels of one vocabulary, found 'Benign-ish', 'Malicious'" in error
    assert "'benign'" in error
    assert "train on files of one data set" in error


def test_a_folder_of_one_file_for_each_class_is_one_vocabulary(tmp_path: Path):
    from wirebert.data.flows import open_flows

    head, *rows = (CASES / "label-not-last" / "last.csv").read_text().splitlines()
    for label in {row.rsplit(",", 1)[1] for row in rows}:
        lines = [head, *(row for row in rows if row.endswith(f",{label}"))]
        (tmp_path / f"{label}.csv").write_text("\n".join(lines) + "\n")
    assert sum(block.num_rows for block in open_flows(tmp_path).blocks()) == 90
