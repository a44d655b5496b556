"""Attention as one operator: the same numbers, all of a UNet's, and nothing else taken for it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from diffusers.models.attention_processor import Attention
from torch import Tensor, nn

from idadapter.config import Config
from idadapter.external_data import GRAPH_FILE
from idadapter.fused_attention import fuse_attention
from idadapter.graphs import graph_specs


def run(model: onnx.ModelProto, inputs: dict[str, np.ndarray]) -> list[np.ndarray]:
    return onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"]).run(None, inputs)


def fused(model: onnx.ModelProto) -> list[onnx.NodeProto]:
    return [node for node in model.graph.node if node.op_type == "MultiHeadAttention"]


def test_a_unet_has_each_of_its_attentions_fused_and_predicts_the_same(bundle: Path, config: Config):
    [spec] = [spec for spec in graph_specs(bundle, config.idadapter.references) if spec.name == "unet"]
    inputs = {name: value.numpy() for name, value in spec.inputs.items()}
    # Two people of different strengths, one of whose tokens weighs more, and one counts nothing.
    inputs = {name: np.concatenate([value, 0.5 * value])[:2] for name, value in inputs.items()}
    inputs["identity_token_bias"][0, :2] = np.log(3)
    inputs["identity_token_bias"][1, -1] = -np.inf
    plain, model = (onnx.load(bundle / "unet" / GRAPH_FILE) for _ in range(2))
    blocks = [module for module in spec.module.modules() if isinstance(module, Attention)]
    assert fuse_attention(model) == len(fused(model)) == len(blocks) > 0
    # The pooling of the words is no attention of several heads.
    assert len([node for node in model.graph.node if node.op_type == "Softmax"]) == 1
    assert len(model.graph.node) < 0.8 * len(plain.graph.node)
    for expected, found in zip(run(plain, inputs), run(model, inputs), strict=True):
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)


class Written(nn.Module):
    """Attention of four heads, written out in a way of its own in each case."""

    def __init__(self, case: str) -> None:
        super().__init__()
        self.case = case
        self.project = nn.ModuleList(nn.Linear(8, 8) for _ in range(4))

    def forward(self, x: Tensor, bias: Tensor) -> Tensor:
        q, k, v = (project(x).unflatten(-1, (4, 2)).transpose(1, 2) for project in self.project[:3])
        scale = 1.7 if self.case == "scale" else 2**-0.5
        logits = q @ k.transpose(-1, -2) * scale
        if self.case.startswith("bias"):
            logits = logits + (bias[:, :, :1] if self.case == "bias of one row" else bias)
        if self.case == "capped":
            logits = logits.tanh()
        weights = logits.softmax(-1)
        if self.case == "halved values":
            v = 0.5 * v
        joined = (weights @ v).transpose(1, 2)
        joined = self.project[3](joined.flatten(-2))
        return joined.sum() + weights if self.case == "weights read" else joined


CASES = {
    "plain": 1,
    "scale": 1,
    "bias": 1,
    "bias of one row": 0,
    "capped": 0,
    "halved values": 0,
    "weights read": 0,
}


@pytest.mark.parametrize(("case", "count"), CASES.items())
def test_what_is_no_attention_of_the_operators_kind_stays_as_it_is(case: str, count: int):
    random = torch.Generator().manual_seed(0)
    x, bias = torch.randn(2, 6, 8, generator=random), torch.randn(2, 1, 6, 6, generator=random)
    torch.manual_seed(0)
    program = torch.onnx.export(Written(case).eval(), (x, bias), dynamo=True, opset_version=20, verbose=False)
    assert program is not None
    plain, model = program.model_proto, onnx.ModelProto.FromString(program.model_proto.SerializeToString())
    named = dict(zip([value.name for value in plain.graph.input], (x.numpy(), bias.numpy()), strict=True))
    assert fuse_attention(model) == len(fused(model)) == count
    [expected], [found] = run(plain, named), run(model, named)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)
