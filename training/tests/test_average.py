"""Weights between two runs': each tensor where it should be, and nothing written for what does not fit."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from idadapter.average import average_parts
from idadapter.parts import read_unet


@pytest.fixture
def moved(parts: Path, tmp_path: Path) -> Path:
    """The same parts, one of whose weights is 2 more."""
    shutil.copytree(parts, tmp_path / "moved")
    file = tmp_path / "moved" / "unet" / "model.safetensors"
    tensors = load_file(file)
    tensors["conv_in.weight"] = tensors["conv_in.weight"] + 2
    save_file(tensors, file)
    return tmp_path / "moved"


def test_weights_lie_between_both(parts: Path, moved: Path, tmp_path: Path):
    assert average_parts(moved, parts, 0.25, tmp_path / "out") == 1
    found, base = read_unet(tmp_path / "out").state_dict(), read_unet(parts).state_dict()
    assert torch.allclose(found["conv_in.weight"], base["conv_in.weight"] + 0.5, atol=1e-6)
    assert all(torch.equal(value, base[name]) for name, value in found.items() if name != "conv_in.weight")
    files = sorted(path.relative_to(moved) for path in moved.rglob("*") if path.is_file())
    assert (
        sorted(path.relative_to(tmp_path / "out") for path in (tmp_path / "out").rglob("*") if path.is_file()) == files
    )


def test_what_does_not_fit_is_refused_before_anything_is_written(parts: Path, moved: Path, tmp_path: Path):
    out = tmp_path / "out"
    with pytest.raises(ValueError, match=r"1\.5 is not in 0\.\.1"):
        average_parts(moved, parts, 1.5, out)
    shutil.copytree(moved, tmp_path / "other")
    file = tmp_path / "other" / "unet" / "model.safetensors"
    save_file({"conv_in.weight": torch.zeros(1)}, file)
    with pytest.raises(ValueError, match="have other tensors"):
        average_parts(moved, tmp_path / "other", 0.5, out)
    file.unlink()
    with pytest.raises(FileNotFoundError, match="is missing"):
        average_parts(moved, tmp_path / "other", 0.5, out)
    assert not out.exists()
    out.mkdir()
    with pytest.raises(FileExistsError, match="choose another folder"):
        average_parts(moved, parts, 0.5, out)
