"""One copy of the weights for two readers: an ONNX graph whose initializers point into a safetensors file."""

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, external_data_helper, helper, numpy_helper
from safetensors.numpy import load_file, save_file

from idadapter.quantized import Quantized, Stored, to_float32

TENSORS_FILE, GRAPH_FILE = "model.safetensors", "model.onnx"
INLINE_BYTES = 1024
"""Smaller initializers stay in the graph: shapes, axes, small constants."""

SCALE_SUFFIX, MINIMUM_SUFFIX = ".scale", ".minimum"
"""A quantised tensor is three in the file: bytes ``name``, float32 ``name.scale`` and ``name.minimum``."""


def write_graph(
    model: onnx.ModelProto,
    tensors: Mapping[str, Stored],
    folder: Path,
    names: Mapping[str, str] | None = None,
) -> None:
    """Writes ``folder / "model.safetensors"`` and ``folder / "model.onnx"``, the weights in the former alone.

    The graph goes on computing in its own precision: what is stored otherwise is converted by nodes on the constant,
    which ONNX Runtime computes once, when the session is created. Half precision gets a ``Cast``; bytes get ``Cast``,
    ``Mul`` by the scale and ``Add`` of the minimum (``DequantizeLinear`` would be kept and run every time).

    Large float initializers that ``tensors`` does not name are added to the file as they are, under their own names;
    small ones and integers stay in the graph.

    Args:
        model: a graph with ordinary initializers; it is changed. External ones have no values here and must be named in
            ``names``: whoever made them external has compared them with their tensors.
        tensors: how each parameter is stored, under the PyTorch module's names. Parameters the graph does not use
            (folded away by the exporter) are written all the same, so that PyTorch finds them.
        folder: made if missing; the two files are overwritten.
        names: initializer -> tensor where they differ; an initializer without an entry has its tensor's name.

    Raises:
        ValueError: a stored tensor does not hold its initializer's values (to the precision of its type), or
            ``names`` speaks of an unknown tensor.
    """
    folder.mkdir(parents=True, exist_ok=True)
    stored = dict(tensors)
    of_initializer: dict[str, str] = {}
    for initializer in model.graph.initializer:
        name = (names or {}).get(initializer.name, initializer.name)
        if initializer.data_location == TensorProto.EXTERNAL:
            if initializer.name not in (names or {}) or name not in stored:
                raise ValueError(f"{initializer.name} is external already: load the model with its data first")
            if tuple(initializer.dims) != to_shape(stored[name]):
                raise ValueError(f"{initializer.name} is {list(initializer.dims)}, stored {to_shape(stored[name])}")
        elif name in stored:
            _check_same(initializer, stored[name])
        elif names and initializer.name in names:
            raise ValueError(f"{initializer.name}: there is no tensor {name}")
        elif _is_large_float(initializer):
            stored[name] = numpy_helper.to_array(initializer)
        else:
            continue
        of_initializer[initializer.name] = name
    write_tensors(stored, folder / TENSORS_FILE)
    places = locate_tensors(folder / TENSORS_FILE)
    originals = {initializer.name: initializer for initializer in model.graph.initializer}
    conversions: list[onnx.NodeProto] = []
    for initializer, name in of_initializer.items():
        original = originals[initializer]
        conversions += _externalize(model.graph, original, name, stored[name], places)
    _prepend(model.graph, conversions)
    onnx.save(model, folder / GRAPH_FILE)


def write_tensors(tensors: Mapping[str, Stored], path: Path) -> None:
    """Writes ``path`` (safetensors), a quantised tensor as three entries."""
    entries: dict[str, np.ndarray] = {}
    for name, stored in tensors.items():
        if isinstance(stored, Quantized):
            entries[name] = np.ascontiguousarray(stored.values)
            # ascontiguousarray would make a scalar one-dimensional.
            entries[name + SCALE_SUFFIX] = np.array(stored.scale, order="C")
            entries[name + MINIMUM_SUFFIX] = np.array(stored.minimum, order="C")
        else:
            entries[name] = np.array(stored, order="C")
    save_file(entries, path)
    # safetensors leaves the file readable by its owner alone, and a bundle is there to be served by others.
    path.chmod(0o644)


