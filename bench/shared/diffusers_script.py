"""One portrait by diffusers from a cold start, as a script would make it: import, load, generate, write a PNG."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch

from idadapter.fixture_reference import read_photo
from idadapter.loop import save_png
from idadapter.reference import ReferencePipeline

bundle, photo, picture, threads, steps, scheduler, guidance = sys.argv[1:]
torch.set_num_threads(int(threads))
[pixels] = ReferencePipeline(Path(bundle)).generate(
    read_photo(Path(photo)),
    "a portrait photo",
    "person",
    num_inference_steps=int(steps),
    scheduler=scheduler,
    **json.loads(guidance),
)
save_png(Path(picture), pixels)
