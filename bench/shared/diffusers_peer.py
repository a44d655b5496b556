"""The same portraits by diffusers, transformers and PyTorch, for the benches: one JSON object a line in, one out.

    PYTHONPATH=training python bench/shared/diffusers_peer.py --bundle models/default --photo PHOTO --threads 2

A request holds the fields of the API that `ReferencePipeline.generate` takes, and `dtype`: `float32` or `bfloat16`. The
answer holds the seconds it took and the pixels, base64 of RGB bytes.
"""

from __future__ import annotations

import argparse
import base64
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from idadapter.fixture_reference import read_photo
from idadapter.reference import ReferencePipeline


class InDtype(nn.Module):
    """A module that computes in another type and takes and gives float32."""

    def __init__(self, module: nn.Module, dtype: torch.dtype) -> None:
        """Converts the module's weights."""
        super().__init__()
        self.module, self.dtype = module.to(dtype, memory_format=torch.channels_last), dtype

    def forward(self, *inputs: Any, **extra: Any) -> Any:
        """Runs the module on converted inputs."""

        def convert(value: Any) -> Any:
            return value.to(self.dtype) if isinstance(value, Tensor) and value.is_floating_point() else value

        outputs = self.module(*pytree.tree_map(convert, inputs), **pytree.tree_map(convert, extra))
        return pytree.tree_map(lambda value: value.float() if isinstance(value, Tensor) else value, outputs)


def make_pipeline(bundle: Path, dtype: torch.dtype) -> ReferencePipeline:
    """The reference pipeline with the networks that take the time, UNet and decoder, in `dtype`."""
    pipeline = ReferencePipeline(bundle)
    pipeline.unet = InDtype(pipeline.unet, dtype)
    pipeline.vae.decoder = InDtype(pipeline.vae.decoder, dtype)
    return pipeline


def main() -> None:
    """Answers requests until there are no more."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bundle", type=Path, required=True)
    parser.add_argument("--photo", type=Path, required=True)
    parser.add_argument("--threads", type=int, required=True)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    photo = read_photo(arguments.photo)
    pipelines: dict[str, ReferencePipeline] = {}
    for line in sys.stdin:
        request = json.loads(line)
        dtype = request.pop("dtype")
        if dtype not in pipelines:
            pipelines[dtype] = make_pipeline(arguments.bundle, getattr(torch, dtype))
        start = time.perf_counter()
        [picture] = pipelines[dtype].generate(photo, **request)
        seconds = time.perf_counter() - start
        pixels = base64.b64encode(picture.tobytes()).decode()
        print(json.dumps({"seconds": seconds, "pixels": pixels}), flush=True)


if __name__ == "__main__":
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    main()
