"""The quick group normalisation: torch's numbers, in the memory format they came in."""

from __future__ import annotations

from copy import deepcopy

import pytest
import torch
from torch import nn

from idadapter.models.group_norm import ContiguousGroupNorm, contiguous_group_norms


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
def test_it_gives_torchs_numbers_and_gradients(dtype: torch.dtype, layout: torch.memory_format):
    random = torch.Generator().manual_seed(0)
    norm = nn.GroupNorm(4, 8)
    nn.init.normal_(norm.weight, generator=random)
    nn.init.normal_(norm.bias, generator=random)
    ours = deepcopy(norm)
    contiguous_group_norms(nn.Sequential(ours))
    assert type(ours) is ContiguousGroupNorm and torch.equal(ours.weight, norm.weight)
    inputs = torch.randn(3, 8, 6, 6, generator=random).to(dtype).contiguous(memory_format=layout)
    found = []
    for one in (norm, ours):
        leaf = inputs.clone(memory_format=torch.preserve_format).requires_grad_(True)
        normal = one(leaf)
        normal.float().square().sum().backward()
        assert normal.dtype == dtype and normal.is_contiguous(memory_format=layout)
        found.append((normal.float(), leaf.grad.float(), one.weight.grad, one.bias.grad))
    for theirs, own in zip(*found, strict=True):
        assert torch.allclose(own, theirs, atol=0.05 if dtype == torch.bfloat16 else 1e-5, rtol=0.02)
