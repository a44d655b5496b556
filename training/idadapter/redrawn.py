"""Latents that the model draws over noised photos: what is wrong with them is what is wrong with its portraits."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm
from transformers import CLIPTokenizer

from .config import IdAdapterConfig
from .data.captions import RENDITION_WORDS
from .data.embeddings import open_embeddings
from .data.facts import read_facts
from .data.latents import Latents, fingerprint
from .data.portraits import Portraits
from .data.renditions import RENDITIONS
from .data.vision_crops import crop, to_tensor
from .faces.recognizer import FaceRecognizer
from .loop import fast_precision, training_device
from .models.attention import plain_attention
from .models.group_norm import contiguous_group_norms
from .models.idadapter import IdAdapterModel
from .models.quiet_patches import PLACES
from .models.text_encoder import identifier_positions
from .noise_schedule import Diffusion, read_noise_schedule
from .parts import has_part, read_image_encoder, read_mixed_features, read_text_encoder, read_unet
from .rollouts import guided_prompts, roll_out, rollout_guidance, rollout_needed
from .tokenizer import IDENTIFIER, encode_prompts, with_identifier

STEPS = 12
"""Of a whole denoising, of which a redrawing makes the last ones."""

STARTS = (1, 2, 3, 4, 5, 6, 7, 8)
"""After how many of these it begins: timesteps 916 to 333. At the last of them only a face's details are the model's
own, at the first also where its features are and how a rendition is drawn."""

SHARES = (0.4, 0.3, 0.3)
"""Of `data.latents.VARIANTS`, in what is redrawn and in what the encoder makes. With more renditions the decoder weaves
canvas into photos."""

RENDITION_SHARES = {"pencil_sketch": 0.2, "cartoon": 0.2, "oil_painting": 0.4, "black_and_white": 0.2}
"""Of the renditions among them: the one whose hand is the hardest to tell from a photo's grain comes most often."""

AT_ONCE = 16


class Drawing(NamedTuple):
    """What `roll_out` needs to know of b pictures that are redrawn; see `stages.drawn_people.DrawnPeople`."""

    rolled: Tensor
    rolled_crops: Tensor
    rolled_index: Tensor
    rolled_ids: Tensor
    rolled_positions: Tensor
    rolled_times: Tensor
    rolled_needed: list[Tensor]
    counts: Tensor
    quiet: Tensor


@dataclass(frozen=True)
class Redrawn:
    """Redrawn latents and what they are of; row i of every array belongs together.

    Attributes:
        latents: [n, c, h, w] float16.
        rows: [n], which portraits.
        variants: [n], which of `data.latents.VARIANTS`.
        timesteps: [n], where the redrawing began.
    """

    latents: np.ndarray
    rows: np.ndarray
    variants: np.ndarray
    timesteps: np.ndarray


