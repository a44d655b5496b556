"""The UNet's middle against a recogniser's features."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from idadapter.config import Config
from idadapter.faces.recognizer import FaceRecognizer
from idadapter.loop import Stage, StepRandom
from idadapter.models.feature_alignment import FeatureAlignment, misalignment, whole_picture_features
from idadapter.models.unet import make_unet

MakeStage = Callable[..., Stage]


def random_features(seed: int) -> torch.Tensor:
    return torch.randn(6, 8, 3, 3, generator=torch.Generator().manual_seed(seed))


def test_what_all_pictures_have_in_common_does_not_count():
    features = random_features(0)
    assert misalignment(features - features.mean(0), features + 5).abs().max() < 1e-5
    assert abs(float(misalignment(torch.ones(6, 8, 3, 3), features).mean()) - 1) < 0.2
    assert torch.allclose(misalignment(features.mean(0) - features, features), torch.tensor(2.0))


def test_each_call_of_the_unet_is_read_once(config: Config):
    unet = make_unet(config.diffusion, 4, 16, 48)
    alignment = FeatureAlignment(config.diffusion.channels[-1], 8, 4)
    alignment.watch(unet)
    with pytest.raises(RuntimeError, match="not been called"):
        alignment()
    unet(torch.randn(2, 4, 16, 16), torch.tensor(3), torch.randn(2, 7, 48))
    alignment().sum().backward()
    gradients = {name: p.grad for name, p in unet.named_parameters() if name.startswith(("conv_in.", "conv_out."))}
    assert all((gradient is not None) == name.startswith("conv_in.") for name, gradient in gradients.items())
    with pytest.raises(RuntimeError, match="not been called"):
        alignment()


def test_features_lie_where_the_picture_has_them():
    recognizer = FaceRecognizer.from_package()
    random = torch.Generator().manual_seed(0)
    pictures = torch.rand(1, 3, 128, 128, generator=random)
    changed = pictures.clone()
    changed[:, :, :16, :16] = torch.rand(1, 3, 16, 16, generator=random)
    difference = (whole_picture_features(recognizer, changed) - whole_picture_features(recognizer, pictures)).abs()
    assert difference.shape == (1, 256, 4, 4)
    difference = difference.sum(1)[0]
    assert difference.argmax() == 0 and difference[0, 0] > 4 * difference[-1, -1]


def test_the_stage_trains_the_projection_and_no_bundle_holds_it(run: Path, make_tiny_stage: MakeStage, config: Config):
    aligned = replace(config, idadapter=replace(config.idadapter, alignment_weight=0.5, joint=True))
    stage = make_tiny_stage("idadapter", run, aligned)
    loss, scalars = stage.loss(stage.module, StepRandom(0, 0, 0), 0)
    loss.backward()
    assert 0 < float(scalars["alignment"]) < 2
    assert all(p.grad is not None and p.grad.any() for p in stage.module.alignment.parameters())
    stage.write_parts(run / "written")
    assert sorted(p.name for p in (run / "written").iterdir()) == ["mixed_features", "text_encoder", "unet"]
