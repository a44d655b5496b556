"""One portrait by diffusers from a cold start, as a script would make it: import, load, generate, write a PNG."""

from __future__ import annotations

import sys
from pathlib import Path

import torch

from idadapter.fixture_reference import read_photo
from idadapter.loop import save_png
from idadapter.reference import ReferencePipeline

bundle, photo, picture, threads, steps, scheduler, scale, identity_scale = sys.argv[1:]
torch.set_num_threads(int(threads))
[pixels] = ReferencePipeline(Path(bundle)).generate(
    read_photo(Path(photo)),
    "a portrait photo",
    "person",
    num_inference_steps=int(steps),
    scheduler=scheduler,
    guidance_scale=float(scale),
    identity_guidance_scale=float(identity_scale),
)
save_png(Path(picture), pixels)
