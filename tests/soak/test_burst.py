"""A burst of lines takes bounded memory of a monitor, and gives it back."""

import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pyarrow as pa
import pytest

from wirebert.data.flows import open_flows
from wirebert.data.synthetic import generate
from wirebert.data.synthetic.conn_log import write_conn_log
from wirebert.inference.artifact import save_artifact

if TYPE_CHECKING:
    from wirebert.inference.artifact import Artifact
    from wirebert.model.distilbert import DistilBert

NUM_LINES = 500_000


@pytest.mark.soak
def test_a_burst_of_lines_takes_bounded_memory_and_gives_it_back(
    make_artifact: "Callable[..., tuple[Artifact, DistilBert]]", tmp_path: Path
):
    log, out = tmp_path / "conn.log", tmp_path / "verdicts.jsonl"
    write_conn_log(log, generate(2_000, seed=3, stealthy=True))
    flows = open_flows(log)
    artifact, _ = make_artifact(flows.schema, pa.concat_tables(flows.blocks()))
    save_artifact(artifact, tmp_path / "model", card="")
    rows = log.read_bytes().splitlines(keepends=True)[7:]
    words = ["monitor", str(tmp_path / "model"), str(log), "--to", str(out)]
    with subprocess.Popen([sys.executable, "-m", "wirebert", *words]) as process:
        monitor, peak = psutil.Process(process.pid), 0

        def wait_for(num_lines: int) -> None:
            nonlocal peak
            deadline = time.monotonic() + 900
            while not out.exists() or out.stat().st_size < num_lines * 300 or lines_of(out) < num_lines:
                assert process.poll() is None
                assert time.monotonic() < deadline
                peak = max(peak, monitor.memory_info().rss)
                time.sleep(0.2)

        wait_for(len(rows))
        time.sleep(2)
        before, peak = monitor.memory_info().rss, 0
        with log.open("ab") as file:
            for _ in range(NUM_LINES // len(rows)):
                file.writelines(rows)
        wait_for(len(rows) + NUM_LINES)
        time.sleep(3)
        after = monitor.memory_info().rss
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
    told = f"{before >> 20} MB before, {peak >> 20} MB at most, {after >> 20} MB after"
    assert peak - before < 300 << 20, told
    assert after - before < 200 << 20, told


def lines_of(path: Path) -> int:
    with path.open("rb") as file:
        return sum(block.count(b"\n") for block in iter(lambda: file.read(1 << 20), b""))
