"""Stage 3: the base text-to-image model."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from diffusers import UNet2DConditionModel
from torch import Tensor, nn
from transformers import CLIPTextModel, CLIPTokenizer

from ..config import DiffusionConfig
from ..data.captions import caption, mirrored
from ..data.facts import Facts, read_facts
from ..data.latents import Latents
from ..data.portraits import Portraits
from ..data.renditions import RENDITIONS
from ..loop import Stage, StepRandom, mean_or_zero
from ..models.attention import plain_attention
from ..models.autoencoder import decode
from ..models.group_norm import contiguous_group_norms
from ..models.identity_adapter import predict
from ..models.text_encoder import encode_text
from ..noise_schedule import Diffusion, read_noise_schedule, stratified_timesteps
from ..parts import write_text_encoder, write_unet
from ..sampling import guided, in_chunks, pictures_at_once, sample_latents, tile
from ..tokenizer import encode_prompts, shortened

SAMPLE_PROMPTS = (
    "man",
    "woman",
    "a man, smiling",
    "a woman, not smiling",
    "a man with glasses",
    "a woman wearing a hat",
    "man, facing left",
    "woman, facing right",
    "a pencil sketch of a man",
    "an oil painting of a woman",
    "an old man with grey hair",
    "a woman with blond hair",
)


class TextToImage(nn.Module):
    """What the diffusion stage trains, the UNet without its adapters, and the text encoder it reads."""

    def __init__(self, unet: UNet2DConditionModel, text_encoder: CLIPTextModel) -> None:
        """Freezes the text encoder, and the adapters, which this stage never runs."""
        super().__init__()
        self.unet = unet
        self.text_encoder = text_encoder.requires_grad_(False)
        for name, parameter in unet.named_parameters():
            parameter.requires_grad_(".fuser." not in name)

    def forward(self, noisy: Tensor, timesteps: Tensor, input_ids: Tensor) -> Tensor:
        """Predicts from z_t [b, c, h, w], t [b] and token ids [b, L]."""
        width = self.text_encoder.config.hidden_size
        nobody = input_ids.new_full((len(input_ids),), -1)
        hidden = encode_text(self.text_encoder, input_ids, noisy.new_zeros(len(input_ids), width), nobody)
        return predict(self.unet, noisy, timesteps, hidden, None, None)


class CaptionedPhotos:
    """Draws captions of photos that tell the truth of what is shown: the photo, its mirror image or its rendition."""

    def __init__(self, portraits: Portraits, rendition_share: float) -> None:
        """Keeps what is drawn from; reads the facts."""
        self.portraits, self.rendition_share = portraits, rendition_share
        self.facts: list[Facts] = read_facts(portraits.records)

    def __call__(
        self, rows: np.ndarray, random: np.random.Generator, noun_always: bool = False
    ) -> tuple[list[str], np.ndarray]:
        """Captions, and which variant (`VARIANTS`) each row shows."""
        drawn = random.random(len(rows)) < self.rendition_share
        variants = np.where(drawn, 2, (random.random(len(rows)) < 0.5).astype(int))
        captions = []
        for row, variant in zip(rows, variants, strict=True):
            facts = mirrored(self.facts[row]) if variant == 1 else self.facts[row]
            rendition = RENDITIONS[self.portraits.rendition_class[row]] if variant == 2 else None
            captions.append(caption(facts, random, rendition, facts.noun if noun_always else None))
        return captions, variants


class DrawnCaptions(NamedTuple):
    """What a step of the stage takes from the data: which portraits, in which variant, and token ids [b, L]."""

    rows: np.ndarray
    variants: np.ndarray
    ids: Tensor


class DiffusionStage(Stage):
    """Prediction of velocity (or noise) on cached latents with captions, some of them dropped for guidance."""

    name = "diffusion"

    def __init__(
        self,
        config: DiffusionConfig,
        model: TextToImage,
        tokenizer: CLIPTokenizer,
        portraits: Portraits,
        latents: Latents,
        parts: Path,
    ) -> None:
        """Takes the networks as they are, from random weights or a bundle's."""
        self.config, self.tokenizer, self.portraits = config, tokenizer, portraits
        self.module = model.to(memory_format=torch.channels_last)
        self.batch = CaptionedPhotos(portraits, config.rendition_share)
        self.latents = latents
        self.diffusion = Diffusion(read_noise_schedule(parts))
        self.vae = latents.vae

    def frozen(self) -> list[nn.Module]:
        """See `Stage.frozen`."""
        return [self.vae]

    def place(self, device: torch.device) -> None:
        """See `Stage.place`."""
        super().place(device)
        if device.type == "cpu":
            plain_attention(self.module.unet, self.module.text_encoder)
            contiguous_group_norms(self.module.unet)

    def draw(self, random: StepRandom, step: int) -> DrawnCaptions:
        """See `Stage.draw`."""
        count = self.config.loop.batch_size
        rows = random.numpy.choice(self.portraits.train, count)
        captions, variants = self.batch(rows, random.numpy)
        dropped = random.numpy.random(count) < self.config.condition_dropout
        prompts = ["" if d else shortened(self.tokenizer, c) for c, d in zip(captions, dropped, strict=True)]
        return DrawnCaptions(rows, variants, encode_prompts(self.tokenizer, prompts))

    def loss(
        self, module: nn.Module, random: StepRandom, step: int, drawn: DrawnCaptions | None = None
    ) -> tuple[Tensor, dict[str, Tensor | float]]:
        """See `Stage.loss`."""
        rows, variants, ids = drawn or self.draw(random, step)
        latents = self.latents(rows, variants).to(self.device, non_blocking=True)
        timesteps = stratified_timesteps(random.uniform(len(rows))).to(self.device, non_blocking=True)
        noise = random.normal(*latents.shape, device=self.device)
        noisy, target, snr = self.diffusion.add_noise(latents, noise, timesteps)
        ids = ids.to(self.device, non_blocking=True)
        predicted = module(noisy.contiguous(memory_format=torch.channels_last), timesteps, ids).float()
        error = (predicted - target).square().mean((1, 2, 3))
        low = timesteps < 500
        return (self.diffusion.weight(snr) * error).mean(), {
            "error": error.mean().detach(),
            "error_low_noise": mean_or_zero(error, low),
            "error_high_noise": mean_or_zero(error, ~low),
        }

    def write_parts(self, root: Path) -> None:
        """See `Stage.write_parts`."""
        write_unet(root, self.module.unet)
        write_text_encoder(root, self.module.text_encoder)

    def sample(self, step: int) -> np.ndarray:
        """Two portraits of each of `SAMPLE_PROMPTS`."""
        prompts = [*SAMPLE_PROMPTS] * 2
        ids = encode_prompts(self.tokenizer, [*prompts, *([""] * len(prompts))]).to(self.device)

        at_once = pictures_at_once(self.portraits.size)
        model = guided(lambda noisy, timesteps, rows: self.module(noisy, timesteps, ids[rows]), at_once)
        shape = (
            len(prompts),
            self.vae.config.latent_channels,
            self.module.unet.config.sample_size,
            self.module.unet.config.sample_size,
        )
        latents = sample_latents(model, shape, 20, seed=1, schedule=self.diffusion.schedule, device=self.device)
        pictures = in_chunks(lambda some: decode(self.vae, some), at_once, latents)
        return tile(pictures, columns=len(SAMPLE_PROMPTS))