def drawn_rows(random: np.random.Generator, portraits: Portraits, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Which training portraits a number of pictures are of, and which of `data.latents.VARIANTS` of each, by `SHARES`
    and `RENDITION_SHARES`; both [count]."""
    variants = random.choice(len(SHARES), count, p=SHARES)
    kinds = portraits.rendition_class[portraits.train]
    weights = np.array([RENDITION_SHARES[name] for name in RENDITIONS])[kinds] / np.bincount(kinds)[kinds]
    renditions = random.choice(portraits.train, count, p=weights / weights.sum())
    return np.where(variants == 2, renditions, random.choice(portraits.train, count)), variants


def open_redrawn(
    cache: Path,
    parts: Path,
    config: IdAdapterConfig,
    tokenizer: CLIPTokenizer,
    portraits: Portraits,
    latents: Latents,
    count: int,
) -> Redrawn:
    """Opens the redrawn latents of a run's model, making them on first use (4,000 take five to twelve minutes of two
    cores with bfloat16, forty without).

    Each is a training photo, its mirror image or its rendition with noise of some timestep on it, denoised by the model
    with the photo itself as reference: told the class noun alone of a photo, and what it is of a rendition, and guided
    as rollouts are.

    Args:
        cache: folder of derived data.
        parts: the run's; image encoder, text encoder, mixed features and UNet must be there.
        config: whose `rollout_…` say how it is guided, and `references` how often the photo counts.
        tokenizer: the run's.
        portraits: of which the training people's are taken.
        latents: theirs.
        count: how many.

    Raises:
        FileNotFoundError: a part is missing.
    """
    settings = (
        portraits.key,
        count,
        rollout_guidance(config),
        config.rollout_guidance_rescale,
        config.rollout_negative_prompt,
        config.references,
        fingerprint(latents.vae),
        STEPS,
        STARTS,
        SHARES,
        RENDITION_SHARES,
    )
    digest = hashlib.sha256(repr(settings).encode())
    for name in ("image_encoder", "text_encoder", "mixed_features", "unet"):
        if not has_part(parts, name):
            raise FileNotFoundError(f"{parts} has no {name}: the decoder learns from what the whole model draws")
        digest.update((parts / name / "model.safetensors").read_bytes())
    path = cache / f"redrawn-{digest.hexdigest()[:12]}.npz"
    if not path.exists():
        made = redraw(parts, config, tokenizer, portraits, latents, cache, count)
        partial = path.with_suffix(f".{os.getpid()}.npz")
        np.savez(partial, **vars(made))
        partial.replace(path)
    with np.load(path) as kept:
        return Redrawn(**kept)


@torch.no_grad()
def redraw(
    parts: Path,
    config: IdAdapterConfig,
    tokenizer: CLIPTokenizer,
    portraits: Portraits,
    latents: Latents,
    cache: Path,
    count: int,
) -> Redrawn:
    """Makes what `open_redrawn` opens, from seeded noise, where the stage will train; the autoencoder comes back."""
    image_encoder = read_image_encoder(parts)
    model = IdAdapterModel(
        read_unet(parts), read_text_encoder(parts), read_mixed_features(parts), joint=True, image_encoder=image_encoder
    )
    device, before = training_device(), next(latents.vae.parameters()).device
    latents.vae.to(device)
    model = model.eval().to(device, memory_format=torch.channels_last)
    if device.type == "cpu":
        plain_attention(model.unet, model.text_encoder)
        contiguous_group_norms(model.unet)
    embeddings = open_embeddings(cache, portraits, FaceRecognizer.from_package())
    facts, diffusion = read_facts(portraits.records), Diffusion(read_noise_schedule(parts))
    random, generator = np.random.default_rng(0), torch.Generator().manual_seed(0)
    identifier = tokenizer.convert_tokens_to_ids(IDENTIFIER + "</w>")
    grid = torch.linspace(len(diffusion.alphas) - 1, 0, STEPS + 1).round().long()
    size, references = image_encoder.config.image_size, config.references
    found: list[Redrawn] = []
    for begin in tqdm(range(0, count, AT_ONCE), desc="redraw"):
        rows, variants = drawn_rows(random, portraits, min(AT_ONCE, count - begin))
        times = grid[int(random.choice(STARTS)) :, None].expand(-1, len(rows))
        nouns = [facts[row].noun for row in rows]
        words = [
            random.choice(RENDITION_WORDS[RENDITIONS[portraits.rendition_class[row]]]).format(noun)
            if variant == 2
            else ""
            for row, variant, noun in zip(rows, variants, nouns, strict=True)
        ]
        prompts = [with_identifier(one, noun) for one, noun in zip(words, nouns, strict=True)]
        ids = encode_prompts(tokenizer, guided_prompts(config, prompts, nouns))
        everyone = torch.arange(len(rows))
        batch = Drawing(
            rolled=everyone.to(device),
            rolled_crops=everyone.to(device),
            rolled_index=everyone[:, None].to(device),
            rolled_ids=ids.to(device),
            rolled_positions=identifier_positions(ids, identifier).to(device),
            rolled_times=times.to(device),
            rolled_needed=[rollout_needed(config, now).to(device) for now in times[:-1]],
            counts=torch.full((len(rows), 1), float(references), device=device),
            quiet=torch.zeros(len(rows), len(PLACES), dtype=torch.bool, device=device),
        )
        photos = latents.pictures(rows, np.where(variants == 1, 1, 0))
        crops = to_tensor([crop(photo, size) for photo in photos], device)
        faces = torch.from_numpy(np.ascontiguousarray(embeddings[rows, (variants == 1).astype(int)]))[:, None]
        clean = latents(rows, variants)
        noise = torch.randn(len(times), *clean.shape, generator=generator)
        noise[0], _, _ = diffusion.add_noise(clean, noise[0], times[0])
        with torch.autocast(device.type, torch.bfloat16, enabled=fast_precision() == "bf16"):
            features = (crops, batch.rolled_index, faces.to(device))
            drawn = roll_out(config, model, diffusion, batch, noise.to(device), features)
        found.append(Redrawn(drawn.cpu().numpy().astype(np.float16), rows, variants, times[0].numpy()))
    latents.vae.to(before)
    return Redrawn(*(np.concatenate(each) for each in zip(*(vars(one).values() for one in found), strict=True)))
