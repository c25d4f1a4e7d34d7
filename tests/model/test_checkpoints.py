import json
from collections.abc import Generator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from huggingface_hub.errors import LocalEntryNotFoundError
from safetensors.torch import save_file
from torch import Tensor
from torch.nn.functional import cross_entropy
from transformers import DistilBertConfig, DistilBertForSequenceClassification, DistilBertModel

from wirebert.errors import CheckpointError, ConfigError
from wirebert.model.checkpoints import (
    build,
    hugging_face_state,
    load_hugging_face_state,
    read_pretrained,
    restored,
)
from wirebert.model.config import Architecture, ModelConfig
from wirebert.model.distilbert import DistilBert
from wirebert.model.initialization import TokenLayout

TINY = Architecture(
    vocab_size=50, num_classes=3, dim=16, num_layers=2, num_heads=4, hidden_dim=32, max_positions=24
)
CLASSES = ("normal", "dos", "probe")


# Two special tokens; of duration three marks and eight bins; of service three marks and four values.
LAYOUT = TokenLayout(
    vocabulary=(
        "[PAD]",
        "[CLS]",
        *(f"duration:<{name}>" for name in ("missing", "unseen", "absent")),
        *(f"duration:q{index}" for index in range(8)),
        *(f"service:<{name}>" for name in ("missing", "unseen", "absent")),
        *(f"service:{name}" for name in ("http", "ftp", "smtp", "ssh")),
    ),
    pad_id=0,
    positions=False,
    num_slots=2,
    token_slots=np.array([-1] * 2 + [0] * 11 + [1] * 7),
    token_groups=np.array([-1] * 2 + [0] * 11 + [1] * 7),
    slot_special_states=(np.array([2, 3, 4]), np.array([13, 14, 15])),
    ordered_numbers=(np.arange(5, 13),),
    new_tokens=np.arange(0),
    new_token_subwords=(),
)


def stock(architecture: Architecture = TINY, *, seed: int = 0) -> DistilBertForSequenceClassification:
    """Hugging Face's model of the same shape, all weights drawn large enough to matter."""
    torch.manual_seed(seed)
    config = DistilBertConfig.from_dict(architecture.to_hugging_face(CLASSES))
    model = DistilBertForSequenceClassification(config)
    with torch.no_grad():
        for weight in model.parameters():
            weight.copy_(torch.randn_like(weight) * 0.3)
    return model.eval()


def ours(architecture: Architecture = TINY, *, token_slots: Tensor | None = None) -> DistilBert:
    """Our model, all weights drawn large enough to matter."""
    model = DistilBert(architecture, token_slots=token_slots)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.requires_grad:
                weight.copy_(
                    torch.randn(weight.shape, generator=torch.Generator().manual_seed(len(name))) * 0.3
                )
        columns = model.embeddings.column_embeddings
        if columns is not None:
            columns.weight[-1] = 0
    return model.eval()


def save(
    folder: Path, model: DistilBertForSequenceClassification | DistilBertModel, vocabulary: tuple[str, ...]
) -> str:
    model.save_pretrained(folder)
    (folder / "vocab.txt").write_text("\n".join(vocabulary))
    return str(folder)


def test_our_model_with_their_weights_gives_their_logits_and_gradients(padded: tuple[Tensor, Tensor]):
    theirs, mine = stock(), DistilBert(TINY).eval()
    load_hugging_face_state(mine, theirs.state_dict(), where="stock")
    ids, mask = padded
    their_logits, my_logits = theirs(ids, attention_mask=mask.long()).logits, mine(ids, mask)
    torch.testing.assert_close(my_logits, their_logits, atol=1e-5, rtol=1e-5)
    labels = torch.tensor([0, 1, 2, 0, 1])
    cross_entropy(their_logits, labels).backward()
    cross_entropy(my_logits, labels).backward()
    gradients = DistilBert(TINY)  # a model whose weights are our gradients, to give them their names
    with torch.no_grad():
        for target, weight in zip(gradients.parameters(), mine.parameters(), strict=True):
            assert weight.grad is not None
            target.copy_(weight.grad)
    named = hugging_face_state(gradients)
    for name, weight in theirs.named_parameters():
        assert weight.grad is not None
        torch.testing.assert_close(named[name], weight.grad, atol=1e-5, rtol=1e-4, msg=name)


