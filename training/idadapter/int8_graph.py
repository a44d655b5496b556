"""The UNet in 8-bit integers for CPUs: a second graph over the same stored weights.

Activations are unsigned bytes with a scale found by watching real denoising (static, so that a picture's numbers do
not depend on who shares its batch), weights are signed bytes with a scale an output channel. The weights stay stored
once, in half precision: the graph quantises them by nodes on the constants, which ONNX Runtime computes when a session
is created.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, helper, numpy_helper
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

from .external_data import GRAPH_FILE
from .fused_attention import fuse_attention

INT8_GRAPH_FILE = "model_int8.onnx"

QUANTIZED = ("Conv", "MatMul")
"""Most of the UNet's time; the rest stays in float32, attention among it, whose products are small."""

ENDING = "_quantized"
"""What ONNX Runtime's quantiser appends to the name of a weight."""

Inputs = dict[str, np.ndarray]


class _Recorded(CalibrationDataReader):
    """Feeds recorded inputs to the calibration, one after another."""

    def __init__(self, inputs: Iterable[Inputs]) -> None:
        self.inputs = iter(inputs)

    def get_next(self) -> Inputs | None:
        return next(self.inputs, None)


def write_int8_graph(folder: Path, inputs: Iterable[Inputs]) -> Path:
    """Writes `model_int8.onnx` beside a part's `model.onnx`.

    Args:
        folder: of the part, with `model.onnx` whose weights are external.
        inputs: what the graph is run on to see how large its activations become.

    Returns:
        The file.
    """
    plain = onnx.load(folder / GRAPH_FILE)
    sources = fold_weights(plain)
    fuse_attention(plain)
    with tempfile.TemporaryDirectory() as work:
        folded, quantized = Path(work) / "folded.onnx", Path(work) / "quantized.onnx"
        onnx.save(plain, folded)
        quantize_static(
            folded,
            quantized,
            _Recorded(inputs),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=list(QUANTIZED),
            per_channel=True,
            # Seven bits of weight: pairs of products then fit 16 bits, in which processors without VNNI add them.
            reduce_range=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            # A product in float32 is what most of those who read it want.
            extra_options={"OpTypesToExcludeOutputQuantization": ["MatMul"]},
        )
        model = onnx.load(quantized)
    restore_weights(model, sources, onnx.load(folder / GRAPH_FILE, load_external_data=False))
    onnx.save(model, folder / INT8_GRAPH_FILE)
    return folder / INT8_GRAPH_FILE


def fold_weights(model: onnx.ModelProto) -> dict[str, list[NodeProto]]:
    """Computes the nodes that only convert or transpose weights, as sessions do when they are created.

    Args:
        model: with its data loaded; changed.

    Returns:
        For each initializer made that way, the nodes that made it, in order.
    """
    values = {initializer.name: initializer for initializer in model.graph.initializer}
    made: dict[str, list[NodeProto]] = {}
    rest = []
    for node in model.graph.node:
        source = values.get(node.input[0]) if node.input else None
        if source is None or node.op_type not in ("Cast", "Transpose") or len(node.input) != 1:
            rest.append(node)
            continue
        array = numpy_helper.to_array(source)
        attributes = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
        if node.op_type == "Cast":
            array = array.astype(helper.tensor_dtype_to_np_dtype(attributes["to"]))
        else:
            array = array.transpose(attributes.get("perm"))
        values[node.output[0]] = numpy_helper.from_array(array, node.output[0])
        made[node.output[0]] = [*made.get(node.input[0], []), node]
    read = {name for node in rest for name in node.input}
    model.graph.ClearField("node")
    model.graph.node.extend(rest)
    model.graph.ClearField("initializer")
    model.graph.initializer.extend(value for name, value in values.items() if name in read)
    return {name: nodes for name, nodes in made.items() if name in read}


def restore_weights(model: onnx.ModelProto, sources: dict[str, list[NodeProto]], plain: onnx.ModelProto) -> None:
    """Replaces weights, quantised or not, by the nodes that make them of the stored ones.

    Args:
        model: a quantised graph with all its data; changed.
        sources: as `fold_weights` gives them.
        plain: the graph the weights are stored for, its data not loaded.
    """
    stored = {initializer.name: initializer for initializer in plain.graph.initializer}
    scales = {node.input[0]: node for node in model.graph.node if node.op_type == "DequantizeLinear"}
    nodes: dict[str, NodeProto] = {}
    kept: list[TensorProto] = []
    used: dict[str, TensorProto] = {}
    for initializer in model.graph.initializer:
        name = initializer.name
        # Biases are whole numbers of 32 bits and small: they stay in the graph.
        weight = name.removesuffix(ENDING) if initializer.data_type == TensorProto.INT8 else name
        if weight not in sources:
            if name in stored:
                used[name] = stored[name]
            else:
                kept.append(initializer)
            continue
        steps = sources[weight]
        used |= {node.input[0]: stored[node.input[0]] for node in steps if node.input[0] in stored}
        if name == weight:
            nodes |= {node.output[0]: node for node in steps}
            continue
        _, scale, zero = scales[name].input
        [axis] = [attribute.i for attribute in scales[name].attribute if attribute.name == "axis"]
        for node in quantizing_steps(steps, name, scale, zero, axis):
            nodes[node.output[0]] = node
    rest = list(model.graph.node)
    model.graph.ClearField("node")
    model.graph.node.extend([*nodes.values(), *rest])
    model.graph.ClearField("initializer")
    model.graph.initializer.extend([*used.values(), *kept])


def quantizing_steps(steps: list[NodeProto], name: str, scale: str, zero: str, axis: int) -> list[NodeProto]:
    """Nodes that make the quantised weight `name` of a stored one.

    Args:
        steps: what makes the float weight: perhaps a `Cast`, perhaps a `Transpose` after it.
        name: of the result.
        scale: of each channel.
        zero: points of each channel.
        axis: of the channels in the result.
    """
    before = [node for node in steps if node.op_type == "Cast"]
    turn = next((node for node in steps if node.op_type == "Transpose"), None)
    source = before[-1].output[0] if before else steps[0].input[0]
    if turn is None:
        return [*before, helper.make_node("QuantizeLinear", [source, scale, zero], [name], name=name, axis=axis)]
    # ONNX Runtime quantises along the first axis many times as fast as along the last, and bytes are quick to turn.
    perm = next(list(attribute.ints) for attribute in turn.attribute if attribute.name == "perm")
    straight = f"{name}:straight"
    return [
        *before,
        helper.make_node("QuantizeLinear", [source, scale, zero], [straight], name=straight, axis=perm[axis]),
        helper.make_node("Transpose", [straight], [name], name=name, perm=perm),
    ]
