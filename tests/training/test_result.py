import json
from dataclasses import asdict

from wirebert.training.result import NOT_EVALUATED, TrainerState


def test_progress_survives_json():
    progress = TrainerState(best_step=7, best_valid_loss=0.1, num_worse=2, history=[{"step": 7}])
    assert TrainerState(**json.loads(json.dumps(asdict(progress)))) == progress


def test_a_training_that_has_not_begun_has_no_best_step():
    assert TrainerState().best_step == NOT_EVALUATED
    assert TrainerState().evaluated_step == NOT_EVALUATED
