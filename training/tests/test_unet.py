"""The UNet's own shapes: patches of latents, and what they are stored as."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch
from conftest import open_adapters
from torch.utils.flop_counter import FlopCounterMode

from idadapter.config import Config
from idadapter.models.identity_adapter import predict
from idadapter.models.unet import make_unet
from idadapter.parts import read_unet, write_unet

WIDTH = 48


def unet_and_inputs(config: Config, patch_size: int):
    torch.manual_seed(0)
    unet = make_unet(replace(config.diffusion, patch_size=patch_size), 4, 16, WIDTH).eval()
    open_adapters(unet, 0.5)
    random = torch.Generator().manual_seed(1)
    sample, hidden = torch.randn(2, 4, 16, 16, generator=random), torch.randn(2, 7, WIDTH, generator=random)
    tokens = torch.randn(2, 9, WIDTH, generator=random)
    return unet, (sample, torch.tensor([20.0, 700.0]), hidden, tokens, torch.ones(2))


@torch.no_grad()
def test_patches_leave_the_shapes_outside_and_cost_less(config: Config):
    costs = {}
    for size in (1, 2):
        unet, inputs = unet_and_inputs(config, size)
        with FlopCounterMode(display=False) as counter:
            assert predict(unet, *inputs).shape == inputs[0].shape
        costs[size] = counter.get_total_flops()
        assert (unet.config.in_channels, unet.config.out_channels, unet.config.sample_size) == (4, 4, 16)
    assert costs[2] < 0.5 * costs[1]


@torch.no_grad()
def test_a_patch_is_one_place(config: Config):
    unet, (sample, *_) = unet_and_inputs(config, 2)
    other = sample.clone()
    other[:, :, 6:8, 2:4] += 1
    changed = (unet.conv_in(other) - unet.conv_in(sample)).abs().amax((0, 1)) > 1e-6
    # A 3 x 3 convolution around the place (3, 1).
    assert changed.nonzero().tolist() == [[y, x] for y in (2, 3, 4) for x in (0, 1, 2)]


@torch.no_grad()
def test_a_stored_unet_is_read_with_its_patches(config: Config, tmp_path: Path):
    for size in (1, 2):
        unet, inputs = unet_and_inputs(config, size)
        write_unet(tmp_path, unet)
        assert torch.equal(predict(read_unet(tmp_path).eval(), *inputs), predict(unet, *inputs))
