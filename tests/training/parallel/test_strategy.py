from collections.abc import Callable

import pytest
import torch

from wirebert.errors import TrainingError
from wirebert.model.distilbert import DistilBert
from wirebert.training.config import TrainConfig
from wirebert.training.parallel.process_group import SINGLE_RANK, Communicator
from wirebert.training.parallel.strategy import Replicated, Sharded, choose_strategy

CPU = torch.device("cpu")


def unexpected() -> int:
    raise AssertionError("a rank with its own weights does not ask the others")


def test_a_single_process_holds_all_weights_and_scores_all_flows(make_model: Callable[..., DistilBert]):
    model = make_model()
    strategy = choose_strategy(TrainConfig(parallel="fsdp"), model, CPU, SINGLE_RANK)
    assert isinstance(strategy, Replicated)
    assert strategy.place(model, CPU) is model
    assert strategy.scores_all
    assert strategy.gradient_sum(model) is None


def test_two_ranks_share_the_weights_only_if_asked_on_a_cpu(make_model: Callable[..., DistilBert]):
    world = Communicator(0, 2)
    assert isinstance(choose_strategy(TrainConfig(parallel="fsdp"), make_model(), CPU, world), Sharded)
    replicated = choose_strategy(TrainConfig(), make_model(), CPU, world)
    assert isinstance(replicated, Replicated)
    assert not replicated.scores_all
    assert replicated.num_idle(2, unexpected) == 0


def test_a_rank_with_a_part_of_the_weights_makes_as_many_passes_as_the_others():
    strategy = Sharded(Communicator(1, 2))
    assert strategy.num_idle(2, lambda: 5) == 3
    assert strategy.scores_all
    assert not strategy.holds_all_weights
    assert strategy.scoring_tokens("cpu") is not None
    with pytest.raises(TrainingError, match=r"step 7: .* rank 1; set training\.micro_batch_tokens .* 1,000"):
        strategy.require_replay(7, 1000, torch.OutOfMemoryError())


def test_a_rank_with_all_weights_may_repeat_a_step_and_chooses_its_memory_alone():
    strategy = Replicated(Communicator(1, 2))
    strategy.require_replay(7, 1000, torch.OutOfMemoryError())
    assert strategy.agree_on_tokens(77) == 77
    assert strategy.scoring_tokens("cpu") is None
