from pathlib import Path

import numpy as np
import pytest

from wirebert.config import resolve_run
from wirebert.data.flows import FlowSubset
from wirebert.data.labels import UNLABELLED
from wirebert.encoding.store import EncodedFlows
from wirebert.errors import ConfigError
from wirebert.run_folder import RunFolder
from wirebert.workflows.prepare import (
    encode,
    encoded_folder,
    fit_tokenizer,
    prepare,
    start_reading,
    write_typed_rows,
)


def test_rows_without_a_class_follow_those_with_one_but_what_looks_like_a_judged_row(
    traffic: Path, tmp_path: Path
):
    run = resolve_run(given={"train": str(traffic / "train.csv"), "encoding": {"subword_vocab_size": 300}})
    data = prepare(run, write_typed_rows(run, RunFolder(tmp_path)))
    tokenizer = fit_tokenizer(run, data, tmp_path / "encoded")
    alone = encode(data.train, data, tokenizer, tmp_path / "encoded")
    # All rows of the file once more: those of validation, and what looks like them, are not to be learned
    # from.
    both = encode(data.train, data, tokenizer, tmp_path / "encoded", [FlowSubset("unlabelled", data.flows)])
    assert np.array_equal(both.class_ids[: len(alone)], alone.class_ids)
    more = np.asarray(both.class_ids[len(alone) :])
    assert (more == UNLABELLED).all()
    valid = encode(data.valid, data, tokenizer, tmp_path / "encoded")
    looks = {tokens.tobytes() for tokens in rows_of(valid)}
    kept = [tokens.tobytes() not in looks for tokens in rows_of(alone)]
    assert len(more) == sum(kept) > 0


def rows_of(flows: EncodedFlows) -> list[np.ndarray]:
    return np.split(np.asarray(flows.ids), np.asarray(flows.offsets[1:-1]))


def test_trees_do_not_teach_what_texts_mean(traffic: Path, tmp_path: Path):
    run = resolve_run(given={"train": str(traffic / "train.csv"), "distillation": {"teacher": "gbdt"}})
    with pytest.raises(ConfigError, match=r"distillation\.teacher cannot be gbdt .* uri, user_agent"):
        prepare(run, write_typed_rows(run, RunFolder(tmp_path)))


def test_a_machine_that_reads_texts_alone_does_not_teach_where_there_are_none(traffic: Path, tmp_path: Path):
    given = {
        "train": str(traffic / "train.csv"),
        "data": {"drop": ["uri", "user_agent"]},
        "distillation": {"teacher": "text_svm"},
    }
    with pytest.raises(ConfigError, match=r"distillation\.teacher cannot be text_svm for data without text"):
        write_typed_rows(resolve_run(given=given), RunFolder(tmp_path))


def test_another_process_prepares_the_rows_that_this_one_does(
    traffic: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    run = resolve_run(given={"train": str(traffic / "train.csv")})
    here = prepare(run, write_typed_rows(run, RunFolder(tmp_path / "here")))
    monkeypatch.setattr("wirebert.workflows.prepare.has_nvidia_gpu", lambda: True)
    reading = start_reading(run, RunFolder(tmp_path / "there"))
    monkeypatch.setattr("wirebert.workflows.prepare.write_typed_rows", None)  # this process reads nothing
    there = reading.result()
    for part in ("train", "valid"):
        assert np.array_equal(getattr(there, part).rows, getattr(here, part).rows)
    assert there.findings == here.findings
    assert there.classes == here.classes
    assert there.train_counts == here.train_counts
    tables = [next(iter(data.train.tables())) for data in (here, there)]
    assert tables[0] == tables[1]
    monkeypatch.setattr("wirebert.workflows.prepare.encode_blocks", None)  # nor does it encode them
    folder = encoded_folder(run, RunFolder(tmp_path / "there"))
    tokenizer = fit_tokenizer(run, there, folder)
    assert len(encode(there.train, there, tokenizer, folder)) == sum(there.train_counts)
