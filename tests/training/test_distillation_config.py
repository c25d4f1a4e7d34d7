from pathlib import Path

import pytest

from wirebert.errors import ConfigError
from wirebert.training.distillation_config import DistillationConfig


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"temperature": 0.0}, "distillation.temperature must be above 0, got 0.0"),
        ({"teacher_weight": 1.5}, r"distillation.teacher_weight must be in \[0, 1\], got 1.5"),
        (
            {"augmentation_factor": -1.0, "teacher": "gbdt"},
            "distillation.augmentation_factor must be at least 0, got -1.0",
        ),
        ({"augmentation_factor": 2.0}, "distillation.augmentation_factor needs a teacher"),
        ({"unlabelled": ("a.csv",)}, "distillation.unlabelled needs a trained teacher"),
        (
            {"unlabelled": ("a.csv",), "teacher": "gbdt"},
            "set distillation.teacher to a model folder, got 'gbdt'",
        ),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings: dict[str, object], message: str):
    with pytest.raises(ConfigError, match=message):
        DistillationConfig(**settings)  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize(("teacher", "folder"), [("", None), ("gbdt", None), ("a/model", Path("a/model"))])
def test_a_teacher_is_a_model_folder_unless_it_is_fitted(teacher: str, folder: Path | None):
    assert DistillationConfig(teacher=teacher).model_folder == folder
