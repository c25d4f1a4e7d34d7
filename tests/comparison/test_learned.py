from pathlib import Path

import numpy as np
import pytest

from wirebert.comparison.learned import fit_learned
from wirebert.config import resolve_learning, resolve_run
from wirebert.run_folder import RunFolder
from wirebert.workflows.prepare import write_typed_rows


@pytest.mark.slow
def test_labels_are_not_among_what_is_learned_and_every_flow_has_a_score(
    traffic: Path, tmp_path: Path
) -> None:
    run = resolve_run(None, [], {"train": str(traffic / "test.csv")})
    parsed = write_typed_rows(run, RunFolder(tmp_path)).parsed
    is_train = np.arange(parsed.profile.num_rows) % 2 == 0
    small = ["model.num_layers=1", "training.epochs=1", "surprisal.num_groups=2"]
    folder = RunFolder(tmp_path / "learned")
    folder.path.mkdir()
    detector, correlation = fit_learned(resolve_learning(None, small, {}), parsed, is_train, folder)
    assert detector.classes == ("normal", "unusual")
    assert parsed.flows.require_label() not in detector.schema.names
    scores = [detector.score(table).alert_score for table in parsed.flows.blocks()]
    assert sum(len(one) for one in scores if one is not None) == len(is_train)
    assert np.isfinite(np.concatenate([one for one in scores if one is not None])).all()
    assert -1 <= correlation <= 1 or np.isnan(correlation)
