import pytest
import torch

from wirebert.errors import ConfigError
from wirebert.training.config import TrainConfig
from wirebert.training.device import choose_device, choose_micro_batch_tokens


def test_gpu_asked_for_where_there_is_none_is_a_config_error():
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(ConfigError, match=r"training\.device"):
        choose_device(TrainConfig(device="cuda"))


def test_a_gpu_takes_a_step_whole_and_a_processor_what_its_cache_holds():
    assert choose_micro_batch_tokens(TrainConfig(), torch.device("cuda")) == 0
    assert choose_micro_batch_tokens(TrainConfig(), torch.device("cpu")) == 4_096
    whole = TrainConfig(micro_batch_tokens="whole")
    assert choose_micro_batch_tokens(whole, torch.device("cpu")) == 0
    assert choose_micro_batch_tokens(TrainConfig(micro_batch_tokens=77), torch.device("cuda")) == 77
