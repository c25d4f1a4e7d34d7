import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from wirebert.errors import ConfigError
from wirebert.model.distilbert import DistilBert
from wirebert.training.config import TrainConfig
from wirebert.training.feeding import LabelledFlows
from wirebert.training.precision import allow_tf32, choose_precision, deterministic_algorithms, torch_threads
from wirebert.training.result import TrainingResult

CONFIG = TrainConfig(epochs=2, batch_size=32, learning_rate=1e-2)
GPU = torch.device("cuda")
has_tf32 = pytest.mark.skipif(
    not (torch.cuda.is_available() and torch.cuda.is_tf32_supported()), reason="needs a GPU with tf32"
)


def product_error() -> float:
    """How far a product in single precision is off on the GPU; tf32 rounds factors by up to 2 ** -11."""
    generator = torch.Generator().manual_seed(0)
    one, other = (torch.randn(512, 512, generator=generator, dtype=torch.float64) for _ in range(2))
    given = (one.to(GPU, torch.float32) @ other.to(GPU, torch.float32)).cpu().double()
    return float((given - one @ other).norm() / (one @ other).norm())


def test_rounded_products_are_switched_on_for_the_block_alone():
    matmul = torch.backends.cuda.matmul
    with allow_tf32(True):
        assert matmul.fp32_precision == "tf32"
        assert torch.get_float32_matmul_precision() == "high"  # torch.compile reads this, which can refuse
    assert matmul.fp32_precision in ("none", "ieee")
    assert torch.get_float32_matmul_precision() == "highest"


def test_not_asked_for_products_stay_as_they_were():
    with allow_tf32(False):
        assert torch.get_float32_matmul_precision() == "highest"


def test_a_failure_in_the_block_switches_back_too():
    with pytest.raises(KeyError), allow_tf32(True):
        raise KeyError
    assert torch.get_float32_matmul_precision() == "highest"


def test_tf32_on_a_processor_is_refused_with_a_way_out():
    config = replace(CONFIG, precision="tf32")
    with pytest.raises(ConfigError, match=r"precision=tf32 needs a GPU .* runs on cpu; use fp32"):
        choose_precision(config, torch.device("cpu"))


def test_tf32_on_an_older_gpu_is_refused(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch.cuda, "is_tf32_supported", lambda: False)
    with pytest.raises(ConfigError, match="needs a GPU"):
        choose_precision(replace(CONFIG, precision="tf32"), GPU)


@pytest.mark.parametrize(("has_bf16", "expected"), [(True, "bf16"), (False, "fp16")])
def test_auto_is_the_half_precision_that_the_gpu_has(
    has_bf16: bool, expected: str, monkeypatch: pytest.MonkeyPatch
):
    def is_supported(*, including_emulation: bool) -> bool:
        return has_bf16 and not including_emulation

    monkeypatch.setattr(torch.cuda, "is_bf16_supported", is_supported)
    assert choose_precision(CONFIG, GPU) == expected


def test_auto_is_single_precision_on_a_processor():
    assert choose_precision(CONFIG, torch.device("cpu")) == "fp32"


