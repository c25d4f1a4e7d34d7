"""Kernels compiled before the first step; needs a CUDA GPU."""

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
