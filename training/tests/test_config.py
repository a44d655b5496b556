"""Configurations: the shipped ones are read, wrong ones are refused with a reason."""

from __future__ import annotations

import re
from dataclasses import MISSING, fields
from math import inf
from pathlib import Path

import pytest

from idadapter.bundle_config import DEFAULTS_RANGES, BundleDefaults
from idadapter.config import read_config
from idadapter.samplers import SCHEDULERS

TINY = Path(__file__).with_name("tiny.toml")
MANIFEST = TINY.parents[2] / "models" / "manifest.ts"


@pytest.mark.parametrize("path", sorted(TINY.parents[1].glob("configs/*.toml")), ids=lambda path: path.stem)
def test_shipped_configurations_are_read(path: Path):
    config = read_config(path)
    assert config.idadapter.loop.steps > 0 and config.diffusion.channels


@pytest.mark.parametrize(
    ("pattern", "replacement", "message"),
    [
        ("references = 3", "referenzes = 3", "unknown setting referenzes for IdAdapterConfig"),
        ("warmup_steps = 2", "warmup = 2", "unknown setting warmup for LoopConfig"),
        ("latent_channels = 4\n", "", "AutoencoderConfig needs latent_channels"),
        ("steps = 4\n", "", "LoopConfig needs steps"),
        (r"\[clip.loop\][^[]*", "", "ClipConfig needs loop"),
        (r"\[bundle[^[]*", "", "needs|tables"),
        ("name = .*\n", "", "name and the tables"),
        (
            "unconditional_identity = .*",
            'unconditional_identity = "none"',
            "unconditional_identity .* zero, same, not 'none'",
        ),
        ("version = .*", "version = 0.17", "bundle.version must be a string"),
        ("version = .*", 'version = ""', "must not be empty"),
        ("mouth_bias = -3.0", "mouth_bias = 3.0", "bundle.mouth_bias must be a number of at most 0"),
        (r"\[bundle.defaults\][^[]*", "", "BundleConfig needs defaults"),
        (r"\[bundle.defaults\][^[]*", "defaults = 3", "defaults of BundleConfig must be a table"),
        ("num_inference_steps = 4", "steps = 4", "unknown setting steps for BundleDefaults; .*num_inference_steps"),
        ("num_inference_steps = 4\n", "", "BundleDefaults needs num_inference_steps"),
        (
            "num_inference_steps = 4",
            "num_inference_steps = 101",
            "a whole number of at least 1 and at most 100, not 101",
        ),
        ("num_inference_steps = 4", "num_inference_steps = 4.5", "a whole number"),
        ("num_inference_steps = 4", "num_inference_steps = true", "a whole number"),
        (
            "guidance_scale = 3.0",
            "guidance_scale = 0.5",
            "bundle.defaults.guidance_scale must be a number of at least 1",
        ),
        ("guidance_scale = 3.0", "guidance_scale = inf", "guidance_scale must be a number"),
        ("guidance_scale = 3.0", "guidance_scale = '3'", "guidance_scale must be a number"),
        ("identity_strength = 1.0", "identity_strength = 2.5", "identity_strength"),
        ("identity_strength = 1.0", "identity_strength = 1.0\npose_variation = 30", "pose_variation"),
        ("identity_strength = 1.0", "identity_strength = 1.0\nnegative_prompt = 3", "negative_prompt must be a string"),
        ('scheduler = "dpmpp_2m"', 'scheduler = "dpm"', "must be one of .*dpmpp_2m, .*, not 'dpm'"),
        ('scheduler = "dpmpp_2m"', "scheduler = []", "scheduler must be one of"),
        ("latent_channels = 4", 'latent_channels = 4\nkind = "KL"', "kind of AutoencoderConfig must be one of dc, kl"),
        (r"\[clip\]", "[klip]", "klip"),
        (r"\[clip\]", "[clip", "line|line, column|Expected"),
    ],
)
def test_wrong_configurations_are_refused(pattern: str, replacement: str, message: str, tmp_path: Path):
    text, count = re.subn(pattern, replacement, TINY.read_text(), count=1)
    assert count == 1
    path = tmp_path / "wrong.toml"
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
        read_config(path)


def test_a_missing_file_is_told(tmp_path: Path):
    with pytest.raises(FileNotFoundError):
        read_config(tmp_path / "none.toml")


def test_a_bundles_defaults_are_those_that_the_service_takes():
    [block] = re.findall(r"\n  defaults: z\.object\(\{\n(.*?)\n  \}\),", MANIFEST.read_text(), re.S)
    block = re.sub(r"/\*\*.*?\*/", "", block, flags=re.S)
    taken = {name: rule for name, rule in re.findall(r"^    (\w+): (.*?),$(?=\s*(?:^    \w|\Z))", block, re.S | re.M)}
    assert set(taken) == {field.name for field in fields(BundleDefaults)}
    assert {name for name, rule in taken.items() if ".default(" not in rule} == {
        field.name for field in fields(BundleDefaults) if field.default is MISSING
    }
    numbers = {name: rule for name, rule in taken.items() if re.match(r"z\.(number|int)", rule)}
    ranges = {
        name: tuple(
            float(match[1]) if (match := re.search(rf"\.{end}\((\d+)\)", rule)) else inf for end in ("min", "max")
        )
        for name, rule in numbers.items()
    }
    assert ranges == DEFAULTS_RANGES
    assert [name for name, rule in numbers.items() if rule.startswith("z.int")] == ["num_inference_steps"]
    assert set(re.findall(r'"(\w+)"', taken["scheduler"])) == set(SCHEDULERS)
    assert taken["negative_prompt"].startswith("z.string()")


def test_defaults_that_are_not_set_are_left_to_the_service():
    defaults = read_config(TINY).bundle.defaults
    few = {"scheduler": "dpmpp_2m", "num_inference_steps": 4, "guidance_scale": 3.0, "identity_strength": 1.0}
    assert defaults.to_json() == few
    # In the file's own order: a bundle that is exported again has the same manifest.
    [shipped] = re.findall(r"\[bundle.defaults\]\n(.*)", (TINY.parents[1] / "configs" / "mini.toml").read_text(), re.S)
    names = re.findall(r"^(\w+) =", shipped, re.M)
    assert list(read_config(TINY.parents[1] / "configs" / "mini.toml").bundle.defaults.to_json()) == names
