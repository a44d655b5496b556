"""Pieces of the stages' losses that can be told right from wrong without training."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler

from idadapter.data.templates import PORTRAIT_TEMPLATE
from idadapter.faces.recognizer import TEMPLATE
from idadapter.models.face_warp import FaceWarp, blurred
from idadapter.noise_schedule import Diffusion, make_noise_schedule, stratified_timesteps
from idadapter.stages.autoencoder import colour_differences, detail_share, feature_distance


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_detail_is_what_is_finer_than_two_latents():
    noise = torch.randn(64, 3, 16, 16, generator=generator())
    assert abs(float(detail_share(noise)) - 0.75) < 0.02
    smooth = torch.nn.functional.interpolate(torch.randn(64, 3, 2, 2, generator=generator()), size=16, mode="bilinear")
    assert float(detail_share(smooth)) < 0.02
    # Neither scale nor offset of a channel is structure.
    assert torch.allclose(detail_share(noise), detail_share(noise * 7 + 3), atol=1e-4)


def test_features_are_compared_by_direction():
    features = [torch.rand(2, 8, 4, 4, generator=generator()), torch.rand(2, 16, 2, 2, generator=generator(1))]
    assert float(feature_distance(features, [3 * f for f in features]).max()) < 1e-6
    opposite = feature_distance(features, [-f for f in features])
    assert opposite.shape == (2,) and torch.allclose(opposite, torch.full((2,), 4.0), atol=1e-5)


def test_colours_of_one_brightness_are_told_apart():
    yellow, orange, grey = (torch.tensor(rgb).view(1, 3, 1, 1).expand(-1, -1, 8, 8) for rgb in COLOURS)
    assert colour_differences(yellow).shape == (1, 2, 2, 2)
    red_blue, green = (colour_differences(yellow) - colour_differences(orange))[0, :, 0, 0].tolist()
    assert abs(red_blue + 0.2) < 1e-6 and abs(green - 0.3) < 1e-6
    assert colour_differences(grey).abs().max() < 1e-6
    # Of the finest structure nothing is left: neither eye nor recogniser sees its colour.
    checkered = torch.tensor([[1.0, 0.0], [0.0, 1.0]]).repeat(4, 4).expand(1, 3, -1, -1) * torch.eye(3)[1].view(
        1, 3, 1, 1
    )
    assert torch.allclose(colour_differences(checkered)[:, 1], torch.tensor(0.5))


COLOURS = ((0.8, 0.8, 0.1), (1.0, 0.6, 0.1), (0.5, 0.5, 0.5))


def make_warp() -> FaceWarp:
    return FaceWarp(PORTRAIT_TEMPLATE, TEMPLATE, 150)


def test_without_strength_jitter_is_the_plain_crop():
    images = torch.rand(3, 3, 128, 128, generator=generator())
    warp = make_warp()
    assert torch.allclose(warp.jittered(generator(), 3, 0.0)(images), warp(images), atol=1e-5)


def test_jitter_moves_each_portrait_by_itself_and_two_alike():
    v, u = np.mgrid[0:128, 0:128]
    ramp = torch.tensor(np.stack([u, v, u + v]) / 256, dtype=torch.float32).expand(200, -1, -1, -1)
    warp = make_warp()
    look = warp.jittered(generator(3), len(ramp), 1.0)
    crops = look(ramp)
    assert torch.equal(crops, look(ramp))
    # The crop's middle tells where it was taken: a standard deviation of two pixels, around the plain crop's.
    moved = (crops[:, :2, 75, 75] - warp(ramp[:1])[0, :2, 75, 75]) * 256
    assert 1.5 < float(moved.std(0).mean()) < 2.6
    assert float(moved.mean(0).abs().max()) < 0.6


def test_blur_keeps_the_mean_and_spreads_a_point_by_sigma():
    point = torch.zeros(1, 3, 33, 33)
    point[..., 16, 16] = 1
    spread = blurred(point, 1.5)
    distance = (torch.arange(33) - 16.0) ** 2
    assert abs(float(spread[0, 0].sum()) - 1) < 1e-4
    assert abs(float((spread[0, 0].sum(0) * distance).sum()) - 1.5**2) < 0.15
    assert blurred(point, 0.1) is point


def test_snr_weights_fall_off_where_gamma_says():
    diffusion = Diffusion(make_noise_schedule())
    snr = torch.tensor([0.0, 3.0, 19.0, 99.0])
    assert torch.allclose(diffusion.weight(snr), torch.tensor([1.0, 1.0, 0.25, 0.05]))
    assert torch.allclose(diffusion.weight(snr, 20.0), torch.tensor([1.0, 1.0, 1.0, 0.2]))
    visible = diffusion.visible(torch.tensor([0, 999]))
    assert visible[0] > 0.99 and abs(float(visible[1])) < 1e-6


def test_shifted_timesteps_are_more_often_late():
    uniform = torch.rand(4000, generator=generator())
    even, late = stratified_timesteps(uniform), stratified_timesteps(uniform, shift=3.0)
    assert abs(float((even >= 900).float().mean()) - 0.1) < 0.002 and even.min() == 0 and even.max() == 999
    # 3 u / (1 + 2 u) >= 0.9 from u = 0.75 on, and < 0.5 up to u = 0.25.
    assert abs(float((late >= 900).float().mean()) - 0.25) < 0.002
    assert abs(float((late < 500).float().mean()) - 0.25) < 0.002 and late.max() == 999


@pytest.mark.parametrize("prediction_type", ["v_prediction", "epsilon"])
@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_a_step_is_ddims(prediction_type: str, eta: float):
    beta_schedule = "squaredcos_cap_v2" if prediction_type == "v_prediction" else "scaled_linear"
    schedule = make_noise_schedule(prediction_type, beta_schedule)
    if prediction_type == "epsilon":
        schedule = DDPMScheduler.from_config({**schedule.config, "rescale_betas_zero_snr": False})
    reference = DDIMScheduler.from_config(schedule.config)
    reference.set_timesteps(4)
    noisy, predicted, noise = (torch.randn(2, 4, 8, 8, generator=generator(seed)) for seed in (0, 1, 2))
    fresh = noise if eta else None
    for now, then in itertools.pairwise(reference.timesteps.tolist()):
        wanted = reference.step(predicted, now, noisy, eta=eta, variance_noise=fresh).prev_sample
        found = Diffusion(schedule).step(noisy, predicted, torch.tensor([now] * 2), torch.tensor([then] * 2), fresh)
        assert torch.allclose(found, wanted, rtol=1e-5, atol=1e-5)
