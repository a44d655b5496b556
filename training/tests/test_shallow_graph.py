"""The shallow part of the UNet's graph: with what the rest gave it predicts what the whole does."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from idadapter.calibration import SAMPLE_PHOTO, record_denoising
from idadapter.config import Config
from idadapter.external_data import GRAPH_FILE
from idadapter.fixture_reference import read_photo
from idadapter.fp16_graph import FP16_GRAPH_FILE, write_fp16_graph
from idadapter.graphs import graph_specs
from idadapter.int8_graph import INT8_GRAPH_FILE, write_int8_graph
from idadapter.models.identity_adapter import predict
from idadapter.models.unet import deep_features
from idadapter.parts import read_unet
from idadapter.shallow_graph import shallow_name, write_shallow_graph


def session(path: Path) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])


@pytest.fixture(scope="module")
def folder(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shallow") / "unet"
    shutil.copytree(bundle / "unet", folder)
    write_int8_graph(folder, record_denoising(bundle, read_photo(SAMPLE_PHOTO))[::4])
    write_shallow_graph(folder, INT8_GRAPH_FILE)
    write_fp16_graph(folder)
    write_fp16_graph(folder, shallow_name(GRAPH_FILE), shallow_name(FP16_GRAPH_FILE))
    return folder


@pytest.mark.parametrize("graph_file", [GRAPH_FILE, INT8_GRAPH_FILE, FP16_GRAPH_FILE])
def test_with_its_own_features_it_predicts_what_the_whole_does(
    graph_file: str, folder: Path, bundle: Path, config: Config
):
    [spec] = [spec for spec in graph_specs(bundle, config.idadapter.references) if spec.name == "unet"]
    inputs = {name: value.numpy() for name, value in spec.inputs.items()}
    whole, shallow = session(folder / graph_file), session(folder / shallow_name(graph_file))
    prediction, deep = whole.run(["prediction", "deep_features"], inputs)
    known = {"deep_features": deep, **inputs}
    needed = [value.name for value in shallow.get_inputs()]
    assert needed[-1] == "deep_features" and set(needed) <= set(known)
    [found] = shallow.run(None, {name: known[name] for name in needed})
    np.testing.assert_allclose(found, prediction, rtol=0, atol=2e-3 if graph_file == FP16_GRAPH_FILE else 1e-6)
    [other] = shallow.run(None, {name: known[name] * (0.5 if name == "deep_features" else 1) for name in needed})
    assert np.abs(other - prediction).max() > 1e-3
    weights = [
        {i.name for i in onnx.load(folder / name, load_external_data=False).graph.initializer}
        for name in (graph_file, shallow_name(graph_file))
    ]
    assert len(weights[1]) < 0.7 * len(weights[0])


@torch.no_grad()
def test_kept_features_take_the_place_of_the_blocks_below(bundle: Path, config: Config):
    unet = read_unet(bundle)
    [spec] = [spec for spec in graph_specs(bundle, config.idadapter.references) if spec.name == "unet"]
    sample, timestep, words, tokens, bias, strength = spec.inputs.values()

    def run(latents: torch.Tensor, kept: torch.Tensor | None) -> tuple[torch.Tensor, torch.Tensor]:
        with deep_features(unet, kept) as deep:
            return predict(unet, latents, timestep, words, tokens, strength, bias), deep[0]

    prediction, deep = run(sample, None)
    again, same = run(sample, deep)
    assert torch.equal(again, prediction) and same is deep
    moved, fresh = run(sample + 0.3, None)
    kept, _ = run(sample + 0.3, deep)
    assert not torch.equal(fresh, deep)
    # What is kept is not what the new sample would give, and the rest of the UNet sees the new sample.
    assert not torch.equal(kept, moved) and not torch.equal(kept, prediction)
    assert torch.equal(predict(unet, sample, timestep, words, tokens, strength, bias), prediction)


def test_a_graph_without_deep_features_is_refused(bundle: Path):
    with pytest.raises(ValueError, match="has no output deep_features"):
        write_shallow_graph(bundle / "vae_decoder", GRAPH_FILE)
