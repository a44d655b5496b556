"""Visual injection (equation 7): closed adapters change nothing, open ones are GLIGEN's."""

from __future__ import annotations

from pathlib import Path

import torch
from conftest import open_adapters
from diffusers import UNet2DConditionModel
from diffusers.models.attention import GatedSelfAttentionDense
from torch import Tensor, nn

from idadapter.config import Config
from idadapter.models.identity_adapter import (
    IdentityAdapter,
    IdentityLayout,
    nearby_slopes,
    nearness,
    open_gates,
    predict,
    prefer_nearby,
    renew_adapters,
)
from idadapter.models.unet import make_unet
from idadapter.parts import read_unet, write_unet

WIDTH = 48


def tiny_unet(config: Config, gamma: float) -> UNet2DConditionModel:
    torch.manual_seed(0)
    unet = make_unet(config.diffusion, 4, 16, WIDTH).eval()
    open_adapters(unet, gamma)
    return unet


def inputs(rows: int = 2) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    random = torch.Generator().manual_seed(1)
    return (
        torch.randn(rows, 4, 16, 16, generator=random),
        torch.tensor([20.0, 700.0])[:rows],
        torch.randn(rows, 7, WIDTH, generator=random),
        torch.randn(rows, 9, WIDTH, generator=random),
    )


@torch.no_grad()
def test_closed_adapters_change_nothing(config: Config):
    sample, timestep, hidden, tokens = inputs()
    unet = tiny_unet(config, gamma=0)
    plain = predict(unet, sample, timestep, hidden, None, None)
    assert torch.equal(predict(unet, sample, timestep, hidden, tokens, torch.ones(2)), plain)


@torch.no_grad()
def test_strength_zero_changes_nothing_and_each_row_has_its_own(config: Config):
    sample, timestep, hidden, tokens = inputs()
    unet = tiny_unet(config, gamma=0.5)
    plain = predict(unet, sample, timestep, hidden, None, None)
    assert torch.equal(predict(unet, sample, timestep, hidden, tokens, torch.zeros(2)), plain)
    mixed = predict(unet, sample, timestep, hidden, tokens, torch.tensor([0.0, 1.0]))
    torch.testing.assert_close(mixed[0], plain[0], rtol=0, atol=1e-6)
    assert (mixed[1] - plain[1]).abs().max() > 1e-3
    half = predict(unet, sample, timestep, hidden, tokens, torch.full((2,), 0.5))
    assert (half - plain).abs().max() > 1e-3 and (half[1] - mixed[1]).abs().max() > 1e-4


@torch.no_grad()
def test_other_identity_tokens_give_another_prediction(config: Config):
    sample, timestep, hidden, tokens = inputs()
    unet = tiny_unet(config, gamma=0.5)
    first, second = (predict(unet, sample, timestep, hidden, t, torch.ones(2)) for t in (tokens, tokens.flip(0)))
    assert (first - second).abs().max() > 1e-3


@torch.no_grad()
def test_the_adapter_is_gligens_block_at_strength_one():
    torch.manual_seed(2)
    stock = GatedSelfAttentionDense(query_dim=32, context_dim=WIDTH, n_heads=2, d_head=16).eval()
    stock.alpha_attn.fill_(0.7)
    stock.alpha_dense.fill_(-0.4)
    adapter = IdentityAdapter(query_dim=32, context_dim=WIDTH, n_heads=2, d_head=16).eval()
    adapter.load_state_dict(stock.state_dict())
    x, tokens = torch.randn(2, 11, 32), torch.randn(2, 5, WIDTH)
    expected = stock(x, tokens)
    assert (expected - x).abs().max() > 0.1
    torch.testing.assert_close(adapter(x, (tokens, torch.ones(2), None)), expected, rtol=0, atol=2e-6)


class Objects(nn.Module):
    """GLIGEN's position net replaced by the identity."""

    def forward(self, objs: Tensor) -> Tensor:
        return objs


@torch.no_grad()
def test_the_whole_unet_is_that_of_diffusers(config: Config):
    sample, timestep, hidden, tokens = inputs()
    unet = tiny_unet(config, gamma=0.5)
    stock = UNet2DConditionModel.from_config(unet.config).eval()
    stock.position_net = Objects()
    stock.load_state_dict(unet.state_dict())
    assert not any(isinstance(module, IdentityAdapter) for module in stock.modules())
    extra = {"gligen": {"objs": tokens}}
    expected = stock(sample, timestep, hidden, cross_attention_kwargs=extra, return_dict=False)[0]
    found = predict(unet, sample, timestep, hidden, tokens, torch.ones(2))
    torch.testing.assert_close(found, expected, rtol=0, atol=5e-6)


@torch.no_grad()
def test_a_tokens_bias_is_the_logarithm_of_its_copies(config: Config):
    sample, timestep, hidden, tokens = inputs()
    unet, strength = tiny_unet(config, gamma=0.5), torch.ones(2)
    copies = torch.cat([tokens[:, :6].repeat(1, 3, 1), tokens[:, 6:]], 1)
    expected = predict(unet, sample, timestep, hidden, copies, strength)
    bias = torch.tensor([3.0] * 6 + [1.0] * 3).log().expand(2, -1)
    torch.testing.assert_close(
        predict(unet, sample, timestep, hidden, tokens, strength, bias), expected, rtol=0, atol=1e-5
    )
    unbiased = predict(unet, sample, timestep, hidden, tokens, strength)
    assert (unbiased - expected).abs().max() > 1e-3
    # Padding to another picture's number of tokens: nobody looks there.
    padded = torch.cat([tokens, torch.ones(2, 4, WIDTH)], 1)
    nobody = torch.cat([torch.zeros(2, 9), torch.full((2, 4), -10_000.0)], 1)
    torch.testing.assert_close(
        predict(unet, sample, timestep, hidden, padded, strength, nobody), unbiased, rtol=0, atol=1e-6
    )


