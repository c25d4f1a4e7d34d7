from pathlib import Path

import numpy as np

from wirebert.config import resolve_learning
from wirebert.data.flows import open_flows
from wirebert.workflows.unlabelled_rows import later_rows, open_rows, together, without_labels

NONE = "id,bytes,label\n" + "".join(f"{n % 9},{n % 5},x\n" for n in range(50))
TIMES = "ts,bytes,label\n" + "".join(f"2026-01-{1 + n % 20:02} 00:00:00,{n},x\n" for n in range(60))


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_rows_of_several_files_follow_each_other_without_labels(tmp_path: Path):
    rows = (
        str(write(tmp_path / "a.csv", TIMES)),
        str(write(tmp_path / "b.csv", TIMES.replace(",label", "").replace(",x", ""))),
    )
    flows = without_labels(together(open_rows(resolve_learning(given={"rows": list(rows)}))))
    tables = list(flows.blocks())
    assert sum(table.num_rows for table in tables) == 120
    assert all("label" not in table.column_names for table in tables)


def test_the_latest_rows_set_the_thresholds_and_without_times_equal_rows_stay_together(tmp_path: Path):
    flows = open_flows(write(tmp_path / "a.csv", TIMES))
    split = later_rows(flows, np.arange(60, dtype=np.uint64), 0.2, seed=1)
    days = np.arange(60) % 20
    assert days[split.is_valid].min() > days[split.is_train].max()
    assert split.is_valid.sum() == 12
    assert "latest 12 flows by ts" in split.statement
    timeless = open_flows(write(tmp_path / "b.csv", NONE))
    hashes = (np.arange(50) % 9).astype(np.uint64)
    split = later_rows(timeless, hashes, 0.2, seed=1)
    assert not set(hashes[split.is_valid]) & set(hashes[split.is_train])
    assert "no times" in split.statement
    assert "Labels were not read" in split.statement


def test_flows_of_one_instant_are_split_at_random(tmp_path: Path):
    flows = open_flows(write(tmp_path / "a.csv", TIMES.replace("-01-", "-02-").replace("-02-", "-02-")))
    same = write(tmp_path / "b.csv", "ts,bytes\n" + "".join(f"2026-01-01 00:00:00,{n}\n" for n in range(60)))
    split = later_rows(open_flows(same), np.arange(60, dtype=np.uint64), 0.2, seed=1)
    assert 0 < split.is_valid.sum() < 60
    assert flows.name
