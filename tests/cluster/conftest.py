"""What tests of work by shards share: a small exported model, and traffic in several formats."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import csv, parquet

from wirebert.inference.artifact import Artifact, save_artifact
from wirebert.inference.export import export_model

NUM_ROWS = 900


@pytest.fixture(scope="session")
def model(artifact: Artifact, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cluster") / "model"
    save_artifact(artifact, folder, card="")
    export_model(folder, "onnx")
    return folder


@pytest.fixture(scope="session")
def many(table: pa.Table) -> pa.Table:
    """Rows like those of `table`, with a column that no model reads."""
    rows = table.take(pa.array(np.random.default_rng(1).integers(0, table.num_rows, NUM_ROWS), pa.int64()))
    rows = rows.set_column(4, "duration", pa.array(np.random.default_rng(2).exponential(3, NUM_ROWS)))
    return rows.append_column("other", pa.array(["x" * 20] * NUM_ROWS))


@pytest.fixture(scope="session")
def traffic_files(many: pa.Table, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The rows as text with quotes, broken rows, blank lines and a footer; JSON lines; and Parquet."""
    folder = tmp_path_factory.mktemp("traffic")
    files = {name: folder / f"flows.{name}" for name in ("csv", "jsonl", "parquet")}
    csv.write_csv(many, files["csv"], csv.WriteOptions(quoting_style="none"))
    lines = files["csv"].read_text().replace('"', "").splitlines()
    for at in range(50, len(lines), 37):
        lines[at] = ("broken,row", "", lines[0], "caf\ufffd," * 9)[at % 4]
    for at in range(60, len(lines), 41):
        lines[at] = lines[at].replace("x" * 20, '"x, ""x"')
    files["csv"].write_text("\n".join([*lines, "total", ""]))
    objects = [
        {name: value for name, value in row.items() if value is not None}
        for row in many.slice(0, 300).to_pylist()
    ]
    texts = [json.dumps(row).replace("Infinity", "9e99") for row in objects]
    texts[170] = '{"ts": "2026-'
    files["jsonl"].write_text("\n".join(texts) + "\n")
    parquet.write_table(many, files["parquet"], row_group_size=120)
    return files
