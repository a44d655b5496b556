"""The UNet's first block down and last block up alone: a graph that takes what the others gave a step before.

Cut out of a graph that is there already, in whatever precision: same nodes, same stored weights, same scales.
"""

from __future__ import annotations

from pathlib import Path

import onnx

from .models.unet import DEEP_FEATURES

PREDICTION = "prediction"


def shallow_name(graph_file: str) -> str:
    """The file beside a graph that holds its shallow part: "model_int8_shallow.onnx" for "model_int8.onnx"."""
    return f"{graph_file.removesuffix('.onnx')}_shallow.onnx"


def write_shallow_graph(folder: Path, graph_file: str) -> Path:
    """Cuts the way from `deep_features` (and the graph's own inputs) to the prediction out of a UNet's graph.

    Args:
        folder: of the part; the weights stay in its `model.safetensors`.
        graph_file: of the whole graph, whose outputs are the prediction and the deep features.

    Returns:
        The file; inputs the way has no use for are none of its inputs.

    Raises:
        ValueError: the graph has no deep features, or its prediction does not come from them.
    """
    model = onnx.load(folder / graph_file, load_external_data=False)
    [deep] = [value for value in model.graph.output if value.name == DEEP_FEATURES] or [None]
    if deep is None:
        raise ValueError(f"{folder / graph_file} has no output {DEEP_FEATURES}")
    makers = {output: node for node in model.graph.node for output in node.output}
    used: set[str] = set()
    waiting = [PREDICTION]
    while waiting:
        name = waiting.pop()
        if name in used:
            continue
        used.add(name)
        if name != DEEP_FEATURES and name in makers:
            waiting += [source for source in makers[name].input if source]
    if DEEP_FEATURES not in used:
        raise ValueError(f"{folder / graph_file}: its prediction does not come from {DEEP_FEATURES}")
    kept = [node for node in model.graph.node if used & set(node.output) - {DEEP_FEATURES}]
    inputs = [value for value in model.graph.input if value.name in used]
    outputs = [value for value in model.graph.output if value.name == PREDICTION]
    initializers = [value for value in model.graph.initializer if value.name in used]
    infos = [value for value in model.graph.value_info if value.name in used]
    for field, values in (
        ("node", kept),
        ("input", [*inputs, deep]),
        ("output", outputs),
        ("initializer", initializers),
        ("value_info", infos),
    ):
        values = [type(value).FromString(value.SerializeToString()) for value in values]
        model.graph.ClearField(field)
        getattr(model.graph, field).extend(values)
    path = folder / shallow_name(graph_file)
    onnx.save(model, path)
    return path
