"""A graph that is not what PyTorch computes is not exported, whatever it gives."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from idadapter.export import TOLERANCE, difference, export_graph
from idadapter.graphs import GraphSpec, half_precision


class Root(nn.Module):
    """A layer, and the root of what it gives: not a number below 0."""

    def __init__(self) -> None:
        super().__init__()
        self.model = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.model(x).sqrt()


def layer(weight: float) -> Root:
    module = Root()
    nn.init.constant_(module.model.weight, weight)
    nn.init.zeros_(module.model.bias)
    return module


def spec_of(module: Root) -> GraphSpec:
    return GraphSpec("toy", module, module.model.state_dict(), "model.", {"x": torch.ones(2, 4)}, ("y",))


def test_what_is_not_a_number_is_no_match(tmp_path: Path):
    assert export_graph(spec_of(layer(1.0)), tmp_path / "good") <= TOLERANCE
    with pytest.raises(ValueError, match="toy: the graph differs from PyTorch by nan"):
        export_graph(spec_of(layer(-1.0)), tmp_path / "bad")


def test_large_outputs_may_differ_by_as_many_of_their_digits_as_small_ones():
    ones = np.ones(3, np.float32)
    assert difference(ones, ones * (1 + 1e-3)) == pytest.approx(1e-3, rel=0.01)
    assert difference(200 * ones, 200 * ones * (1 + 1e-3)) == pytest.approx(1e-3, rel=0.01)
    assert difference(1e-3 * ones, 2e-3 * ones) == pytest.approx(1e-3, rel=0.01)
    assert np.isnan(difference(ones, ones * np.nan)) and np.isnan(difference(ones * np.inf, ones * np.inf))


def test_weights_that_half_precision_cannot_hold_are_named():
    assert torch.equal(half_precision(layer(0.1)).model.weight, torch.full((4, 4), 0.1).half().float())
    with pytest.raises(ValueError, match=r"model\.weight has numbers that half precision cannot hold"):
        half_precision(layer(7e4))
