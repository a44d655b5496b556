"""The 8-bit graph: close to the plain one, smaller than its weights, the same for a row whoever is beside it."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto

from idadapter.calibration import SAMPLE_PHOTO, record_denoising
from idadapter.external_data import GRAPH_FILE
from idadapter.fixture_reference import read_photo
from idadapter.int8_graph import INT8_GRAPH_FILE, Inputs, write_int8_graph


@pytest.fixture(scope="module")
def recorded(bundle: Path) -> list[Inputs]:
    return record_denoising(bundle, read_photo(SAMPLE_PHOTO))


@pytest.fixture(scope="module")
def folder(bundle: Path, recorded: list[Inputs], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("int8") / "unet"
    shutil.copytree(bundle / "unet", folder)
    assert write_int8_graph(folder, recorded[::2]) == folder / INT8_GRAPH_FILE
    return folder


def session(path: Path) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])


def test_it_predicts_what_the_plain_graph_does(folder: Path, recorded: list[Inputs]):
    plain, quantized = session(folder / GRAPH_FILE), session(folder / INT8_GRAPH_FILE)
    assert [i.name for i in plain.get_inputs()] == [i.name for i in quantized.get_inputs()]
    for inputs in recorded[1::6]:
        expected, found = plain.run(None, inputs)[0], quantized.run(None, inputs)[0]
        assert np.abs(found - expected).max() > 0
        assert np.sqrt(np.square(found - expected).mean()) < 0.08 * expected.std()


def test_a_row_does_not_depend_on_the_others(folder: Path, recorded: list[Inputs]):
    quantized = session(folder / INT8_GRAPH_FILE)
    together = quantized.run(None, recorded[3])[0]
    alone = quantized.run(None, {name: value[1:] for name, value in recorded[3].items()})[0]
    np.testing.assert_allclose(alone[0], together[1], rtol=0, atol=1e-5)


def test_the_weights_are_stored_once_and_quantised_when_a_session_is_made(folder: Path):
    model = onnx.load(folder / INT8_GRAPH_FILE, load_external_data=False)
    external = [i for i in model.graph.initializer if i.data_location == TensorProto.EXTERNAL]
    assert external and all(i.data_type == TensorProto.FLOAT16 for i in external)
    inline = sum(len(i.raw_data) for i in model.graph.initializer)
    assert inline < 0.1 * (folder / "model.safetensors").stat().st_size
    assert any(node.op_type == "QuantizeLinear" for node in model.graph.node)
