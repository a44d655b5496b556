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
from idadapter.parts import read_vae, write_vae
from idadapter.stages.autoencoder import colour_differences


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


def test_the_latents_of_stable_diffusions_kind_stay_too(
    run: Path, config: Config, make_tiny_stage: Callable[..., Stage]
):
    torch.manual_seed(0)
    frozen = replace(config.autoencoder, kind="kl", encoder_layers=[1, 1, 1, 1], freeze_encoder=True)
    write_vae(run / "parts", make_autoencoder(frozen))
    before = read_vae(run / "parts")
    stage = make_tiny_stage("autoencoder", run, replace(config, autoencoder=frozen))
    train(stage, replace(config.autoencoder.loop, steps=2), run / "autoencoder", run / "parts")
    after, images = read_vae(run / "parts"), torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(encode(after, images), encode(before, images))
    assert fingerprint(after) == fingerprint(before)
    changed = {name for name, x in after.state_dict().items() if not torch.equal(x, before.state_dict()[name])}
    assert changed and all(name.startswith(("decoder.", "post_quant_conv.")) for name in changed)


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


def test_one_channel_more_tells_the_colour_the_others_have_lost(
    run: Path, config: Config, make_tiny_stage: Callable[..., Stage]
):
    before = read_vae(run / "parts")
    wider = replace(config.autoencoder, latent_channels=config.autoencoder.latent_channels + 1)
    for freeze_encoder in (False, True):
        frozen = replace(wider, freeze_encoder=freeze_encoder)
        stage = make_tiny_stage("autoencoder", run, replace(config, autoencoder=frozen))
        vae = stage.module.vae
        photos = to_tensor(stage.portraits.photos[stage.portraits.train[:24]])
        with torch.no_grad():
            old, new = encode(before, photos), encode(vae, photos) * before.config.scaling_factor
            # What there was is what it was, and the decoder reads nothing else yet.
            assert torch.allclose(old, new[:, :-1], atol=1e-5)
            assert torch.allclose(decode(before, old), decode(vae, new / before.config.scaling_factor), atol=1e-5)
        green = colour_differences(photos, 128 // old.shape[-1])[:, 1]
        *others, told = torch.corrcoef(torch.stack([*new.transpose(0, 1).flatten(1), green.flatten()]))[-1, :-1].abs()
        # A tiny level of random weights knows little, but more than what is made of it.
        assert told > 0.55 and told > 1.2 * max(others)
        assert 0.5 < float(new[:, -1].std() / old.std()) < 1.5
    train(stage, replace(config.autoencoder.loop, steps=2), run / "autoencoder", run / "parts")
    after = read_vae(run / "parts")
    with torch.no_grad():
        assert torch.allclose(encode(after, photos)[:, :-1], old, atol=1e-5)
        moved = torch.zeros_like(new)
        moved[:, -1] = 1
        # The decoder has begun to read the new channel.
        assert (decode(after, moved) - decode(after, torch.zeros_like(new))).abs().max() > 1e-4
