"""A tiny model and drawn faces, shared by all tests."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from diffusers import UNet2DConditionModel
from drawn_faces import write_data_folder

from idadapter.__main__ import make_stage
from idadapter.config import Config, read_config
from idadapter.data.portraits import Portraits, open_portraits
from idadapter.export import export_bundle
from idadapter.initial import write_initial_parts
from idadapter.loop import Stage
from idadapter.parts import read_unet, write_unet
from idadapter.stages.clip import caption_corpus

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
# Sums then have one order, whatever the machine.
torch.set_num_threads(1)


def open_adapters(unet: UNet2DConditionModel, gamma: float) -> None:
    """Sets every gamma of a UNet's identity adapters."""
    with torch.no_grad():
        for name, parameter in unet.named_parameters():
            if name.endswith(("alpha_attn", "alpha_dense")):
                parameter.fill_(gamma)


@pytest.fixture(scope="session")
def config() -> Config:
    return read_config(Path(__file__).with_name("tiny.toml"))


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder of drawn faces."""
    folder = tmp_path_factory.mktemp("data")
    write_data_folder(folder)
    return folder


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="session")
def portraits(data: Path, cache: Path) -> Portraits:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("IDADAPTER_DATA", str(data))
        return open_portraits(cache)


@pytest.fixture(scope="session")
def parts(config: Config, portraits: Portraits, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every part with random weights; the adapters closed, as a new run has them."""
    folder = tmp_path_factory.mktemp("initial") / "parts"
    write_initial_parts(config, folder, caption_corpus(portraits, 2000))
    return folder


@pytest.fixture
def run(parts: Path, tmp_path: Path) -> Path:
    """A run's folder with parts of its own."""
    shutil.copytree(parts, tmp_path / "run" / "parts")
    return tmp_path / "run"


@pytest.fixture
def make_tiny_stage(config: Config, data: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Stage]:
    """Makes a stage as the command line does, in the run of the given folder; the configuration can be another."""

    def make(name: str, run: Path, other: Config = config) -> Stage:
        monkeypatch.setenv("IDADAPTER_DATA", str(data))
        return make_stage(name, other, run, cache)[0]

    return make


@pytest.fixture(scope="session")
def open_parts(parts: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same parts with open adapters, so that the identity reaches the picture."""
    folder = tmp_path_factory.mktemp("open") / "parts"
    shutil.copytree(parts, folder)
    unet = read_unet(folder)
    open_adapters(unet, 0.5)
    write_unet(folder, unet)
    return folder


@pytest.fixture(scope="session")
def bundle(open_parts: Path, config: Config, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The parts with open adapters as a bundle."""
    folder = tmp_path_factory.mktemp("bundle") / "tiny"
    export_bundle(open_parts, folder, config.bundle, config.idadapter.references)
    return folder