def test_opened_gates_change_nothing_and_let_the_adapters_learn(config: Config):
    sample, timestep, hidden, tokens = inputs()

    def gradients(unet: UNet2DConditionModel) -> dict[str, float]:
        unet.zero_grad()
        predict(unet, sample, timestep, hidden, tokens, torch.ones(2)).square().mean().backward()
        return {name: float(p.grad.abs().max()) for name, p in unet.named_parameters() if ".fuser." in name}

    for gamma in (0.0, -0.02):
        unet = tiny_unet(config, gamma)
        before, closed = predict(unet, sample, timestep, hidden, tokens, torch.ones(2)), gradients(unet)
        open_gates(unet, 1.0)
        after, opened = predict(unet, sample, timestep, hidden, tokens, torch.ones(2)), gradients(unet)
        torch.testing.assert_close(after, before, rtol=0, atol=5e-6)
        gates = [p.item() for name, p in unet.named_parameters() if name.endswith(("alpha_attn", "alpha_dense"))]
        assert set(gates) == {1.0}
        last = [name for name in opened if name.endswith(("attn.to_out.0.weight", "ff.net.2.weight"))]
        assert last and all(opened[name] > 20 * closed[name] and opened[name] > 0 for name in last)


def test_places_of_two_grids_are_counted_in_patches():
    near = nearness(queries=4, keys=16, width=4)
    # The first query of a 2 x 2 grid stands amid the first four keys of the 4 x 4 grid, half a diagonal from each.
    torch.testing.assert_close(near[0, [0, 1, 4, 5]], torch.full((4,), -(0.5**0.5)))
    assert near.shape == (4, 16) and near[0].argmin() == 15 and near[3].argmin() == 0
    assert nearby_slopes(8).tolist() == [4.0] * 4 + [0.5] * 2 + [0.0] * 2


@torch.no_grad()
def test_aligned_adapters_attend_to_the_patch_at_their_place(config: Config):
    """Two photos of 3 x 3 patches and 2 face tokens; with q and k zero, attention follows the bias alone."""
    torch.manual_seed(3)
    adapter = IdentityAdapter(query_dim=32, context_dim=WIDTH, n_heads=2, d_head=16).eval()
    adapter.alpha_attn.fill_(1.0)
    for projection in (adapter.attn.to_q, adapter.attn.to_k):
        projection.weight.zero_()
    x, tokens = torch.randn(1, 9, 32), torch.randn(1, 20, WIDTH)

    def moved(token: int) -> Tensor:
        """How far each place's output moves when a token of E_r does."""
        other = tokens.clone()
        other[0, token] += torch.randn(WIDTH)
        strength = torch.ones(1)
        return (adapter(x, (other, strength, None)) - adapter(x, (tokens, strength, None)))[0].norm(dim=1)

    assert moved(4).max() < 3 * moved(4).min()
    adapter.layout = IdentityLayout(patches=9, face_tokens=2)
    for photo in range(2):
        for place in range(9):
            distances = moved(2 + 9 * photo + place)
            assert distances.argmax() == place and distances[place] > 2 * distances.median()
    # A token of f_a has no place: it matters as much everywhere.
    assert moved(0).max() < 3 * moved(0).min()
    # What a batch is filled up with where others have more photos changes nothing.
    known, nobody = torch.zeros(1, 20), torch.full((1, 4), -10_000.0)
    filled = (torch.cat([tokens, torch.ones(1, 4, WIDTH)], 1), torch.ones(1), torch.cat([known, nobody], 1))
    torch.testing.assert_close(adapter(x, filled), adapter(x, (tokens, torch.ones(1), known)), rtol=0, atol=1e-6)


def test_a_layout_outlives_the_parts_folder(config: Config, tmp_path: Path):
    sample, timestep, hidden, tokens = inputs()
    unet = tiny_unet(config, gamma=0.5)
    plain = predict(unet, sample, timestep, hidden, tokens, torch.ones(2))
    prefer_nearby(unet, IdentityLayout(patches=4, face_tokens=1))
    near = predict(unet, sample, timestep, hidden, tokens, torch.ones(2))
    assert (near - plain).abs().max() > 1e-3
    write_unet(tmp_path, unet)
    read = read_unet(tmp_path).eval()
    torch.testing.assert_close(predict(read, sample, timestep, hidden, tokens, torch.ones(2)), near)
    renew_adapters(read)
    closed = predict(read, sample, timestep, hidden, tokens, torch.ones(2))
    assert torch.equal(closed, predict(read, sample, timestep, hidden, None, None))


def test_attention_by_matrix_products_is_the_fused_kernels(config: Config):
    sample, timestep, hidden, tokens = inputs()
    unet, strength = tiny_unet(config, gamma=0.5), torch.ones(2)
    bias = torch.randn(2, tokens.shape[1], generator=torch.Generator().manual_seed(4))
    with torch.no_grad():
        fused = predict(unet, sample, timestep, hidden, tokens, strength, bias)
    torch.testing.assert_close(
        predict(unet, sample, timestep, hidden, tokens, strength, bias), fused, rtol=0, atol=5e-6
    )
