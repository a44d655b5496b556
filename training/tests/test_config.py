"""Configurations: the shipped ones are read, wrong ones are refused with a reason."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from idadapter.config import read_config

TINY = Path(__file__).with_name("tiny.toml")


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