def test_all_hidden_states_are_theirs(padded: tuple[Tensor, Tensor]):
    theirs, mine = stock(), DistilBert(TINY).eval()
    load_hugging_face_state(mine, theirs.state_dict(), where="stock")
    ids, mask = padded
    expected = theirs(ids, attention_mask=mask.long(), output_hidden_states=True).hidden_states
    for my_state, their_state in zip(mine.hidden_states(ids, mask), expected, strict=True):
        torch.testing.assert_close(my_state[mask], their_state[mask], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("positions", [True, False])
@pytest.mark.parametrize("num_columns", [0, 3])
def test_their_model_with_our_weights_gives_our_logits(
    padded: tuple[Tensor, Tensor], positions: bool, num_columns: int
):
    slots = torch.randint(-1, 3, (TINY.vocab_size,), generator=torch.Generator().manual_seed(0))
    mine = ours(replace(TINY, positions=positions, num_columns=num_columns), token_slots=slots)
    theirs = stock(seed=1)
    theirs.load_state_dict(hugging_face_state(mine))  # strict: every name, no other
    ids, mask = padded
    expected = theirs(ids, attention_mask=mask.long()).logits
    torch.testing.assert_close(mine(ids, mask), expected, atol=1e-5, rtol=1e-5)


def test_folded_weights_loaded_back_give_the_same_logits(padded: tuple[Tensor, Tensor]):
    slots = torch.arange(TINY.vocab_size) % 4 - 1
    first = ours(replace(TINY, num_columns=3), token_slots=slots)
    second = DistilBert(replace(TINY, num_columns=3), token_slots=slots).eval()
    load_hugging_face_state(second, hugging_face_state(first), where="first")
    torch.testing.assert_close(second(*padded), first(*padded), atol=1e-6, rtol=1e-5)


@pytest.fixture
def junk() -> Generator[None]:
    """New memory holds what is no number, or the largest one."""
    torch.use_deterministic_algorithms(True)
    assert torch.empty(2).isnan().all()
    yield
    torch.use_deterministic_algorithms(False)


@pytest.mark.usefixtures("junk")
@pytest.mark.parametrize(
    "settings",
    [{}, {"positions": False}, {"num_columns": 3}, {"attention_pattern": "columns"}, {"max_masked": 2}],
    ids=lambda settings: "".join(settings),
)
def test_every_number_of_a_restored_model_is_set(settings: dict[str, object]):
    architecture = replace(TINY, num_classes=50, **settings)  # pyright: ignore[reportArgumentType]
    state = hugging_face_state(ours(architecture))
    state.pop("token_groups", None)  # as in a pretrained model
    expected, found = DistilBert(architecture), restored(architecture, state, where="here")
    load_hugging_face_state(expected, state, where="here")
    named = found.state_dict()
    assert all(torch.equal(named[name], tensor) for name, tensor in expected.state_dict().items())


def test_a_restored_model_has_drawn_nothing():
    state, before = stock().state_dict(), torch.get_rng_state()
    restored(TINY, state, where="here")
    assert torch.equal(torch.get_rng_state(), before)


def test_a_wrong_weight_is_named_and_nothing_is_loaded():
    state = stock().state_dict()
    model = DistilBert(TINY)
    before = [weight.clone() for weight in model.parameters()]
    for change, said in (
        ({"classifier.bias": None}, "'classifier.bias' is missing"),
        ({"distilbert.extra": torch.zeros(1)}, "'distilbert.extra' belongs to no DistilBERT"),
        ({"classifier.bias": torch.zeros(7)}, r"'classifier.bias' must have shape \(3,\), got \(7,\)"),
    ):
        changed = {name: weight for name, weight in {**state, **change}.items() if weight is not None}
        with pytest.raises(CheckpointError, match=f"there: weight {said}"):
            load_hugging_face_state(model, changed, where="there")
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))


def test_a_model_from_scratch_fits_its_tokenizer():
    model = build(ModelConfig(size="mini"), LAYOUT, classes=CLASSES, seed=0)
    assert (model.architecture.vocab_size, model.architecture.num_columns) == (20, 2)
    assert not model.architecture.positions
    again = build(ModelConfig(size="mini"), LAYOUT, classes=CLASSES, seed=0)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), again.parameters(), strict=True))
    other = build(ModelConfig(size="mini"), LAYOUT, classes=CLASSES, seed=1)
    assert not torch.equal(other.classifier.weight, model.classifier.weight)


def test_an_own_model_started_again_gives_the_same_logits(tmp_path: Path):
    layout, theirs = replace(LAYOUT, positions=True), stock(replace(TINY, vocab_size=20))
    start = save(tmp_path, theirs, layout.vocabulary)
    model = build(ModelConfig(init_from=start), layout, classes=CLASSES, seed=0).eval()
    ids = torch.arange(1, 20)[None]
    torch.testing.assert_close(model(ids), theirs(ids).logits, atol=1e-5, rtol=1e-5)


def test_tokens_are_matched_by_text_and_the_rest_starts_new(tmp_path: Path):
    theirs = stock(replace(TINY, vocab_size=3))
    start = save(tmp_path, theirs, ("[CLS]", "service:ssh", "elsewhere"))
    model = build(ModelConfig(init_from=start), LAYOUT, classes=CLASSES, seed=0)
    words, known = (
        model.embeddings.word_embeddings.weight,
        theirs.distilbert.embeddings.word_embeddings.weight,
    )
    assert torch.equal(words[1], known[0])
    assert torch.equal(words[19], known[1])
    assert words[16].std() < 0.1  # service:http is new


