"""Weights stored once: the graph reads them out of the safetensors file."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper
from safetensors.numpy import load_file

from idadapter.external_data import read_tensors, write_graph
from idadapter.quantized import Quantized


def weights() -> dict[str, np.ndarray | Quantized]:
    random = np.random.default_rng(0)
    scale = random.uniform(0.001, 0.01, (1, 32)).astype(np.float32)
    return {
        "plain": random.normal(size=(24, 32)).astype(np.float32),
        "half": random.normal(size=(24, 32)).astype(np.float16),
        "channels": Quantized(random.integers(0, 256, (24, 32)).astype(np.uint8), scale, -128 * scale),
        "scalar": Quantized(random.integers(0, 256, (24, 32)).astype(np.uint8), np.float32(0.01), np.float32(-1.28)),
        "unused": random.normal(size=(3,)).astype(np.float32),
    }


def product_graph(initial: dict[str, np.ndarray]) -> onnx.ModelProto:
    """Sum over the initializers w of x @ w, plus a small bias that no safetensors file holds."""
    nodes, total = [], "bias"
    for name in initial:
        nodes.append(helper.make_node("MatMul", ["x", name], [f"{name}_product"]))
        nodes.append(helper.make_node("Add", [total, f"{name}_product"], [f"{name}_total"]))
        total = f"{name}_total"
    graph = helper.make_graph(
        nodes,
        "sum",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 24])],
        [helper.make_tensor_value_info(total, TensorProto.FLOAT, ["n", 32])],
        [numpy_helper.from_array(v, k) for k, v in {**initial, "bias": np.ones(32, np.float32)}.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def as_float(stored: np.ndarray | Quantized) -> np.ndarray:
    if isinstance(stored, Quantized):
        return stored.values.astype(np.float32) * stored.scale + stored.minimum
    return stored.astype(np.float32)


def test_graph_reads_every_storage_and_folds_the_conversions(tmp_path: Path):
    stored = weights()
    used = {f"layer.{name}": as_float(stored[name]) for name in ("plain", "half", "channels", "scalar")}
    late = np.random.default_rng(1).normal(size=(24, 32)).astype(np.float32)
    names = {f"layer.{name}": name for name in ("plain", "half", "channels", "scalar")}
    write_graph(product_graph({**used, "late": late}), stored, tmp_path, names)

    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx", options, providers=["CPUExecutionProvider"])
    x = np.random.default_rng(2).normal(size=(5, 24)).astype(np.float32)
    expected = 1 + sum(x @ w for w in [*used.values(), late])
    np.testing.assert_allclose(session.run(None, {"x": x})[0], expected, atol=1e-4)

    kept = {node.op_type for node in onnx.load(tmp_path / "optimized.onnx", load_external_data=False).graph.node}
    assert kept.isdisjoint({"Cast", "Mul", "DequantizeLinear"})
    onnx.checker.check_model(tmp_path / "model.onnx")


def test_the_bytes_are_in_one_file_only(tmp_path: Path):
    stored = weights()
    write_graph(product_graph({"half": as_float(stored["half"])}), stored, tmp_path)
    entries = load_file(tmp_path / "model.safetensors")
    assert entries["half"].dtype == np.float16
    assert entries["channels"].dtype == np.uint8
    assert "bias" not in entries
    graph = onnx.load(tmp_path / "model.onnx", load_external_data=False).graph
    assert {i.name for i in graph.initializer if i.data_location != TensorProto.EXTERNAL} == {"bias"}
    assert (tmp_path / "model.onnx").stat().st_size < 1500


def test_pytorch_side_reads_what_was_written(tmp_path: Path):
    stored = weights()
    write_graph(product_graph({}), stored, tmp_path)
    found = read_tensors(tmp_path / "model.safetensors")
    assert found.keys() == stored.keys()
    for name, value in stored.items():
        assert isinstance(found[name], type(value))
        np.testing.assert_array_equal(as_float(found[name]), as_float(value))


def test_a_tensor_that_is_not_its_initializer_is_refused(tmp_path: Path):
    stored = weights()
    with pytest.raises(ValueError, match="differs"):
        write_graph(product_graph({"half": as_float(stored["plain"])}), stored, tmp_path)
    with pytest.raises(ValueError, match="in the graph"):
        write_graph(product_graph({"half": as_float(stored["half"])[:, :16]}), stored, tmp_path)
    with pytest.raises(ValueError, match="no tensor"):
        write_graph(product_graph({"half": as_float(stored["half"])}), stored, tmp_path, {"half": "missing"})
