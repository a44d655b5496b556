"""The UNet in half precision for CUDA: a second graph over the same stored weights, with float32 at its border."""

from __future__ import annotations

from pathlib import Path

import onnx
from onnx import NodeProto, TensorProto
from onnxruntime.transformers.float16 import convert_float_to_float16

from .external_data import GRAPH_FILE
from .int8_graph import fold_weights

FP16_GRAPH_FILE = "model_fp16.onnx"

FLOAT32 = ("InstanceNormalization", "LayerNormalization", "Softmax")
"""Sums over many numbers stay in float32."""


def write_fp16_graph(folder: Path, graph_file: str = GRAPH_FILE, written: str = FP16_GRAPH_FILE) -> Path:
    """Writes `model_fp16.onnx` beside a part's `model.onnx`.

    The stored weights are in half precision already: the graph reads them as they are, without the plain one's casts.

    Args:
        folder: of the part.
        graph_file: the plain graph, whose weights are external.
        written: name of the new graph.

    Returns:
        The file.
    """
    model = onnx.load(folder / graph_file)
    sources = fold_weights(model)
    converted = convert_float_to_float16(
        model,
        keep_io_types=True,
        # ONNX's could not take in more than 2 GB, which Stable Diffusion's UNet is; the exporter has noted all types.
        disable_shape_infer=True,
        op_block_list=list(FLOAT32),
        node_block_list=timestep_nodes(model),
    )
    drop_round_trips(converted)
    plain = onnx.load(folder / graph_file, load_external_data=False)
    stored = {initializer.name: initializer for initializer in plain.graph.initializer}
    nodes: dict[str, NodeProto] = {}
    used: dict[str, TensorProto] = {}
    kept: list[TensorProto] = []
    for initializer in converted.graph.initializer:
        steps = sources.get(initializer.name)
        if steps is None or steps[0].input[0] not in stored:
            kept.append(initializer)
            continue
        source = steps[0].input[0]
        used[source] = stored[source]
        half = initializer.data_type == TensorProto.FLOAT16
        name = source
        for node in steps:
            if half and node.op_type == "Cast":
                continue
            step = NodeProto()
            step.CopyFrom(node)
            step.input[0] = name
            name = step.output[0]
            nodes[name] = step
        if name != initializer.name:
            nodes[initializer.name] = onnx.helper.make_node("Identity", [name], [initializer.name])
    # Some of the types noted before the conversion are no longer true.
    converted.graph.ClearField("value_info")
    rest = list(converted.graph.node)
    converted.graph.ClearField("node")
    converted.graph.node.extend([*nodes.values(), *rest])
    converted.graph.ClearField("initializer")
    converted.graph.initializer.extend([*used.values(), *kept])
    onnx.save(converted, folder / written)
    return folder / written


def timestep_nodes(model: onnx.ModelProto) -> list[str]:
    """Names of the nodes that embed the timestep: sines of angles up to 999, which half precision rounds by 1/4."""
    makers = {output: node for node in model.graph.node for output in node.output}
    waiting = [node for node in model.graph.node if node.op_type in ("Sin", "Cos")]
    found: dict[str, NodeProto] = {}
    while waiting:
        node = waiting.pop()
        if node.name not in found:
            found[node.name] = node
            waiting += [makers[name] for name in node.input if name in makers]
    return list(found)


def drop_round_trips(model: onnx.ModelProto) -> None:
    """Takes out casts to half precision and back, which the converter leaves between neighbours in float32."""
    makers = {output: node for node in model.graph.node for output in node.output}

    def casts(node: NodeProto | None, to: int) -> bool:
        return node is not None and node.op_type == "Cast" and node.attribute[0].i == to

    whole: dict[str, str] = {}
    for name, node in makers.items():
        before = makers.get(node.input[0]) if casts(node, TensorProto.FLOAT) else None
        if casts(before, TensorProto.FLOAT16):
            whole[name] = before.input[0]
    for node in model.graph.node:
        for index, name in enumerate(node.input):
            node.input[index] = whole.get(name, name)
    read = {name for node in model.graph.node for name in node.input} | {value.name for value in model.graph.output}
    rest = [node for node in model.graph.node if node.op_type != "Cast" or node.output[0] in read]
    model.graph.ClearField("node")
    model.graph.node.extend(rest)
