import ctypes
import gzip
import json
import os
import struct
import threading
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest

from wirebert.cli.main import main
from wirebert.config import resolve_run
from wirebert.data.checks.profile import TableProfile, profile_table
from wirebert.data.config import DataConfig
from wirebert.data.flows import open_flows
from wirebert.errors import RunError
from wirebert.run_folder import RunFolder
from wirebert.workflows import typed_rows
from wirebert.workflows.prepare import write_typed_rows
from wirebert.workflows.typed_rows import parse_once, require_space

IN_ACCESS, IN_CLOSE, IN_OPEN = 0x1, 0x10, 0x20


@contextmanager
def counted_opens(path: Path) -> Generator[list[int]]:
    """The opens of a file by anything in this machine, as Linux counts them; read when the `with` block is
    left.

    Reads and closes are watched too: the kernel merges events that are equal and follow each other.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    watch, opens = libc.inotify_init1(0), [0]
    assert libc.inotify_add_watch(watch, os.fsencode(path), IN_ACCESS | IN_CLOSE | IN_OPEN) >= 0

    def read() -> None:
        while True:
            events, at = os.read(watch, 1 << 16), 0
            while at < len(events):
                number, mask, _, length = struct.unpack_from("iIII", events, at)
                at += 16 + length
                opens[0] += bool(mask & IN_OPEN)
                if mask & 0x8000:  # the watch was taken off
                    return
                assert number == 1

    reader = threading.Thread(target=read)
    reader.start()
    try:
        yield opens
    finally:
        libc.inotify_rm_watch(watch, 1)
        reader.join()
        os.close(watch)


def assert_same_profile(one: TableProfile, other: TableProfile) -> None:
    for field in fields(TableProfile):
        ours, theirs = getattr(one, field.name), getattr(other, field.name)
        if isinstance(ours, np.ndarray):
            assert np.array_equal(ours, theirs), field.name
        elif field.name != "sample":
            assert ours == theirs, field.name


def odd_file(folder: Path) -> Path:
    path = folder / "flows.csv"
    rows = [f"{number},{'tcp' if number % 3 else 'udp'},{number % 7},benign" for number in range(400)]
    rows[7] = "1,tcp"
    rows[9] = "-, udp,x,attack"
    path.write_text("\n".join(["dur,proto,num,label", *rows]) + "\n", encoding="utf-8")
    return path


def test_parsing_gives_the_profile_the_fingerprint_and_the_same_blocks(tmp_path: Path):
    flows = open_flows(odd_file(tmp_path), DataConfig(max_invalid_fraction=0.1))
    parsed = parse_once(flows, tmp_path / "cache")
    assert parsed.fingerprint == flows.fingerprint()
    assert_same_profile(parsed.profile, profile_table(flows))
    assert parsed.profile.invalid_values.lines.num_rejected == 1
    for ours, theirs in zip(parsed.flows.blocks(), flows.blocks(), strict=True):
        assert ours.equals(theirs)


def test_rows_are_found_again_by_content_with_the_account_of_their_parsing(tmp_path: Path):
    path, cache = odd_file(tmp_path), tmp_path / "cache"
    config = DataConfig(max_invalid_fraction=0.1)
    first = parse_once(open_flows(path, config), cache)
    assert first.flows.typed_rows is not None
    before = first.flows.typed_rows.stat().st_ino
    again = parse_once(open_flows(path, config), cache)
    assert again.flows.typed_rows == first.flows.typed_rows
    assert first.flows.typed_rows.stat().st_ino == before, "the file was parsed once more"
    assert_same_profile(first.profile, again.profile)
    # Another content of the same size, under the same name, is parsed.
    path.write_text(path.read_text(encoding="utf-8").replace("20,udp", "20,tcp"), encoding="utf-8")
    changed = parse_once(open_flows(path, config), cache)
    assert changed.fingerprint != first.fingerprint
    assert changed.flows.typed_rows != first.flows.typed_rows


def test_rows_that_were_read_in_another_way_are_not_taken(tmp_path: Path):
    flows = open_flows(odd_file(tmp_path), DataConfig(max_invalid_fraction=0.1))
    dropped = replace(flows, schema=flows.schema.without(("num",)))
    one, other = parse_once(flows, tmp_path / "cache"), parse_once(dropped, tmp_path / "cache")
    assert one.flows.typed_rows != other.flows.typed_rows


def test_too_little_disk_space_is_one_sentence_with_the_setting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    flows = open_flows(odd_file(tmp_path))

    def no_space(folder: Path) -> int:
        return 10

    monkeypatch.setattr(typed_rows, "free_bytes", no_space)
    with pytest.raises(RunError, match=r"free disk space .* data\.cache"):
        require_space(flows, tmp_path / "cache")


def packed(folder: Path, traffic: Path) -> Path:
    path = folder / "train.csv.gz"
    path.write_bytes(gzip.compress((traffic / "train.csv").read_bytes()))
    return path


@pytest.mark.parametrize("is_packed", [False, True])
def test_delimited_text_is_opened_for_its_head_and_to_be_parsed(
    traffic: Path, tmp_path: Path, is_packed: bool
):
    path = packed(tmp_path, traffic) if is_packed else traffic / "train.csv"
    run = resolve_run(given={"train": str(path)})
    (tmp_path / "run").mkdir()
    with counted_opens(path) as opens:
        rows = write_typed_rows(run, RunFolder(tmp_path / "run"))
        num_rows = sum(block.num_rows for block in rows.parsed.flows.blocks())
    assert num_rows == rows.parsed.profile.num_rows == 1500
    assert opens == [2]
    assert rows.parsed.fingerprint == open_flows(path).fingerprint()


@pytest.mark.slow
def test_a_whole_training_opens_its_text_twice_and_leaves_no_rows(
    traffic: Path, tiny: list[str], tmp_path: Path
):
    path = packed(tmp_path, traffic)
    with counted_opens(path) as opens:
        # A recipe that is looked for by itself reads the file once more, to hash it.
        assert main(["train", str(path), "--recipe", "none", "--out", str(tmp_path / "run"), *tiny]) == 0
    assert opens == [2]
    assert json.loads((tmp_path / "run" / "report.json").read_text(encoding="utf-8"))["baselines"]
    assert not (tmp_path / "run" / "encoded").exists()


def test_a_resumed_run_finds_its_rows_and_refuses_other_content(traffic: Path, tmp_path: Path):
    path = tmp_path / "train.csv"
    path.write_bytes((traffic / "train.csv").read_bytes())
    run, folder = resolve_run(given={"train": str(path)}), RunFolder(tmp_path / "run")
    folder.path.mkdir()
    first = write_typed_rows(run, folder)

    written = first.parsed.flows.typed_rows
    assert written is not None
    number = written.stat().st_ino
    again = write_typed_rows(run, folder)
    assert again.parsed.flows.typed_rows == written
    assert written.stat().st_ino == number, "the file was parsed once more"
    assert_same_profile(again.parsed.profile, first.parsed.profile)
    text = path.read_bytes()
    path.write_bytes(text[:-200] + text[-200:].replace(b"0", b"1"))
    with pytest.raises(RunError, match="training data changed"):
        write_typed_rows(run, folder)
