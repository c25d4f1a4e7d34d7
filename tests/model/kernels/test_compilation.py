"""Kernels compiled before the first step; needs a CUDA GPU."""

import subprocess
import sys

import pytest
import torch

pytest.importorskip("triton", reason="Triton comes with PyTorch's CUDA builds")
if not torch.cuda.is_available():
    pytest.skip("needs a CUDA GPU", allow_module_level=True)

from wirebert.model.kernels.compilation import StepKernels


def test_all_kernels_compile_and_are_compiled_once():
    device = torch.device("cuda", torch.cuda.current_device())
    kernels = StepKernels(device, torch.bfloat16, 64, 2, 0.1, 0.1, (0.9, 0.999), 1e-8)
    compiling = kernels.compiled()
    compiling.result()
    assert kernels._replace(dim=64).compiled() is compiling


def test_no_kernel_imports_the_compiler_of_pytorch():
    program = """
import sys
import torch
from wirebert.model.kernels.compilation import StepKernels

device = torch.device("cuda", torch.cuda.current_device())
StepKernels(device, torch.bfloat16, 64, 2, 0.1, 0.1, (0.9, 0.999), 1e-8).compiled().result()
assert "torch._dynamo" not in sys.modules
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
