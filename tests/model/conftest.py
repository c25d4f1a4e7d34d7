import pytest
import torch
from torch import Tensor


@pytest.fixture
def padded() -> tuple[Tensor, Tensor]:
    """Five flows of 1 to 9 tokens, padded to 9."""
    lengths = torch.tensor([9, 1, 5, 7, 2])
    mask = torch.arange(9) < lengths[:, None]
    ids = torch.randint(1, 50, (5, 9), generator=torch.Generator().manual_seed(0))
    return ids * mask, mask
