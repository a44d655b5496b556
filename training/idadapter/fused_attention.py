"""Attention as one operator of ONNX Runtime instead of the dozen small ones that PyTorch's exporter writes.

In a UNet for processors the products of attention are small, and what surrounds them is not: head by head the exporter
reshapes, transposes and scales, and an 8-bit graph quantises each of the results.
"""

from __future__ import annotations

import math
from collections import defaultdict
from typing import NamedTuple

import numpy as np
import onnx
from onnx import NodeProto, helper, numpy_helper

DOMAIN = "com.microsoft"
"""Of `MultiHeadAttention`, which ONNX Runtime has on processors and GPUs."""

SPLIT_HEADS = [0, 2, 1, 3]
"""[b, tokens, heads, width] to [b, heads, tokens, width], and back."""


class _Projected(NamedTuple):
    """A projection of tokens that was split into heads.

    Attributes:
        value: its name, [b, tokens, heads * width].
        shape: what the heads were split by: the constants of [b, tokens, heads, width], None where computed.
        scale: by which it was multiplied on the way.
    """

    value: str
    shape: list[int] | None
    scale: float


class _Graph:
    """Who makes and who reads each value."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self.makers = {name: node for node in model.graph.node for name in node.output}
        self.readers: dict[str, list[NodeProto]] = defaultdict(list)
        for node in model.graph.node:
            for name in node.input:
                self.readers[name].append(node)
        self.constants = {initializer.name: initializer for initializer in model.graph.initializer}
        self.outputs = {value.name for value in model.graph.output}
        values = [*model.graph.value_info, *model.graph.input]
        self.shapes = {value.name: value.type.tensor_type.shape.dim for value in values}

    def maker(self, name: str, *operators: str) -> NodeProto | None:
        """Who makes a value, if it is one of some operators."""
        node = self.makers.get(name)
        return node if node is not None and node.op_type in operators else None

    def reader(self, name: str, operator: str) -> NodeProto | None:
        """Who alone reads a value, if it is an operator."""
        readers = self.readers[name]
        found = len(readers) == 1 and name not in self.outputs and readers[0].op_type == operator
        return readers[0] if found else None

    def constant(self, name: str) -> np.ndarray | None:
        """A stored value."""
        found = self.constants.get(name)
        return None if found is None else numpy_helper.to_array(found)

    def is_one_row(self, name: str) -> bool:
        """Whether a bias [b, heads, tokens, k] is the same for all tokens, or might be."""
        sides = self.shapes.get(name, ())
        return len(sides) != 4 or sides[2].dim_value == 1

    def scaled(self, name: str) -> tuple[str, float]:
        """What a value is a multiple of, and how many times."""
        scale = 1.0
        while (node := self.maker(name, "Mul")) is not None:
            factors = [self.constant(source) for source in node.input]
            [at] = [i for i, factor in enumerate(factors) if factor is not None and factor.size == 1] or [None]
            if at is None:
                break
            scale, name = scale * float(factors[at].item()), node.input[1 - at]
        return name, scale

    def projected(self, name: str, last_turned: bool) -> _Projected | None:
        """The projection that a value [b, heads, tokens, width] was split from; keys have their last axes turned."""
        value, scale = self.scaled(name)
        perms: list[list[int]] = []
        shape: str | None = None
        while (node := self.maker(value, "Transpose", "Reshape")) is not None:
            value = node.input[0]
            if node.op_type == "Reshape":
                shape = node.input[1]
            else:
                perms.append(_perm(node))
        # Keys are turned at once, or, as matrices [b heads, tokens, width], once more.
        ways = ([[0, 2, 3, 1]], [[0, 2, 1], SPLIT_HEADS]) if last_turned else ([SPLIT_HEADS],)
        if shape is None or perms not in ways:
            return None
        sides = self.constant(shape)
        return _Projected(value, None if sides is None else sides.tolist(), scale)


def fuse_attention(model: onnx.ModelProto) -> int:
    """Replaces every attention that is written out by a `MultiHeadAttention`; others stay as they are.

    Args:
        model: its constants loaded; changed.

    Returns:
        How many were replaced.
    """
    graph = _Graph(model)
    fused: dict[int, NodeProto] = {}
    for softmax in model.graph.node:
        found = _attention(graph, softmax) if softmax.op_type == "Softmax" else None
        if found is not None:
            end, node = found
            fused[id(end)] = node
    if not fused:
        return 0
    nodes = [fused.get(id(node), node) for node in model.graph.node]
    _set_nodes(model, nodes)
    model.opset_import.append(helper.make_opsetid(DOMAIN, 1))
    return len(fused)


def _attention(graph: _Graph, softmax: NodeProto) -> tuple[NodeProto, NodeProto] | None:
    """The last node of what a softmax is the middle of, and the one that does the same."""
    logits, scale = graph.scaled(softmax.input[0])
    bias = ""
    add = graph.maker(logits, "Add")
    if add is not None:
        if scale != 1:
            return None
        [at] = [i for i, name in enumerate(add.input) if graph.maker(graph.scaled(name)[0], "MatMul")] or [None]
        if at is None:
            return None
        logits, scale = graph.scaled(add.input[at])
        bias = add.input[1 - at]
        # Without places that correspond a bias is one row, which the operator does not take.
        if graph.is_one_row(bias):
            return None
    products = graph.maker(logits, "MatMul")
    weighted = graph.reader(softmax.output[0], "MatMul")
    if products is None or weighted is None or weighted.input[0] != softmax.output[0]:
        return None
    joined = graph.reader(weighted.output[0], "Transpose")
    end = None if joined is None or _perm(joined) != SPLIT_HEADS else graph.reader(joined.output[0], "Reshape")
    query = graph.projected(products.input[0], last_turned=False)
    key = graph.projected(products.input[1], last_turned=True)
    value = graph.projected(weighted.input[1], last_turned=False)
    if end is None or query is None or key is None or value is None or value.scale != 1 or query.shape is None:
        return None
    *_, heads, width = query.shape
    if len(query.shape) != 4 or heads < 1 or width < 1:
        return None
    inputs = [query.value, key.value, value.value, *(["", "", bias] if bias else [])]
    name = f"{softmax.name}:attention"
    scale *= query.scale * key.scale
    # The usual scale as the operator has it by itself, not as a rounded product.
    usual = math.isclose(scale, width**-0.5, rel_tol=1e-5)
    attributes = {"num_heads": heads, **({} if usual else {"scale": scale})}
    return end, helper.make_node("MultiHeadAttention", inputs, [end.output[0]], name, domain=DOMAIN, **attributes)


def _perm(node: NodeProto) -> list[int]:
    return next(list(attribute.ints) for attribute in node.attribute if attribute.name == "perm")


def _set_nodes(model: onnx.ModelProto, nodes: list[NodeProto]) -> None:
    """Gives a graph nodes, less those whose values nobody reads any more, and the constants of what is left."""
    while True:
        read = {name for node in nodes for name in node.input} | {value.name for value in model.graph.output}
        kept = [node for node in nodes if read & set(node.output)]
        if len(kept) == len(nodes):
            break
        nodes = kept
    copies = [NodeProto.FromString(node.SerializeToString()) for node in nodes]
    model.graph.ClearField("node")
    model.graph.node.extend(copies)
    constants = [value for value in model.graph.initializer if value.name in read]
    infos = [value for value in model.graph.value_info if value.name in read]
    for field, values in (("initializer", constants), ("value_info", infos)):
        values = [type(value).FromString(value.SerializeToString()) for value in values]
        model.graph.ClearField(field)
        getattr(model.graph, field).extend(values)
