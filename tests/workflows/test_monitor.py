"""Monitoring a log gives each flow the verdict that it has in the whole log, once, wherever the monitor
stops.
"""

import contextlib
import csv
import gzip
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pyarrow as pa
import pytest

from wirebert.alerts.outputs import Outputs, Target
from wirebert.data.findings import Finding
from wirebert.data.flows import open_flows
from wirebert.data.schema.schema import FlowSchema
from wirebert.data.synthetic import generate, write_csv
from wirebert.data.synthetic.conn_log import write_conn_log
from wirebert.data.windows import ContextWindows
from wirebert.decision.operating_point import NO_OPERATING_POINT, AlertBudget
from wirebert.errors import DataError, UserError
from wirebert.inference import followed_log
from wirebert.inference.artifact import save_artifact
from wirebert.inference.detector import Detector
from wirebert.inference.predictions import open_writer, predict_blocks
from wirebert.inference.tail import Tail
from wirebert.workflows import monitor as monitoring
from wirebert.workflows.monitor import MonitorSettings, Requests, monitor

if TYPE_CHECKING:
    from wirebert.inference.artifact import Artifact
    from wirebert.model.distilbert import DistilBert

TAB = b"\t"
Tiny = Callable[..., "tuple[Artifact, DistilBert]"]


