"""The complete files of a folder are scored once, oldest first, whatever they are called later."""

import gzip
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest

from wirebert.data.findings import Finding
from wirebert.data.flows import open_flows
from wirebert.data.synthetic import generate
from wirebert.data.synthetic.conn_log import write_conn_log
from wirebert.inference.detector import Detector
from wirebert.inference.follow_state import SourceProgress
from wirebert.inference.followed_folder import FollowedFolder
from wirebert.inference.followed_log import Scoring
from wirebert.inference.predictions import predict_blocks

if TYPE_CHECKING:
    from wirebert.inference.artifact import Artifact
    from wirebert.model.distilbert import DistilBert


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("whole") / "conn.log"
    write_conn_log(path, generate(300, seed=3, stealthy=True))
    return path


@pytest.fixture(scope="module")
def detector(whole: Path, make_artifact: "Callable[..., tuple[Artifact, DistilBert]]") -> Detector:
    flows = open_flows(whole)
    return Detector(make_artifact(flows.schema, pa.concat_tables(flows.blocks()))[0])


def put(folder: Path, name: str, content: bytes, age_s: float) -> Path:
    path = folder / name
    path.write_bytes(content)
    os.utime(path, (time.time() - age_s, time.time() - age_s))
    return path


class Follower:
    def __init__(self, folder: Path, detector: Detector) -> None:
        self.folder, self.told = folder, list[Finding]()
        self.scoring = Scoring(detector=detector, tell=self.told.extend, keep=lambda _: None)
        self.progress = SourceProgress.fresh(detector.schema)

    def scores(self) -> list[float]:
        """Those of what is new, by a process of its own."""
        followed, found = FollowedFolder(str(self.folder), self.progress, self.scoring), list[Any]()
        while True:
            before = followed.progress
            for table in followed.tables():
                found += table.column("attack_score").to_pylist()
            if followed.progress is before:
                self.progress = before
                return found


def test_rotated_files_have_the_verdicts_of_the_whole_log_once(
    detector: Detector, whole: Path, tmp_path: Path
):
    lines = whole.read_bytes().splitlines(keepends=True)
    header, rows = b"".join(lines[:7]), lines[7:]
    (expected,) = [
        table.column("attack_score").to_pylist()
        for table in predict_blocks(detector, open_flows(whole, schema=detector.schema))
    ]
    follower = Follower(tmp_path, detector)
    put(tmp_path, "conn.b.log", header + b"".join(rows[100:200]), 200)
    put(tmp_path, "conn.a.log", header + b"".join(rows[:100]), 300)
    put(tmp_path, "README.log", b"no flows\n", 400)
    found = follower.scores()
    (tmp_path / "conn.a.log").rename(tmp_path / "conn.old.log")
    packed = gzip.compress((tmp_path / "conn.b.log").read_bytes())
    (tmp_path / "conn.b.log").unlink()
    put(tmp_path, "conn.b.log.gz", packed, 100)
    assert follower.scores() == []
    last = put(tmp_path, "conn.c.log", header + b"".join(rows[200:]), 0)
    assert follower.scores() == []  # it may still grow
    put(tmp_path, last.name, last.read_bytes(), 50)
    found += follower.scores()
    assert found == pytest.approx(expected, abs=1e-5)


def test_a_damaged_file_is_told_and_the_next_one_is_scored(detector: Detector, whole: Path, tmp_path: Path):
    put(tmp_path, "a.log.gz", gzip.compress(whole.read_bytes())[:-40], 300)
    put(tmp_path, "b.log", whole.read_bytes(), 200)
    follower = Follower(tmp_path, detector)
    assert len(follower.scores()) == 300
    assert [(one.code, one.example) for one in follower.told] == [("lost_lines", str(tmp_path / "a.log.gz"))]
    assert follower.scores() == []
