"""Models built without random initialisation."""

import subprocess
import sys

import torch
from torch import nn

from wirebert.model.undrawn import Undrawn


def test_in_the_mode_nothing_is_drawn_and_constants_are_set():
    before = torch.get_rng_state()
    with Undrawn():
        nn.Linear(3, 2)
        nn.Embedding(3, 2)
        norm = nn.LayerNorm(2)
    assert torch.equal(torch.get_rng_state(), before)
    assert norm.weight.tolist() == [1, 1]
    assert norm.bias.tolist() == [0, 0]


def test_a_new_model_imports_no_algebra():
    program = (
        "import sys\n"
        "from wirebert.model.config import ModelConfig, resolve\n"
        "from wirebert.model.distilbert import DistilBert\n"
        "DistilBert(resolve(ModelConfig(size='mini'), vocab_size=9, num_classes=2))\n"
        "print('sympy' in sys.modules)"
    )
    said = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert said.stdout == "False\n"
