"""Words pooled into the timestep's embedding."""

from __future__ import annotations

from dataclasses import replace

import torch

from idadapter.config import Config
from idadapter.models.identity_adapter import IdentityAdapter, IdentityLayout, predict, prefer_nearby
from idadapter.models.unet import make_unet, pooled_text_parameters, with_further_channels, with_pooled_text


def test_pooled_text_leaves_a_trained_unet_nearly_as_it_was_and_reaches_all_of_it(config: Config):
    torch.manual_seed(0)
    plain = make_unet(replace(config.diffusion, pooled_text=False), 4, 16, 48)
    prefer_nearby(plain, IdentityLayout(4, 2))
    assert not pooled_text_parameters(plain)
    pooled = with_pooled_text(plain)
    assert pooled_text_parameters(pooled) and with_pooled_text(pooled) is pooled
    assert tuple(pooled.config["identity_layout"]) == (4, 2)
    assert all(block.layout == (4, 2) for block in pooled.modules() if isinstance(block, IdentityAdapter))
    sample, timestep = torch.randn(2, 4, 16, 16), torch.tensor([20.0, 700.0])
    words, others = torch.randn(2, 7, 48), torch.randn(2, 7, 48)

    def run(unet: torch.nn.Module, hidden: torch.Tensor) -> torch.Tensor:
        return predict(unet, sample, timestep, hidden, None, None)

    with torch.no_grad():
        before, after = run(plain, words), run(pooled, words)
    assert 0 < float((after - before).square().mean() / before.square().mean()) < 0.01
    # Without cross-attention the words still arrive, and there is something to learn at once.
    for name, parameter in pooled.named_parameters():
        if ".attn2.to_out.0." in name:
            torch.nn.init.zeros_(parameter)
    assert not torch.equal(run(pooled, words), run(pooled, others))
    run(pooled, words).square().mean().backward()
    # A softmax's keys may all be moved alike, so their bias alone has no gradient.
    assert all(
        parameter.grad.abs().max() > 0
        for name, parameter in pooled.add_embedding.named_parameters()
        if name != "pool.k_proj.bias"
    )


@torch.no_grad()
def test_further_channels_change_nothing_of_what_a_unet_did(config: Config):
    torch.manual_seed(0)
    unet = make_unet(config.diffusion, 4, 16, 48)
    sample, timestep, words = torch.randn(2, 6, 16, 16), torch.tensor([20.0, 700.0]), torch.randn(2, 7, 48)
    before = predict(unet, sample[:, :4], timestep, words, None, None)
    assert with_further_channels(unet, 4) is unet and with_further_channels(unet, 3).config.in_channels == 4
    wide = with_further_channels(unet, 6)
    assert (wide.config.in_channels, wide.config.out_channels) == (6, 6)
    after = predict(wide, sample, timestep, words, None, None)
    assert torch.allclose(after[:, :4], before, atol=1e-5) and not after[:, 4:].any()
