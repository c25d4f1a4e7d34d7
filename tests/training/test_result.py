import json
from dataclasses import asdict

from wirebert.training.result import NOT_YET, Progress


def test_progress_survives_json():
    progress = Progress(best_step=7, best_valid_loss=0.1, num_worse=2, history=[{"step": 7}])
    assert Progress(**json.loads(json.dumps(asdict(progress)))) == progress


def test_a_training_that_has_not_begun_has_no_best_step():
    assert Progress().best_step == NOT_YET
    assert Progress().evaluated_step == NOT_YET
