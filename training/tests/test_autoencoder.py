"""The latent space that the autoencoder's stage hands on."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from idadapter.config import Config
from idadapter.data.latents import fingerprint
from idadapter.data.vision_crops import to_tensor
from idadapter.loop import Stage, StepRandom, train
from idadapter.models.autoencoder import decode, encode, make_autoencoder, start_from
from idadapter.parts import read_vae


def test_latents_have_unit_variance_when_they_are_read_back(run: Path, make_tiny_stage: Callable[..., Stage]):
    stage = make_tiny_stage("autoencoder", run)
    stage.write_parts(run / "written")
    vae = read_vae(run / "written")
    photos = to_tensor(stage.portraits.photos[stage.portraits.train])
    with torch.no_grad():
        latents = encode(vae, photos)
        assert abs(float(latents.std()) - 1) < 0.01
        assert torch.allclose(
            decode(vae, latents), decode(stage.module.vae, encode(stage.module.vae, photos)), atol=1e-5
        )


def test_a_decoder_trains_alone_and_the_latents_stay(
    run: Path, parts: Path, config: Config, make_tiny_stage: Callable[..., Stage]
):
    frozen = replace(config, autoencoder=replace(config.autoencoder, freeze_encoder=True))
    with pytest.raises(ValueError, match="freeze_encoder keeps an encoder"):
        make_tiny_stage("autoencoder", run / "empty", frozen)
    shutil.copytree(parts, run / "parts", dirs_exist_ok=True)
    before = read_vae(run / "parts")
    stage = make_tiny_stage("autoencoder", run, frozen)
    train(stage, replace(config.autoencoder.loop, steps=2), run / "autoencoder", run / "parts")
    after = read_vae(run / "parts")
    assert fingerprint(after) == fingerprint(before)
    latents = torch.randn(1, config.autoencoder.latent_channels, 8, 8)
    with torch.no_grad():
        assert (decode(after, latents) - decode(before, latents)).abs().max() > 1e-4
    other = replace(frozen.autoencoder, latent_channels=config.autoencoder.latent_channels + 2)
    with pytest.raises(ValueError, match="of another shape: give it the run's latent_channels"):
        make_tiny_stage("autoencoder", run, replace(frozen, autoencoder=other))


@torch.no_grad()
def test_a_deeper_autoencoder_begins_with_the_shallower_ones_levels(config: Config):
    torch.manual_seed(0)
    shallow = make_autoencoder(config.autoencoder)
    widths, layers = config.autoencoder.encoder_channels, config.autoencoder.encoder_layers
    deep = make_autoencoder(
        replace(
            config.autoencoder,
            latent_channels=6,
            **{f"{side}_channels": [*widths, 16] for side in ("encoder", "decoder")},
            **{f"{side}_layers": [*layers, 1] for side in ("encoder", "decoder")},
        )
    )
    start_from(deep, shallow)
    images = torch.rand(1, 3, 64, 64)
    hidden = shallow.encoder.conv_in(images)
    for block in shallow.encoder.down_blocks:
        hidden = block(hidden)
    other = deep.encoder.conv_in(images)
    for block in [*deep.encoder.down_blocks[:-2], *deep.encoder.down_blocks[-2][: layers[-1]]]:
        other = block(other)
    assert torch.equal(hidden, other)
    inner = torch.randn(1, widths[-1], 8, 8)
    outputs = []
    for decoder, first in ((shallow.decoder, 0), (deep.decoder, 1)):
        hidden = decoder.up_blocks[len(widths) - 1][first:](inner)
        for block in reversed(decoder.up_blocks[: len(widths) - 1]):
            hidden = block(hidden)
        outputs.append(decoder.conv_out(hidden))
    assert torch.equal(*outputs)


@pytest.mark.parametrize("kind", ["dc", "kl"])
@torch.no_grad()
def test_an_autoencoder_of_the_same_shape_begins_with_everything(config: Config, kind: str):
    torch.manual_seed(0)
    shape = replace(config.autoencoder, kind=kind)
    trained, new = make_autoencoder(shape), make_autoencoder(shape)
    start_from(new, trained)
    assert all(torch.equal(value, trained.state_dict()[name]) for name, value in new.state_dict().items())


def test_an_autoencoder_of_other_levels_is_refused(config: Config):
    wider = replace(config.autoencoder, decoder_channels=[8, 8, 32, 32])
    longer = replace(config.autoencoder, encoder_layers=[0, 2, 1, 1])
    for trained in (wider, longer, replace(config.autoencoder, kind="kl")):
        with pytest.raises(ValueError, match="the configuration has no place"):
            start_from(make_autoencoder(config.autoencoder), make_autoencoder(trained))


def test_without_the_smoothness_loss_nothing_is_decoded_for_it(
    config: Config, run: Path, make_tiny_stage: Callable[..., Stage]
):
    stage = make_tiny_stage(
        "autoencoder", run, replace(config, autoencoder=replace(config.autoencoder, smoothness_weight=0))
    )
    _, scalars = stage.loss(stage.module, StepRandom(0, 0, 0), 0)
    assert float(scalars["smoothness"]) == 0 and float(scalars["pixel"]) > 0


def test_an_encoder_can_be_held_near_where_it_began(run: Path, config: Config, make_tiny_stage: Callable[..., Stage]):
    began = read_vae(run / "parts")
    # Moved first, so that there is a distance to lose.
    moved = read_vae(run / "parts")
    with torch.no_grad():
        for parameter in moved.encoder.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(0)))
    loop = replace(config.autoencoder.loop, steps=30, learning_rate=3e-3)

    def distance(stay_weight: float) -> tuple[float, float]:
        held = replace(config.autoencoder, stay_weight=stay_weight)
        stage = make_tiny_stage("autoencoder", run, replace(config, autoencoder=held))
        stage.module.vae.load_state_dict(moved.state_dict())
        scalars = stage.loss(stage.module, StepRandom(0, 0, 0), 0)[1]
        train(stage, loop, run / f"stay-{stay_weight}")
        photos = to_tensor(stage.portraits.photos[:8])
        with torch.no_grad():
            return float((encode(stage.module.vae, photos) - encode(began, photos)).square().mean()), scalars["moved"]

    (free, nothing), (held, told) = distance(0.0), distance(30.0)
    assert nothing == 0 < told and held < 0.5 * free
