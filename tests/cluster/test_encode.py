"""Typed rows, tokenizer and encoded flows by shards: the store has the bytes of one process."""

from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from wirebert.cluster import staging
from wirebert.cluster.encode import EncodePieces, pieces_of
from wirebert.cluster.executors import InProcess
from wirebert.cluster.plan import plan_shards
from wirebert.config import resolve_run
from wirebert.data import typed_rows
from wirebert.data.flows import FlowSubset, open_flows
from wirebert.data.labels import ClassMap
from wirebert.data.synthetic import write_csv
from wirebert.data.typed_rows import read_pieces, read_typed_rows
from wirebert.encoding.store import EncodedFlows
from wirebert.encoding.tokenizer import FlowTokenizer
from wirebert.run_folder import RunFolder
from wirebert.workflows.prepare import encode, fit_tokenizer, prepare, prepare_and_encode, write_typed_rows
from wirebert.workflows.typed_rows import parse_once


@pytest.fixture(autouse=True)
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files of these tests have several shards, and typed rows several pieces."""
    monkeypatch.setattr(staging, "plan_shards", partial(plan_shards, shard_bytes=12_000, shard_rows=200))
    monkeypatch.setattr(typed_rows, "PIECE_ROWS", 100)


def stored(cache: Path) -> dict[str, bytes]:
    """The tokenizer and the files of encoded flows below a folder."""
    files = [*cache.glob("*.tokenizer.json"), *cache.glob("*/*.bin"), *cache.glob("*/store.json")]
    return {str(path.relative_to(cache)): path.read_bytes() for path in files}


@pytest.mark.parametrize("name", ["csv", "jsonl", "parquet", "logs with context"])
def test_tokenizer_and_store_have_the_bytes_of_one_process(
    name: str, traffic_files: dict[str, Path], tmp_path: Path
):
    logs = tmp_path / "logs"
    logs.mkdir()
    for seed in range(3):
        write_csv(logs / f"{seed}.csv", 200, seed)
    settings = {"max_invalid_fraction": 0.5, "context": True if name not in traffic_files else None}
    given: dict[str, object] = {"train": str(traffic_files.get(name, logs)), "data": settings}
    run = resolve_run(None, [], given)
    folders = [RunFolder(tmp_path / which) for which in ("plain", "shards")]
    for folder in folders:
        folder.path.mkdir()
    prepare_and_encode(run, folders[1], InProcess())
    data = prepare(run, write_typed_rows(run, folders[0]))
    rows = next(folders[1].encoded.glob("*.rows"))
    assert len(read_pieces(rows)) > 2
    assert {path.name for path in rows.iterdir()} == {"rows.arrows", "index.json"}
    tokenizer = fit_tokenizer(run, data, folders[0].encoded)
    for part in (data.train, data.valid):
        encode(part, data, tokenizer, folders[0].encoded)
    ours, theirs = stored(folders[1].encoded), stored(folders[0].encoded)
    assert len(theirs) == 11
    assert ours == theirs
    assert not list(folders[1].encoded.glob(".*.pieces"))


def test_typed_rows_by_shards_are_those_of_one_process_in_other_blocks(
    traffic_files: dict[str, Path], tmp_path: Path
):
    flows = open_flows(traffic_files["csv"])
    flows = replace(flows, config=replace(flows.config, max_invalid_fraction=0.5))
    plain = parse_once(flows, tmp_path / "plain")
    shards = parse_once(flows, tmp_path / "shards", executor=InProcess())
    assert plain.fingerprint == shards.fingerprint
    ours, theirs = (
        [row for block in parsed.flows.blocks() for row in block.to_pylist()] for parsed in (shards, plain)
    )
    assert ours == theirs
    folder = shards.flows.typed_rows
    assert folder is not None
    by_piece = [read_typed_rows(folder, piece) for piece in read_pieces(folder)]
    assert [row for blocks in by_piece for block in blocks for row in block.to_pylist()] == theirs


def test_a_piece_that_a_worker_finished_is_not_encoded_again(traffic_files: dict[str, Path], tmp_path: Path):
    parsed = parse_once(open_flows(traffic_files["parquet"]), tmp_path / "cache")
    subset = FlowSubset("all", parsed.flows)
    tokenizer = FlowTokenizer.fit(parsed.flows.schema, subset.tables)
    job = EncodePieces(tokenizer, ClassMap(classes=("normal", "dos")), "label", tmp_path / "pieces")
    first, *_ = pieces_of(subset)
    work = job.load()
    assert work(first) > 0
    before = (job.path_of(first) / "ids.bin").stat().st_mtime_ns
    assert work(first) > 0
    assert (job.path_of(first) / "ids.bin").stat().st_mtime_ns == before
    (job.path_of(first) / "ids.bin").write_bytes(b"")
    work(first)
    flows = EncodedFlows.open(job.path_of(first))
    np.testing.assert_array_equal(flows.rows, np.arange(first.piece.num_rows))