def test_extended_vocabulary_keeps_rows_and_starts_new_tokens_at_the_mean_of_their_pieces(tmp_path: Path):
    theirs = stock(replace(TINY, vocab_size=5))
    start = save(tmp_path, theirs, ("[PAD]", "[CLS]", "service", "http", ":"))
    layout = TokenLayout(
        vocabulary=("[PAD]", "[CLS]", "service", "http", ":", "service:http"),
        pad_id=0,
        positions=True,
        num_slots=1,
        token_slots=np.array([-1, -1, -1, -1, -1, 0]),
        token_groups=np.array([-1, -1, -1, -1, -1, 0]),
        slot_special_states=(np.arange(0),),
        ordered_numbers=(),
        new_tokens=np.array([5]),
        new_token_subwords=(np.array([2, 4, 3]),),
    )
    model = build(ModelConfig(init_from=start), layout, classes=CLASSES, seed=0)
    words, known = (
        model.embeddings.word_embeddings.weight,
        theirs.distilbert.embeddings.word_embeddings.weight,
    )
    torch.testing.assert_close(words[:5], known)
    torch.testing.assert_close(words[5], known[2:].mean(dim=0))
    short = replace(layout, new_tokens=np.array([4]))
    with pytest.raises(CheckpointError, match=r"has 5 tokens, .* extended has 4"):
        build(ModelConfig(init_from=start), short, classes=CLASSES, seed=0)


def test_the_head_is_new_for_other_classes(tmp_path: Path):
    theirs = stock(replace(TINY, vocab_size=20))
    start = save(tmp_path, theirs, LAYOUT.vocabulary)
    same = build(ModelConfig(init_from=start), LAYOUT, classes=CLASSES, seed=0)
    assert torch.equal(same.classifier.weight, theirs.classifier.weight)
    turned = build(ModelConfig(init_from=start), LAYOUT, classes=CLASSES[::-1], seed=0)
    assert turned.classifier.weight.std() < 0.1
    name = "transformer.layer.0.ffn.lin1.weight"
    assert torch.equal(turned.layer[0].state_dict()["lin1.weight"], theirs.distilbert.state_dict()[name])


def test_a_body_without_head_and_prefix_can_be_started_from(tmp_path: Path):
    body = stock(replace(TINY, vocab_size=20)).distilbert
    start = save(tmp_path, body, LAYOUT.vocabulary)
    model = build(ModelConfig(init_from=start), LAYOUT, classes=CLASSES, seed=0)
    name = "transformer.layer.1.ffn.lin2.bias"
    assert torch.equal(model.layer[1].state_dict()["lin2.bias"], body.state_dict()[name])


def test_a_setting_that_contradicts_the_start_is_refused(tmp_path: Path):
    start = save(tmp_path, stock(), ())
    for config in (ModelConfig(init_from=start, num_layers=5), ModelConfig(init_from=start, size="mini")):
        with pytest.raises(ConfigError, match=r"model\.\w+ is \d+ in .*, where the model starts"):
            build(config, LAYOUT, classes=CLASSES, seed=0)
    freer = build(ModelConfig(init_from=start, dropout=0.0), LAYOUT, classes=CLASSES, seed=0)
    assert freer.architecture.dropout == 0.0


def test_a_folder_that_is_no_distilbert_is_refused_in_one_sentence(tmp_path: Path):
    with pytest.raises(CheckpointError, match=r"expected a file config\.json"):
        read_pretrained(str(tmp_path))
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "distilbert"}))
    with pytest.raises(CheckpointError, match=r"expected a file model\.safetensors"):
        read_pretrained(str(tmp_path))
    (tmp_path / "model.safetensors").write_bytes(b"torn")
    with pytest.raises(CheckpointError, match="not a readable safetensors file"):
        read_pretrained(str(tmp_path))
    save_file({"a": torch.zeros(1)}, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert"}))
    with pytest.raises(ConfigError, match="expected model_type 'distilbert', got 'bert'"):
        read_pretrained(str(tmp_path))


def test_a_missing_folder_is_not_looked_for_on_the_hub():
    with pytest.raises(CheckpointError, match="there is no such folder; check the path"):
        read_pretrained("./nowhere/at/all")


def test_a_hub_name_without_network_gives_one_sentence_and_the_way_out(monkeypatch: pytest.MonkeyPatch):
    def offline(name: str, *, allow_patterns: list[str]) -> str:
        assert "model.safetensors" in allow_patterns
        raise LocalEntryNotFoundError("no connection\nand more")

    monkeypatch.setattr("huggingface_hub.snapshot_download", offline)
    with pytest.raises(
        CheckpointError, match=r"\(no connection\); without a network pass a folder"
    ) as caught:
        read_pretrained("distilbert-base-uncased")
    assert "\n" not in str(caught.value)


def test_a_hub_name_is_read_from_its_local_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    folder = save(tmp_path, stock(), ("[PAD]", "[CLS]"))

    def cached(name: str, *, allow_patterns: list[str]) -> str:
        return folder

    monkeypatch.setattr("huggingface_hub.snapshot_download", cached)
    pretrained = read_pretrained("someone/something")
    assert (pretrained.name, pretrained.classes) == ("someone/something", CLASSES)
    assert pretrained.vocabulary == {"[PAD]": 0, "[CLS]": 1}