def test_a_training_in_tf32_multiplies_so_and_no_longer_than_it_lasts(
    make_model: Callable[..., DistilBert],
    make_flows: Callable[..., LabelledFlows],
    fit: Callable[..., TrainingResult],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    def as_asked(config: TrainConfig, _: torch.device) -> str:
        return config.precision  # a processor has no tf32: without the refusal everything else can be seen

    monkeypatch.setattr("wirebert.training.loop.choose_precision", as_asked)
    seen: set[tuple[object, torch.dtype]] = set()

    def note(_: torch.nn.Module, __: object, output: torch.Tensor) -> None:
        seen.add((torch.backends.cuda.matmul.fp32_precision, output.dtype))

    model = make_model()
    model.classifier.register_forward_hook(note)
    fit(model, make_flows(64), tmp_path, replace(CONFIG, precision="tf32", device="cpu"))
    assert seen == {("tf32", torch.float32)}
    assert torch.get_float32_matmul_precision() == "highest"


@has_tf32
def test_products_of_a_gpu_are_rounded_in_the_block_alone():
    before = product_error()
    with allow_tf32(True):
        rounded = product_error()
    assert before < 1e-6 < 1e-4 < rounded < 3e-3
    assert product_error() == before


@has_tf32
def test_tile_kernel_follows_the_switch():
    pytest.importorskip("triton", reason="Triton comes with PyTorch's CUDA builds")
    from wirebert.model.kernels.tiles import tile_attention

    generator = torch.Generator().manual_seed(0)
    num_heads, width, length = 2, 64, 32
    projected = torch.randn(length, 3 * num_heads * width, generator=generator)
    tiles = torch.tensor([0, length], dtype=torch.int32, device=GPU)
    row_of = torch.zeros(length, dtype=torch.int32, device=GPU)
    parts = projected.double().unflatten(1, (3, num_heads, width)).permute(1, 2, 0, 3)
    query, key, value = parts
    expected = torch.nn.functional.scaled_dot_product_attention(query, key, value).transpose(0, 1).flatten(1)

    def error() -> float:
        seed = torch.zeros((), dtype=torch.int64, device=GPU)
        given = tile_attention(
            *(projected.to(GPU), None, tiles, tiles, row_of, row_of, seed), *(num_heads, width, length, 0.0)
        )
        return float((given.cpu().double() - expected).norm() / expected.norm())

    exact = error()
    with allow_tf32(True):
        rounded = error()
    assert exact < 1e-5 < 1e-4 < rounded < 1e-2
    assert error() == exact


def test_asked_for_it_holds_in_the_block_and_no_longer(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", "")
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG")
    with deterministic_algorithms(True):
        assert torch.are_deterministic_algorithms_enabled()
        assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
        assert torch.backends.cudnn.deterministic
    assert not torch.are_deterministic_algorithms_enabled()
    assert not torch.backends.cudnn.deterministic


def test_not_asked_for_nothing_changes():
    with deterministic_algorithms(False):
        assert not torch.are_deterministic_algorithms_enabled()


def test_operation_without_such_a_kernel_is_a_sentence_with_a_way_out():
    with (
        pytest.raises(ConfigError, match=r"training\.deterministic: .*put_.*set model\.attention=math"),
        deterministic_algorithms(True),
    ):
        torch.zeros(3).put_(torch.tensor([0, 0]), torch.ones(2), accumulate=False)


def test_other_errors_stay_what_they_are():
    with pytest.raises(RuntimeError, match="cannot be multiplied"), deterministic_algorithms(True):
        torch.mm(torch.ones(2, 3), torch.ones(2, 3))


CONFIG_of_threads = TrainConfig(epochs=1, batch_size=32, learning_rate=1e-2, device="cpu")


@pytest.fixture
def two_threads() -> Iterator[None]:
    with torch_threads(2):
        yield


@pytest.mark.usefixtures("two_threads")
@pytest.mark.parametrize(("asked", "expected"), [(None, 2), (1, 1), (3, 3)])
def test_a_training_computes_on_as_many_threads_as_asked_and_gives_them_back(
    make_model: Callable[..., DistilBert],
    make_flows: Callable[..., LabelledFlows],
    fit: Callable[..., TrainingResult],
    tmp_path: Path,
    asked: int | None,
    expected: int,
):
    seen: set[int] = set()

    def note(*_: object) -> None:
        seen.add(torch.get_num_threads())

    model = make_model()
    model.classifier.register_forward_hook(note)
    fit(model, make_flows(64), tmp_path, replace(CONFIG_of_threads, threads=asked))
    assert seen == {expected}
    assert torch.get_num_threads() == 2


@pytest.mark.usefixtures("two_threads")
def test_a_failure_gives_the_threads_back_too():
    with pytest.raises(KeyError), torch_threads(1):
        raise KeyError
    assert torch.get_num_threads() == 2


def test_no_threads_at_all_are_refused():
    with pytest.raises(ConfigError, match=r"training\.threads must be at least 1, got 0"):
        TrainConfig(threads=0)
