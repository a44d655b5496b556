"""Sizes: Stable Diffusion's own shapes come out, and about as much trains as the paper says."""

from __future__ import annotations

from pathlib import Path

import pytest

from idadapter.config import Config, read_config
from idadapter.count_parameters import PAPER_TRAINED, count_parameters, make_model_shapes
from idadapter.parts import read_mixed_features, read_unet

CONFIGS = Path(__file__).resolve().parents[1] / "configs"


@pytest.mark.parametrize(
    ("name", "unet", "text_encoder"),
    # What diffusers and transformers count in the published models.
    [("sd21", 865_910_724, 340_387_840), ("sd15", 859_520_964, 123_060_480)],
)
def test_the_frozen_model_is_stable_diffusion(name: str, unet: int, text_encoder: int):
    model = make_model_shapes(read_config(CONFIGS / f"{name}.toml"))
    assert all(parameter.is_meta for parameter in model.parameters())
    base = sum(p.numel() for key, p in model.unet.named_parameters() if ".fuser." not in key)
    assert base == unet
    assert sum(p.numel() for p in model.text_encoder.parameters()) == text_encoder


def test_about_as_much_trains_as_in_the_paper():
    counts = count_parameters(make_model_shapes(read_config(CONFIGS / "sd21.toml")))
    assert sum(count.trained for count in counts) == pytest.approx(PAPER_TRAINED, rel=0.02)
    assert {count.part for count in counts if count.trained == 0} == {"rest of the UNet", "text encoder"}
    assert all(count.frozen == 0 or count.trained == 0 for count in counts)


def test_shapes_are_those_of_a_run(config: Config, parts: Path):
    model = make_model_shapes(config)
    for shapes, real in ((model.unet, read_unet(parts)), (model.mixed_features, read_mixed_features(parts))):
        expected = {name: value.shape for name, value in real.state_dict().items()}
        assert {name: value.shape for name, value in shapes.state_dict().items()} == expected
