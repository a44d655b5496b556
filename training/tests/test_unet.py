"""The compiled UNet is the same UNet."""

from __future__ import annotations

import shutil

import pytest
import torch

from idadapter.config import Config
from idadapter.models.unet import compile_residual_blocks, make_unet, uncompiled


@pytest.mark.skipif(not shutil.which("g++"), reason="torch.compile needs a C++ compiler")
def test_compiled_residual_blocks_compute_the_same(config: Config):
    torch.manual_seed(0)
    unet = make_unet(config.diffusion, 4, 16, 48)
    inputs = (torch.randn(2, 4, 16, 16), torch.tensor([20.0, 700.0]), torch.randn(2, 7, 48))

    def gradient() -> torch.Tensor:
        unet.zero_grad()
        unet(*inputs, return_dict=False)[0].square().mean().backward()
        return unet.conv_in.weight.grad.clone()

    plain = gradient()
    assert plain.abs().max() > 0
    compile_residual_blocks(unet)
    torch.testing.assert_close(gradient(), plain, rtol=1e-3, atol=1e-6)
    with uncompiled():
        assert torch.equal(gradient(), plain)
