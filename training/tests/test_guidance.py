"""How predictions of several kinds are added up, and when by which scales."""

from __future__ import annotations

import pytest
import torch

from idadapter.guidance import GuidanceSchedule, guidance_rows, rescale_guidance
from idadapter.noise_schedule import Diffusion, make_noise_schedule


def test_what_counts_nothing_is_left_out():
    assert guidance_rows(1.0, None) == {"conditional": 1.0}
    assert guidance_rows(3.0, 3.0) == {"unconditional": -2.0, "conditional": 3.0}
    assert guidance_rows(4.0, 1.5) == {"unconditional": -3.0, "words": 2.5, "conditional": 1.5}
    assert guidance_rows(4.0, 0.0)["conditional"] == 0.0


def test_the_first_steps_have_scales_of_their_own():
    schedule = GuidanceSchedule(2.0, None, 4.0, 1.0, early_until=800.0)
    assert schedule.rows_at(999) == schedule.rows_at(800) == guidance_rows(4.0, 1.0)
    assert schedule.rows_at(799) == guidance_rows(2.0, None)
    assert schedule.kinds() == ["unconditional", "words", "conditional"]
    assert schedule.weights_at(799) == [-1.0, 0.0, 2.0]


@pytest.mark.parametrize("schedule", [GuidanceSchedule(3.0), GuidanceSchedule(3.0, 1.5)])
def test_without_scales_of_their_own_they_are_guided_as_the_others(schedule: GuidanceSchedule):
    assert schedule.rows_at(999) == schedule.rows_at(0)
    assert schedule.kinds() == list(schedule.rows_at(0))


@pytest.mark.parametrize("prediction_type", ["v_prediction", "epsilon"])
def test_rescaled_guidance_means_a_picture_of_the_conditional_ones_spread(prediction_type: str):
    diffusion = Diffusion(make_noise_schedule(prediction_type))
    random = torch.Generator().manual_seed(0)
    latents, other, noise = torch.randn(3, 3, 4, 8, 8, generator=random)
    timesteps = torch.tensor([900, 500, 20])
    noisy, conditional, _ = diffusion.add_noise(latents, noise, timesteps)
    guided = conditional + 2 * (other - conditional)
    means = {phi: diffusion.rescale(guided, conditional, noisy, timesteps, phi) for phi in (0.0, 0.5, 1.0)}
    clean = {phi: diffusion.clean(noisy, prediction, timesteps) for phi, prediction in means.items()}
    spreads = {phi: picture.std((1, 2, 3)) for phi, picture in clean.items()}
    assert torch.allclose(spreads[1.0], latents.std((1, 2, 3)), rtol=1e-3)
    assert torch.allclose(spreads[0.5], (spreads[0.0] + spreads[1.0]) / 2, rtol=1e-3)
    # The same picture but for its spread.
    for one, whole in zip(clean[0.0], clean[1.0], strict=True):
        assert torch.allclose(one / one.std(), whole / whole.std(), atol=1e-2)


def test_where_all_is_noise_it_is_lin_et_als():
    noisy, conditional, guided = torch.randn(3, 2, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    zero, one = torch.zeros(2, 1, 1, 1), torch.ones(2, 1, 1, 1)
    found = rescale_guidance(guided, conditional, noisy, zero, one, 1.0)
    theirs = guided * conditional.std((1, 2, 3), keepdim=True) / guided.std((1, 2, 3), keepdim=True)
    assert torch.allclose(found, theirs, atol=1e-6)
