"""The graph in half precision: close to the plain one, float32 at its border, over the same stored weights."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto
from onnxruntime.transformers import float16

from idadapter import fp16_graph
from idadapter.config import Config
from idadapter.external_data import GRAPH_FILE
from idadapter.fp16_graph import write_fp16_graph
from idadapter.graphs import graph_specs


def test_it_predicts_what_the_plain_graph_does(bundle: Path, config: Config, tmp_path: Path):
    shutil.copytree(bundle / "unet", tmp_path / "unet")
    written = write_fp16_graph(tmp_path / "unet")
    [spec] = [spec for spec in graph_specs(bundle, config.idadapter.references) if spec.name == "unet"]
    inputs = {name: value.numpy() for name, value in spec.inputs.items()}
    plain, half = (
        onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        for path in (tmp_path / "unet" / GRAPH_FILE, written)
    )
    assert [(i.name, i.type) for i in half.get_inputs()] == [(i.name, i.type) for i in plain.get_inputs()]
    expected, found = plain.run(None, inputs)[0], half.run(None, inputs)[0]
    assert found.dtype == np.float32
    assert np.abs(found - expected).max() > 0
    assert np.sqrt(np.square(found - expected).mean()) < 0.005 * expected.std()
    model = onnx.load(written, load_external_data=False)
    large = [i for i in model.graph.initializer if len(i.raw_data) > 4096]
    assert not large
    assert all(
        i.data_type == TensorProto.FLOAT16 for i in model.graph.initializer if i.data_location == TensorProto.EXTERNAL
    )


def test_it_needs_no_types_but_those_that_were_exported(bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def operators(name: str) -> Counter[str]:
        shutil.copytree(bundle / "unet", tmp_path / name)
        model = onnx.load(write_fp16_graph(tmp_path / name), load_external_data=False)
        return Counter(node.op_type for node in model.graph.node)

    def refused(model: onnx.ModelProto) -> onnx.ModelProto:
        raise ValueError("more than 2 GB")

    inferred, convert = [], fp16_graph.convert_float_to_float16
    infer = float16.infer_shapes
    # As Stable Diffusion's UNet is: ONNX hands models to its inference as one message.
    monkeypatch.setattr(float16, "infer_shapes", refused)
    plain = operators("plain")
    monkeypatch.setattr(float16, "infer_shapes", lambda model: inferred.append(1) or infer(model))
    monkeypatch.setattr(
        fp16_graph,
        "convert_float_to_float16",
        lambda model, **rest: convert(model, **{**rest, "disable_shape_infer": False}),
    )
    assert operators("inferred") == plain and inferred
