import pytest
import torch
import torch.distributed as dist
from torch import nn

from wirebert.model.linear import Linear
from wirebert.training.parallel.gradient_sum import GradientSum
from wirebert.training.parallel.process_group import Communicator

WORLD = Communicator(0, 2)


class Sent:
    """In place of a second rank with the same gradients: doubles what is sent, once it is waited for."""

    def __init__(self) -> None:
        self.sizes: list[int] = []

    def all_reduce(self, numbers: torch.Tensor, async_op: bool = False) -> "Doubling":
        assert async_op
        self.sizes.append(numbers.numel())
        return Doubling(numbers)


class Doubling(dist.Work):
    def __init__(self, numbers: torch.Tensor) -> None:
        super().__init__()
        self._numbers = numbers

    def wait(self, timeout: object = None) -> bool:
        self._numbers *= 2
        return True


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> Sent:
    doubles = Sent()
    monkeypatch.setattr("torch.distributed.all_reduce", doubles.all_reduce)
    return doubles


@pytest.fixture
def model() -> nn.Sequential:
    """Weights and biases of 12 + 3, 12 + 4 and 8 + 2 numbers; each takes a multiple of 4."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 4), nn.Linear(4, 2))


def loss(model: nn.Sequential) -> torch.Tensor:
    return model(torch.ones(5, 4)).square().sum()


def weight_of(layer: nn.Module) -> nn.Parameter:
    return next(layer.parameters())


def gradients(model: nn.Module) -> list[torch.Tensor]:
    return [own.grad.clone() for own in model.parameters() if own.grad is not None]


def test_pieces_are_of_the_least_size_and_the_last_layers_come_first(sent: Sent, model: nn.Sequential):
    total = GradientSum(model.parameters(), WORLD, piece_bytes=4 * 10)
    total.collect()
    total.exchange()
    assert sent.sizes == [12, 16, 16]


@pytest.mark.parametrize("piece_bytes", [1, 4 * 12, 10**6])
@pytest.mark.parametrize("is_overlapped", [False, True])
def test_each_gradient_becomes_the_sum_over_both_ranks(
    sent: Sent, model: nn.Sequential, piece_bytes: int, is_overlapped: bool
):
    loss(model).backward()
    own = gradients(model)
    model.zero_grad()
    total = GradientSum(model.parameters(), WORLD, piece_bytes)
    for _ in range(2):  # steps
        if is_overlapped:
            with total.sent_while_computed():
                loss(model).backward()
        else:
            loss(model).backward()
            total.collect()
        total.exchange()
        assert all(torch.equal(got, 2 * one) for got, one in zip(gradients(model), own, strict=True))
        model.zero_grad()
    assert sum(sent.sizes) == 2 * 44


def test_a_piece_is_sent_before_the_next_gradients_are_computed(sent: Sent, model: nn.Sequential):
    total = GradientSum(model.parameters(), WORLD, piece_bytes=1)
    seen: list[int] = []

    def note(_: torch.Tensor) -> None:
        seen.append(len(sent.sizes))

    weight_of(model[0]).register_hook(note)
    with total.sent_while_computed():
        loss(model).backward()
    assert seen[0] >= 4, "weights and biases of the two later layers"


def test_weights_without_a_gradient_count_as_zero_and_hold_up_later_pieces(sent: Sent, model: nn.Sequential):
    total = GradientSum(model.parameters(), WORLD, piece_bytes=1)
    with total.sent_while_computed():
        model[1](
            model[0](torch.ones(5, 4))
        ).sum().backward()  # the last layer, whose piece is first, is unused
    assert sent.sizes == []
    total.exchange()
    assert sum(sent.sizes) == 44
    assert not gradients(model[2])[0].any()
    assert gradients(model[0])[0].any()


def test_after_a_pass_that_failed_all_pieces_are_sent_again(sent: Sent, model: nn.Sequential):
    total = GradientSum(model.parameters(), WORLD, piece_bytes=1)

    def fail() -> None:
        with total.sent_while_computed():
            loss(model).backward()
            raise torch.OutOfMemoryError

    with pytest.raises(torch.OutOfMemoryError):
        fail()
    model.zero_grad()
    before = len(sent.sizes)
    loss(model).backward()
    total.collect()
    total.exchange()
    assert sum(sent.sizes[before:]) == 44


def test_frozen_weights_are_not_sent(sent: Sent, model: nn.Sequential):
    model[0].requires_grad_(False)
    total = GradientSum(model.parameters(), WORLD)
    loss(model).backward()
    total.collect()
    total.exchange()
    assert sent.sizes == [28]
    assert gradients(model[0]) == []


def test_gradients_begin_where_kernels_read_16_bytes_at_once(sent: Sent, model: nn.Sequential):
    total = GradientSum(model.parameters(), WORLD, piece_bytes=4 * 10)
    total.collect()
    total.exchange()
    assert sent.sizes
    assert {own.grad.data_ptr() % 16 for own in model.parameters() if own.grad is not None} == {0}


def test_layers_write_into_the_buffer_until_it_is_closed(sent: Sent):
    model = nn.Sequential(Linear(4, 3), Linear(3, 2))
    model[0].requires_grad_(False)
    total = GradientSum(model.parameters(), WORLD)
    total.attach(model)
    first, last = model
    assert isinstance(first, Linear)
    assert isinstance(last, Linear)
    assert first.gradient_room is None
    assert last.gradient_room is not None
    last.gradient_room.fill_(3.0)
    last.weight.grad = last.gradient_room.view(last.gradient_room.shape)  # as its backward pass does
    total.collect()
    assert last.weight.grad is None
    total.exchange()
    assert torch.equal(last.weight.grad, torch.full((2, 3), 6.0))
    total.close()
    assert last.gradient_room is None
