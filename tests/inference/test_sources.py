"""Sources side by side keep their own positions, and every flow has an id that stays."""

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pytest

from wirebert.data.flows import open_flows
from wirebert.data.schema.schema import FlowSchema
from wirebert.data.synthetic import generate
from wirebert.data.synthetic.conn_log import write_conn_log
from wirebert.data.windows import ContextWindows
from wirebert.errors import ConfigError, DataError
from wirebert.inference.detector import Detector
from wirebert.inference.follow_state import SourceProgress
from wirebert.inference.followed_log import Scoring
from wirebert.inference.sources import Sources, with_keys

if TYPE_CHECKING:
    from wirebert.inference.artifact import Artifact
    from wirebert.model.distilbert import DistilBert

Tiny = Callable[..., "tuple[Artifact, DistilBert]"]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("whole") / "conn.log"
    write_conn_log(path, generate(200, seed=3, stealthy=True))
    return path


@pytest.fixture(scope="module")
def detector(whole: Path, make_artifact: Tiny) -> Detector:
    flows = open_flows(whole)
    return Detector(make_artifact(flows.schema, pa.concat_tables(flows.blocks()))[0])


def opened(detector: Detector, *places: str, saved: dict[str, SourceProgress] | None = None) -> Sources:
    scoring = Scoring(detector=detector, tell=[].extend, keep=lambda _: None)
    return Sources(places, saved or {}, scoring)


def ids_of(sources: Sources) -> list[str]:
    return [
        str(identity)
        for source in sources.poll()
        for table in source.tables()
        for identity in with_keys(table, source).column("event_id").to_pylist()
    ]


def test_a_flow_has_one_id_wherever_reading_stops_and_two_logs_have_none_in_common(
    detector: Detector, whole: Path, tmp_path: Path
):
    lines = whole.read_bytes().splitlines(keepends=True)
    logs = [tmp_path / "a.log", tmp_path / "b.log"]
    for log in logs:
        log.write_bytes(b"".join(lines[:100]))
    sources = opened(detector, *map(str, logs))
    start = sources.progress()
    first = ids_of(sources)
    saved = sources.progress()
    assert all(lag.num_behind == 0 for lag in sources.lags().values())
    sources.close()
    assert len(set(first)) == 186
    again = opened(detector, *map(str, logs), saved=start)
    assert ids_of(again) == first
    again.close()
    for log in logs:
        log.write_bytes(b"".join(lines))
    rest = opened(detector, *map(str, logs), saved=saved)
    assert not set(ids_of(rest)) & set(first)
    rest.close()


def test_standard_input_ends_the_sources_when_it_ends(
    detector: Detector, whole: Path, monkeypatch: pytest.MonkeyPatch
):
    reader, writer = os.pipe()
    with os.fdopen(reader) as stream:
        monkeypatch.setattr(sys, "stdin", stream)
        sources = opened(detector, "-")
        os.write(writer, whole.read_bytes())
        assert len(ids_of(sources)) == 200
        assert not sources.are_over
        os.close(writer)
        assert ids_of(sources) == []
        assert sources.are_over
        sources.close()


def test_what_cannot_be_read_is_refused(detector: Detector, whole: Path, tmp_path: Path):
    with pytest.raises(ConfigError, match="named twice"):
        opened(detector, str(whole), str(whole))
    with pytest.raises(DataError, match="expected a log, a folder or a glob"):
        opened(detector, str(tmp_path / "none.log"))


def test_a_model_of_other_windows_is_refused_and_the_old_one_goes_on(
    detector: Detector, whole: Path, make_artifact: Tiny
):
    plain = {**detector.schema.to_dict(), "context": ContextWindows(long_s=7_200).to_dict()}
    table = pa.concat_tables(open_flows(whole).blocks())
    other = Detector(make_artifact(FlowSchema.from_dict(plain), table)[0])
    sources = opened(detector, str(whole))
    with pytest.raises(ConfigError, match="other context windows"):
        sources.reload(other)
    assert len(ids_of(sources)) == 200
    sources.close()