class UntilIdle(Event):
    """Is set as soon as somebody would wait for it."""

    def wait(self, timeout: float | None = None) -> bool:
        self.set()
        return True


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Zeek log of 400 flows."""
    path = tmp_path_factory.mktemp("whole") / "conn.log"
    write_conn_log(path, generate(400, seed=3, stealthy=True))
    return path


@pytest.fixture(scope="module")
def detector(whole: Path, make_artifact: Tiny) -> Detector:
    """It sees context."""
    flows = open_flows(whole)
    assert flows.schema.context is not None
    return Detector(make_artifact(flows.schema, pa.concat_tables(flows.blocks()))[0])


def verdicts_of(detector: Detector, path: Path) -> list[dict[str, object]]:
    """Those of `wirebert predict` on the whole log."""
    out = path.with_name("whole.jsonl")
    out.unlink(missing_ok=True)
    with open_writer(out) as writer:
        for table in predict_blocks(detector, open_flows(path, schema=detector.schema)):
            writer.write(table)
    return read(out)


def state_path(out: Path) -> Path:
    return out.with_name(f"{out.name}.state") / "monitor.state"


def rejected_path(out: Path) -> Path:
    return out.with_name(f"{out.name}.state") / "rejected.jsonl"


def run(
    detector: Detector,
    log: Path,
    out: Path,
    told: list[Finding] | None = None,
    stop: Event | None = None,
    **settings: Any,
) -> int:
    """Score what there is; the number of flows."""
    options = MonitorSettings(targets=(Target.parse(str(out)),), state=state_path(out).parent, **settings)
    tell = [].extend if told is None else told.extend
    return monitor(lambda: detector, [str(log)], options, Requests(stop=stop or UntilIdle()), tell)


def read(out: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]


def assert_same(found: list[dict[str, object]], expected: list[dict[str, object]]) -> None:
    """Equal but for the last digits of probabilities, which depend on what is scored together."""
    assert len({row["event_id"] for row in found}) == len(found)
    found = [{key: row[key] for key in row if key in expected[0]} for row in found]
    assert [list(row) for row in found] == [list(row) for row in expected]
    for row, other in zip(found, expected, strict=True):
        for name, value in row.items():
            if isinstance(value, float):
                assert value == pytest.approx(other[name], abs=1e-5), name
            else:
                assert value == other[name], name


def test_a_log_that_stands_still_has_the_verdicts_of_predict(detector: Detector, whole: Path, tmp_path: Path):
    assert run(detector, whole, tmp_path / "verdicts.jsonl") == 400
    assert_same(read(tmp_path / "verdicts.jsonl"), verdicts_of(detector, whole))


@pytest.mark.parametrize("seed", range(3))
def test_verdicts_are_the_same_however_the_log_grows_and_across_restarts(
    seed: int, detector: Detector, whole: Path, tmp_path: Path
):
    content, generator = whole.read_bytes(), random.Random(seed)
    cuts = sorted(generator.sample(range(len(content)), 6))
    log, out = tmp_path / "conn.log", tmp_path / "verdicts.jsonl"
    log.write_bytes(b"")
    for start, stop in zip([0, *cuts], [*cuts, len(content)], strict=True):
        with log.open("ab") as file:
            file.write(content[start:stop])
        run(detector, log, out)
    assert_same(read(out), verdicts_of(detector, whole))


def test_a_rotated_log_goes_on_in_the_same_context(detector: Detector, whole: Path, tmp_path: Path):
    lines = whole.read_bytes().splitlines(keepends=True)
    header, rows = lines[:7], lines[7:]
    log, out = tmp_path / "conn.log", tmp_path / "verdicts.jsonl"
    log.write_bytes(b"".join([*header, *rows[:100]]))
    run(detector, log, out)
    with log.open("ab") as file:
        file.write(b"".join(rows[100:250]))
    log.rename(tmp_path / "conn.1.log")
    log.write_bytes(b"".join([*header, *rows[250:]]))

    class LooksTwice(UntilIdle):
        """The old log gets one more look before the new one is read."""

        num_looks = 0

        def wait(self, timeout: float | None = None) -> bool:
            self.num_looks += 1
            return super().wait() if self.num_looks > 3 else False

    run(detector, log, out, stop=LooksTwice())
    assert_same(read(out), verdicts_of(detector, whole))


def test_verdicts_behind_the_saved_state_are_written_again_not_twice(
    detector: Detector, whole: Path, tmp_path: Path
):
    content = whole.read_bytes()
    log, out = tmp_path / "conn.log", tmp_path / "verdicts.jsonl"
    log.write_bytes(content[: len(content) // 2])
    run(detector, log, out)
    state = state_path(out).read_bytes()
    log.write_bytes(content)
    run(detector, log, out)
    state_path(out).write_bytes(state)  # as if the process had died before it saved its state
    run(detector, log, out)
    assert_same(read(out), verdicts_of(detector, whole))


def test_verdicts_go_to_standard_output_without_a_state(
    detector: Detector, whole: Path, capfd: pytest.CaptureFixture[str]
):
    settings = MonitorSettings(targets=(Target.parse("-"),))
    monitor(lambda: detector, [str(whole)], settings, Requests(stop=UntilIdle()), [].extend)
    assert [json.loads(line)["row"] for line in capfd.readouterr().out.splitlines()] == list(range(400))


def test_an_empty_log_is_waited_for(detector: Detector, tmp_path: Path):
    log = tmp_path / "conn.log"
    log.write_bytes(b"")
    assert run(detector, log, tmp_path / "verdicts.jsonl") == 0


def test_a_table_with_a_header_can_be_followed(make_artifact: Tiny, tmp_path: Path):
    log, out = tmp_path / "flows.csv", tmp_path / "verdicts.jsonl"
    write_csv(log, 200, seed=5)
    flows = open_flows(log)
    detector = Detector(make_artifact(flows.schema, pa.concat_tables(flows.blocks()))[0])
    expected, content = verdicts_of(detector, log), log.read_bytes()
    for verdict in expected:
        del verdict["line"]  # a log that is rotated begins to count anew
    for stop in (5, 700, 9_000, len(content)):
        log.write_bytes(content[:stop])
        run(detector, log, out)
    assert_same(read(out), expected)


def test_rows_that_can_not_be_used_are_told(detector: Detector, whole: Path, tmp_path: Path):
    log = tmp_path / "conn.log"
    log.write_bytes(whole.read_bytes() + b"no\tflow\n")
    told: list[Finding] = []
    assert run(detector, log, tmp_path / "verdicts.jsonl", told) == 400
    assert [(one.code, one.count) for one in told] == [("rejected_rows", 1)]


def test_a_short_row_is_told_wherever_the_log_stops_for_a_while(make_artifact: Tiny, tmp_path: Path):
    log, out = tmp_path / "flows.csv", tmp_path / "verdicts.jsonl"
    write_csv(log, 200, seed=5)
    flows, content = open_flows(log), log.read_bytes()
    detector = Detector(make_artifact(flows.schema, pa.concat_tables(flows.blocks()))[0])
    log.write_bytes(content + b"short\n")
    told: list[Finding] = []
    assert run(detector, log, out, told) == 200
    with log.open("ab") as file:
        file.write(b"too short\n")
    assert run(detector, log, out, told) == 0
    assert [(one.code, one.count) for one in told] == [("rejected_rows", 1)] * 2


def test_many_rows_that_can_not_be_used_are_an_alarm_and_end_nothing(
    detector: Detector, whole: Path, tmp_path: Path
):
    log, out = tmp_path / "conn.log", tmp_path / "verdicts.jsonl"
    lines = whole.read_bytes().splitlines(keepends=True)
    log.write_bytes(b"".join([*lines[:200], *([b"no\tflow\n"] * 10), *lines[200:]]))
    told: list[Finding] = []
    assert run(detector, log, out, told) == 400
    assert [(one.code, one.count) for one in told if one.code == "set_aside"] == [("set_aside", 10)] * 2
    rejected = read(rejected_path(out))
    assert [row["line"] for row in rejected] == list(range(201, 211))
    assert rejected[0] == {
        "file": str(log),
        "line": 201,
        "reason": f"expected {len(lines[8].split(TAB))} fields, found 2",
        "text": "no\tflow",
    }
    with log.open("ab") as file:
        file.write(b"later\n")
    run(detector, log, out)
    assert [row["line"] for row in read(rejected_path(out))] == [*range(201, 211), len(lines) + 11]


def test_a_line_that_is_no_piece_is_set_aside_and_following_goes_on(
    detector: Detector, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(followed_log, "PIECE_BYTES", 1 << 14)
    log, out = tmp_path / "conn.log", tmp_path / "verdicts.jsonl"
    lines = whole.read_bytes().splitlines(keepends=True)
    log.write_bytes(b"".join([*lines[:200], b"x" * 50_000 + b"\n", *lines[200:]]))
    assert run(detector, log, out) == 400
    assert_same(read(out), verdicts_of(detector, whole))
    ((line, reason),) = [(row["line"], str(row["reason"])) for row in read(rejected_path(out))]
    assert (line, reason) == (201, "expected lines of at most 16,384 bytes, found one of 50,001")


def test_without_rejected_rows_there_is_no_file_of_them(detector: Detector, whole: Path, tmp_path: Path):
    run(detector, whole, tmp_path / "verdicts.jsonl")
    assert not rejected_path(tmp_path / "verdicts.jsonl").exists()


def test_kills_while_reading_is_ahead_of_writing_lose_and_repeat_nothing(
    detector: Detector, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    out, generator = tmp_path / "verdicts.jsonl", random.Random(1)
    monkeypatch.setattr(followed_log, "PIECE_BYTES", 6_000)  # some forty flows
    monkeypatch.setattr(followed_log, "_POINT_S", 0.0)
    monkeypatch.setattr(monitoring, "_SAVE_S", 0.0)
    write, kills = monitoring.Outputs.write, 0

    def write_or_die(outputs: monitoring.Outputs, *arguments: Any) -> None:
        write(outputs, *arguments)
        if generator.random() < 0.3:
            raise Killed

    monkeypatch.setattr(monitoring.Outputs, "write", write_or_die)
    while True:
        try:
            num_flows = run(detector, whole, out)
            break
        except Killed:
            kills += 1
    assert kills > 0, num_flows
    assert num_flows < 400, "saved on the way"
    assert_same(read(out), verdicts_of(detector, whole))


def test_a_kill_before_the_first_verdict_is_no_obstacle(
    detector: Detector, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    out = tmp_path / "verdicts.jsonl"

    def die(*_: object, **__: object) -> None:
        raise Killed

    for module, place in ((monitoring, "write_state"), (followed_log, "predict_parts")):
        with monkeypatch.context() as patch:
            patch.setattr(module, place, die)
            with pytest.raises(Killed):
                run(detector, whole, out)
    run(detector, whole, out)
    assert_same(read(out), verdicts_of(detector, whole))


def test_verdicts_are_not_written_through_a_link(detector: Detector, whole: Path, tmp_path: Path):
    (tmp_path / "mine").write_text("")
    (tmp_path / "verdicts.jsonl").symlink_to(tmp_path / "mine")
    with pytest.raises(DataError, match="cannot be written"):
        run(detector, whole, tmp_path / "verdicts.jsonl")
    assert (tmp_path / "mine").read_text() == ""


def test_nothing_of_the_traffic_has_a_name_in_the_folder_for_temporary_files(
    detector: Detector, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))

    class Looks(UntilIdle):
        def wait(self, timeout: float | None = None) -> bool:
            assert not list((tmp_path / "tmp").iterdir())
            return super().wait()

    run(detector, whole, tmp_path / "verdicts.jsonl", stop=Looks())


def test_the_encoding_of_a_log_stays_what_it_was(make_artifact: Tiny, tmp_path: Path):
    log, out = tmp_path / "flows.csv", tmp_path / "verdicts.jsonl"
    write_csv(log, 200, seed=5)
    flows, lines = open_flows(log), log.read_bytes().splitlines(keepends=True)
    detector = Detector(make_artifact(flows.schema, pa.concat_tables(flows.blocks()))[0])
    log.write_bytes(b"".join(lines[:100]))
    run(detector, log, out)
    with log.open("ab") as file:
        file.writelines(line.replace(b"http", b"htt\xe9") for line in lines[100:])
    told: list[Finding] = []
    assert run(detector, log, out, told) == 101
    assert [one.code for one in told if one.code in ("rejected_rows", "replaced_bytes")] == ["replaced_bytes"]


def test_a_log_whose_first_line_is_no_flow_is_followed(detector: Detector, whole: Path, tmp_path: Path):
    log, out = tmp_path / "conn.log", tmp_path / "verdicts.jsonl"
    lines = whole.read_bytes().splitlines(keepends=True)
    log.write_bytes(b"".join(lines[:100]))

    class Rotates(UntilIdle):
        """A log that is cut off goes on without a header."""

        num_looks = 0

        def wait(self, timeout: float | None = None) -> bool:
            self.num_looks += 1
            if self.num_looks == 1:
                log.with_name("conn.log.1").write_bytes(log.read_bytes())
                log.write_bytes(b"".join([b"garbage\n", *lines[100:]]))
            return super().wait() if self.num_looks > 4 else False

    run(detector, log, out, stop=Rotates())
    assert_same(read(out), verdicts_of(detector, whole))
    assert [row["text"] for row in read(rejected_path(out))] == ["garbage"]


def test_a_field_that_comes_late_gives_the_scores_of_the_whole_log(make_artifact: Tiny, tmp_path: Path):
    table, log, out = tmp_path / "flows.csv", tmp_path / "flows.jsonl", tmp_path / "verdicts.jsonl"
    write_csv(table, 120, seed=5)
    flows = open_flows(table)
    detector = Detector(make_artifact(flows.schema, pa.concat_tables(flows.blocks()))[0])
    with table.open(encoding="utf-8", newline="") as file:
        rows = [{name: text for name, text in row.items() if text} for row in csv.DictReader(file)]
    late = {"uri", "user_agent"}
    lines = [
        json.dumps({name: text for name, text in row.items() if number >= 60 or name not in late}) + "\n"
        for number, row in enumerate(rows)
    ]
    assert any(late & row.keys() for row in rows[60:])
    log.write_text("".join(lines[:60]))
    run(detector, log, out)
    with log.open("a") as file:
        file.write("".join(lines[60:]))
    run(detector, log, out)
    expected = verdicts_of(detector, log)
    scores = [[row["attack_score"] for row in found] for found in (read(out), expected)]
    assert scores[0] == pytest.approx(scores[1], abs=1e-5)


def test_a_log_that_goes_on_with_other_fields_is_read_by_name_also_after_a_restart(
    detector: Detector, whole: Path, tmp_path: Path
):
    log, out = tmp_path / "conn.log", tmp_path / "verdicts.jsonl"
    lines = whole.read_bytes().splitlines(keepends=True)
    at = next(index for index, line in enumerate(lines) if line.startswith(b"#fields"))
    names = lines[at].split()[1:]
    turned = [
        b"\t".join(reversed(line.rstrip(b"\n").split(b"\t"))) + b"\n"
        for line in lines[207:]
        if not line.startswith(b"#")
    ]
    other = b"#separator \\x09\n#fields\t" + b"\t".join(names[::-1]) + b"\n"
    log.write_bytes(b"".join(lines[:207]))
    for text in (other + b"".join(turned[:50]), b"".join(turned[50:100]), b"".join(turned[100:])):
        run(detector, log, out)
        with log.open("ab") as file:
            file.write(text)
    run(detector, log, out)
    assert_same(read(out), verdicts_of(detector, whole))


def test_examples_of_rejected_rows_name_the_lines_of_the_log(detector: Detector, whole: Path, tmp_path: Path):
    log, out = tmp_path / "conn.log", tmp_path / "verdicts.jsonl"
    lines = whole.read_bytes().splitlines(keepends=True)
    log.write_bytes(b"".join(lines[:200]))
    told: list[Finding] = []

    class Grows(UntilIdle):
        num_looks = 0

        def wait(self, timeout: float | None = None) -> bool:
            self.num_looks += 1
            if self.num_looks == 1:
                with log.open("ab") as file:
                    file.write(b"".join([*lines[200:], *[b"no\tflow\n"] * 10]))
            return super().wait() if self.num_looks > 2 else False

    run(detector, log, out, told, Grows())
    first = len(lines) + 1
    found = {one.code: one for one in told}
    assert found["rejected_rows"].example == f"line {first} of {log}: no\tflow"
    assert found["set_aside"].example == f"line {first} of {log}: no\tflow"


class Killed(BaseException):
    """As if the process had got SIGKILL."""


class Schedule:
    """A log that grows, is rotated and followed at random, and a follower that is killed at random."""

    def __init__(self, seed: int, whole: Path, folder: Path) -> None:
        self.random = random.Random(seed)
        lines = whole.read_bytes().splitlines(keepends=True)
        self.header, self.rows = b"".join(lines[:7]), lines[7:]
        self.log, self.out = folder / "conn.log", folder / "verdicts.jsonl"
        self.log.write_bytes(self.header)
        self.told: list[Finding] = []
        self.is_started = False

    def run(self, detector: Detector) -> None:
        """Until all rows are written and read."""
        while self.rows:
            chance = self.random.random()
            if chance < 0.5 or not self.is_started:
                self.append()
                self.is_started = self.is_started or chance > 0.3
                if self.is_started and not state_path(self.out).exists():
                    self.follow(detector, may_die=False)  # archives from before the first start are not read
            elif chance < 0.75:
                self.rotate()
            else:
                self.follow(detector, may_die=True)
        self.follow(detector, may_die=False)

    def append(self) -> None:
        """Rows, the last of them sometimes in two pieces."""
        num_rows = self.random.randint(1, 60)
        text = b"".join(self.rows[:num_rows])
        del self.rows[:num_rows]
        cut = self.random.choice([len(text), self.random.randint(0, len(text))])
        with self.log.open("ab") as file:
            file.write(text[:cut])
            file.flush()
            file.write(text[cut:])

    def rotate(self) -> None:
        """As logrotate does, by renaming or by copying, packed or not, or under a date."""
        names = ["conn.log.{}.gz", "conn.log.{}"]
        for number in range(30, 0, -1):
            for name in names:
                old = self.log.with_name(name.format(number))
                if old.exists():
                    old.rename(self.log.with_name(name.format(number + 1)))
        first = self.log.with_name("conn.log.1")
        if self.random.random() < 0.4:
            shutil.copyfile(self.log, first)
            self.log.write_bytes(self.header)
        else:
            self.log.rename(first)
            self.log.write_bytes(self.header)
        if self.random.random() < 0.4:
            status = first.stat()
            packed = first.with_name("conn.log.1.gz")
            packed.write_bytes(gzip.compress(first.read_bytes()))
            os.utime(packed, ns=(status.st_atime_ns, status.st_mtime_ns))
            first.unlink()

    def follow(self, detector: Detector, *, may_die: bool) -> None:
        """Until nothing is left, or until the follower dies at one of the places where it does something."""
        left = self.random.randint(1, 6) if may_die else 10**9

        class Idle(UntilIdle):
            num_looks = 0

            def wait(self, timeout: float | None = None) -> bool:
                self.num_looks += 1
                return super().wait() if self.num_looks > 30 else False

        def dies(function: Callable[..., object]) -> Callable[..., object]:
            def counted(*arguments: object, **others: object) -> object:
                nonlocal left
                left -= 1
                if left == 0:
                    raise Killed
                result = function(*arguments, **others)
                if left == 1 and self.random.random() < 0.5:
                    raise Killed
                return result

            return counted

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(monitoring, "write_state", dies(monitoring.write_state))
            patch.setattr(Outputs, "write", dies(Outputs.write))
            patch.setattr(Tail, "read", dies(Tail.read))
            with contextlib.suppress(Killed):
                run(detector, self.log, self.out, self.told, stop=Idle())


def assert_each_flow_once(seed: int, detector: Detector, whole: Path, folder: Path) -> None:
    schedule = Schedule(seed, whole, folder)
    schedule.run(detector)
    assert_same(read(schedule.out), verdicts_of(detector, whole))
    assert [one.code for one in schedule.told if one.code == "lost_lines"] == []


@pytest.mark.parametrize("seed", range(4))
def test_each_flow_has_one_verdict_whatever_happens_to_log_and_follower(
    seed: int, detector: Detector, whole: Path, tmp_path: Path
):
    assert_each_flow_once(seed, detector, whole, tmp_path)


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(100, 300))
def test_each_flow_has_one_verdict_in_200_schedules(
    seed: int, detector: Detector, whole: Path, tmp_path: Path
):
    assert_each_flow_once(seed, detector, whole, tmp_path)


def test_a_state_of_other_windows_is_refused(
    detector: Detector, whole: Path, make_artifact: Tiny, tmp_path: Path
):
    out = tmp_path / "verdicts.jsonl"
    run(detector, whole, out)
    schema = FlowSchema.from_dict(
        {**detector.schema.to_dict(), "context": ContextWindows(long_s=7_200).to_dict()}
    )
    other = Detector(make_artifact(schema, pa.concat_tables(open_flows(whole).blocks()))[0])
    with pytest.raises(DataError, match="same context windows"):
        run(other, whole, out)


@pytest.mark.parametrize("damage", [b"", b"no arrow"])
def test_a_damaged_state_is_refused(damage: bytes, detector: Detector, whole: Path, tmp_path: Path):
    out = tmp_path / "verdicts.jsonl"
    run(detector, whole, out)
    state_path(out).write_bytes(damage)
    with pytest.raises(DataError, match="expected the state that `wirebert monitor` keeps"):
        run(detector, whole, out)


def test_verdicts_that_another_program_cut_off_are_told_and_the_monitor_goes_on(
    detector: Detector, whole: Path, tmp_path: Path
):
    log, out, told = tmp_path / "conn.log", tmp_path / "verdicts.jsonl", list[Finding]()
    lines = whole.read_bytes().splitlines(keepends=True)
    log.write_bytes(b"".join(lines[:300]))
    run(detector, log, out)
    out.write_bytes(b"")
    log.write_bytes(b"".join(lines))
    run(detector, log, out, told)
    assert [one.code for one in told] == ["output_changed"]
    assert_same(read(out), verdicts_of(detector, whole)[293:])


def test_a_file_of_somebody_else_is_left_as_it_is(detector: Detector, whole: Path, tmp_path: Path):
    out = tmp_path / "verdicts.jsonl"
    out.write_text("mine")
    with pytest.raises(DataError, match="which is kept"):
        run(detector, whole, out)
    assert out.read_text() == "mine"


def test_a_packed_log_is_refused(detector: Detector, tmp_path: Path):
    log = tmp_path / "conn.log.gz"
    log.write_bytes(gzip.compress(b"flows"))
    with pytest.raises(DataError, match="found gzip"):
        run(detector, log, tmp_path / "verdicts.jsonl")


@pytest.mark.parametrize("content", [None, "a,b\n1,2\n3,4\n"])
def test_a_monitor_that_is_refused_leaves_nothing_behind(
    content: str | None, detector: Detector, tmp_path: Path
):
    log, out = tmp_path / "flows.csv", tmp_path / "verdicts.jsonl"
    if content is not None:
        log.write_text(content)
    before = set(tmp_path.iterdir())
    with pytest.raises(UserError):
        run(detector, log, out)
    assert set(tmp_path.iterdir()) == before


def test_two_followers_can_not_write_to_one_file(detector: Detector, whole: Path, tmp_path: Path):
    out = tmp_path / "verdicts.jsonl"

    class Second(UntilIdle):
        """Starts another follower while the first one waits."""

        def wait(self, timeout: float | None = None) -> bool:
            with pytest.raises(DataError, match="another monitor uses it"):
                run(detector, whole, out)
            return super().wait()

    run(detector, whole, out, stop=Second())


@pytest.mark.soak
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_process_that_is_asked_to_end_ends_well_and_goes_on_later(
    number: signal.Signals, detector: Detector, whole: Path, tmp_path: Path
):
    save_artifact(detector.artifact, tmp_path / "model", card="")
    content = whole.read_bytes()
    log, out = tmp_path / "conn.log", tmp_path / "verdicts.jsonl"
    log.write_bytes(content[: len(content) // 2])
    words = ["monitor", str(tmp_path / "model"), str(log), "--to", str(out)]
    for _ in range(2):
        before = out.stat().st_size if out.exists() else 0
        with subprocess.Popen([sys.executable, "-m", "wirebert", *words], stderr=subprocess.PIPE) as process:
            while process.poll() is None and not (out.exists() and out.stat().st_size > before):
                time.sleep(0.05)
            process.send_signal(number)
            assert process.wait(60) == 0
        log.write_bytes(content)
    assert_same(read(out), verdicts_of(detector, whole))


def test_heartbeats_tell_the_counts_and_go_to_those_who_want_them(
    detector: Detector, whole: Path, tmp_path: Path
):
    targets = (Target.parse(f"{tmp_path / 'health'},write=health"), Target.parse(str(tmp_path / "flows")))
    settings = MonitorSettings(targets=targets, state=tmp_path / "state", heartbeat_s=1e-6)
    monitor(lambda: detector, [str(whole)], settings, Requests(stop=UntilIdle()), [].extend)
    beats = read(tmp_path / "health")
    assert [beat["event"] for beat in beats][-2:] == ["heartbeat", "stopped"]
    assert beats[-1]["flows_by_source"] == {str(whole): 400}
    assert beats[-1]["lag"] == {str(whole): {"num_behind": 0, "seconds": 0.0}}
    assert len(read(tmp_path / "flows")) == 400


def test_hidden_alerts_are_counted_and_open_no_incident(detector: Detector, whole: Path, tmp_path: Path):
    rules = tmp_path / "quiet.toml"
    found: list[list[int]] = []
    for number, rule in enumerate(("", '[[rule]]\nreason = "all of it"\nsource = "0.0.0.0/0"\n')):
        rules.write_text(rule)
        names = ("alerts", "incidents", "health")
        targets = tuple(Target.parse(f"{tmp_path / name}{number},write={name}") for name in names)
        settings = MonitorSettings(targets=targets, state=tmp_path / f"state{number}", suppressions=rules)
        monitor(lambda: detector, [str(whole)], settings, Requests(stop=UntilIdle()), [].extend)
        last = read(tmp_path / f"health{number}")[-1]
        counts = [len(read(tmp_path / f"{name}{number}")) for name in ("alerts", "incidents")]
        assert last["alerts"] == counts[0]
        found.append([*counts, cast(int, last["suppressed"])])
    assert found[0][0] > 0

    assert found[1] == [0, 0, found[0][0]]


def test_incidents_have_evidence_and_verdicts_stay_as_they_are(
    detector: Detector, whole: Path, tmp_path: Path
):
    targets = tuple(
        Target.parse(f"{tmp_path / name},write={name}") for name in ("flows", "incidents", "health")
    )
    settings = MonitorSettings(targets=targets, state=tmp_path / "state")
    scores = [cast(float, row["attack_score"]) for row in verdicts_of(detector, whole)]
    highest = float(np.quantile(scores, 0.8))
    budget = AlertBudget(threshold=highest, alerts_per_10000=2e3, num_flows=400, num_alerts=80)
    operating = replace(NO_OPERATING_POINT, alert_budget=budget)
    detector = Detector(replace(detector.artifact, operating_point=operating))
    monitor(lambda: detector, [str(whole)], settings, Requests(stop=UntilIdle()), [].extend)
    assert_same(read(tmp_path / "flows"), verdicts_of(detector, whole))
    opened = [event for event in read(tmp_path / "incidents") if event["event"] == "incident_opened"]
    assert opened
    texts = [text for event in opened for text in cast("list[str]", event["evidence"])]
    assert sum(bool(event["evidence"]) for event in opened) >= min(len(opened), 32) // 2
    features = {slot.name for slot in detector.artifact.tokenizer.slots}
    assert {text.partition(":")[0] for text in texts} <= features
    counts = cast("dict[str, int]", read(tmp_path / "health")[-1]["incidents_by_class"])
    assert sum(counts.values()) == len(opened)


def test_a_bad_model_or_suppression_is_told_and_the_old_ones_go_on(
    detector: Detector, whole: Path, tmp_path: Path
):
    rules, out, told = tmp_path / "quiet.toml", tmp_path / "verdicts.jsonl", list[Finding]()
    rules.write_text("")
    requests = Requests()

    class Reloads(UntilIdle):
        """Breaks the file, then mends it."""

        num_looks = 0

        def wait(self, timeout: float | None = None) -> bool:
            self.num_looks += 1
            rules.write_text("[[rule]]\n" if self.num_looks == 1 else "")
            requests.reload.set()
            return super().wait() if self.num_looks > 2 else False

    requests = Requests(stop=Reloads())
    settings = MonitorSettings(targets=(Target.parse(str(out)),), state=tmp_path / "s", suppressions=rules)
    assert monitor(lambda: detector, [str(whole)], settings, requests, told.extend) == 400
    assert [one.code for one in told] == ["reload_refused", "reloaded"]
    assert_same(read(out), verdicts_of(detector, whole))


def test_a_monitor_that_is_asked_to_end_while_a_disk_is_full_scores_again_later(
    detector: Detector, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    out, told = tmp_path / "verdicts.jsonl", list[Finding]()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("wirebert.alerts.appended_file.AppendedFile.write", full)
        run(detector, whole, out, told)
    assert [one.code for one in told] == ["sink_down", "sink_down"]
    assert out.read_bytes() == b""
    run(detector, whole, out)
    assert_same(read(out), verdicts_of(detector, whole))