def read_tensors(path: Path) -> dict[str, Stored]:
    """The tensors of a safetensors file, the quantised ones put together again."""
    entries = load_file(path)
    tensors: dict[str, Stored] = {}
    for name, values in entries.items():
        if values.dtype == np.uint8 and name + SCALE_SUFFIX in entries:
            tensors[name] = Quantized(values, entries[name + SCALE_SUFFIX], entries[name + MINIMUM_SUFFIX])
    parts = {name + suffix for name in tensors for suffix in (SCALE_SUFFIX, MINIMUM_SUFFIX)}
    tensors |= {name: values for name, values in entries.items() if name not in tensors and name not in parts}
    return tensors


def locate_tensors(path: Path) -> dict[str, tuple[int, int]]:
    """Offset and length in bytes of every tensor in a safetensors file.

    Its data follows an 8-byte little-endian length and a JSON header of that length.
    """
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(length))
    start = 8 + length
    return {
        name: (start + entry["data_offsets"][0], entry["data_offsets"][1] - entry["data_offsets"][0])
        for name, entry in header.items()
        if name != "__metadata__"
    }


def to_shape(stored: Stored) -> tuple[int, ...]:
    """Shape of a stored tensor."""
    return stored.values.shape if isinstance(stored, Quantized) else stored.shape


def _is_large_float(initializer: TensorProto) -> bool:
    if initializer.data_type not in (TensorProto.FLOAT, TensorProto.FLOAT16):
        return False
    return numpy_helper.to_array(initializer).nbytes >= INLINE_BYTES


def _check_same(initializer: TensorProto, stored: Stored) -> None:
    values = numpy_helper.to_array(initializer).astype(np.float32)
    found = to_float32(stored)
    if values.shape != found.shape:
        raise ValueError(f"{initializer.name} is {list(values.shape)} in the graph, {list(found.shape)} stored")
    # Half precision rounds to 2^-11 of a number, and to 2^-25 where it is tiny.
    if not np.allclose(values, found, rtol=2**-11, atol=2**-24):
        difference = float(np.abs(values - found).max())
        raise ValueError(f"{initializer.name} differs from the stored tensor by {difference:g}")


def _externalize(
    graph: onnx.GraphProto,
    initializer: TensorProto,
    name: str,
    stored: Stored,
    places: Mapping[str, tuple[int, int]],
) -> list[onnx.NodeProto]:
    """Points ``initializer`` into the file; returns the nodes that convert it to the type the graph reads."""
    wanted, output = initializer.data_type, initializer.name
    if isinstance(stored, Quantized):
        raw, scale, minimum, number, product = (
            f"{output}:{part}" for part in ("bytes", "scale", "minimum", "float", "scaled")
        )
        _point(initializer, raw, stored.values, places[name])
        for part, values, suffix in ((scale, stored.scale, SCALE_SUFFIX), (minimum, stored.minimum, MINIMUM_SUFFIX)):
            _point(graph.initializer.add(), part, values, places[name + suffix])
        last = f"{output}:float32" if wanted != TensorProto.FLOAT else output
        nodes = [
            helper.make_node("Cast", [raw], [number], name=number, to=TensorProto.FLOAT),
            helper.make_node("Mul", [number, scale], [product], name=product),
            helper.make_node("Add", [product, minimum], [last], name=last),
        ]
        if last != output:
            nodes.append(helper.make_node("Cast", [last], [output], name=output, to=wanted))
        return nodes
    if helper.np_dtype_to_tensor_dtype(stored.dtype) == wanted:
        _point(initializer, output, stored, places[name])
        return []
    raw = f"{output}:stored"
    _point(initializer, raw, stored, places[name])
    return [helper.make_node("Cast", [raw], [output], name=f"{output}:cast", to=wanted)]


def _point(target: TensorProto, name: str, values: np.ndarray, place: tuple[int, int]) -> None:
    """Makes ``target`` the external initializer ``name`` at ``place`` of the file."""
    target.Clear()
    target.name = name
    target.data_type = helper.np_dtype_to_tensor_dtype(values.dtype)
    target.dims.extend(values.shape)
    # The helper insists on bytes to be there before it lets go of them.
    target.raw_data = b""
    external_data_helper.set_external_data(target, TENSORS_FILE, offset=place[0], length=place[1])
    target.ClearField("raw_data")
    target.data_location = TensorProto.EXTERNAL


def _prepend(graph: onnx.GraphProto, nodes: list[onnx.NodeProto]) -> None:
    """Puts ``nodes`` before all others: ONNX wants them in the order of computation."""
    rest = list(graph.node)
    del graph.node[:]
    graph.node.extend([*nodes, *rest])
