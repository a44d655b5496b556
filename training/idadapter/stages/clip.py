"""Stage 2: a small CLIP, trained contrastively on portraits and their captions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import CLIPModel, CLIPTextModel, CLIPTokenizer
from transformers.models.clip.modeling_clip import CLIPOutput

from ..config import ClipConfig
from ..data.captions import caption, mirrored
from ..data.facts import read_facts
from ..data.portraits import Portraits
from ..data.renditions import RENDITIONS
from ..data.vision_crops import augmented, to_tensor
from ..loop import Stage, StepRandom
from ..models.clip import PatchDecoder, make_clip, normalize_pixels
from ..parts import write_image_encoder, write_text_encoder
from ..tokenizer import encode_prompts, load_tokenizer, shortened, train_tokenizer

RENDITION_SHARE = 0.15
IDENTITY_PAIRS = 0.5
"""Share of the weight that pulls two photos of one person together, beside image and caption."""


def caption_corpus(portraits: Portraits, count: int = 40_000) -> list[str]:
    """Captions of training photos, the same every time."""
    random = np.random.default_rng(0)
    facts = read_facts(portraits.records)
    corpus = []
    for row in random.choice(portraits.train, count):
        rendition = RENDITIONS[int(random.integers(len(RENDITIONS)))] if random.random() < 0.2 else None
        corpus.append(caption(facts[row], random, rendition))
    return corpus


def open_tokenizer(run: Path, config: ClipConfig, portraits: Portraits) -> CLIPTokenizer:
    """The run's tokenizer, trained on first use."""
    folder = run / "parts" / "tokenizer"
    if not (folder / "tokenizer.json").exists():
        train_tokenizer(caption_corpus(portraits), config.merges, config.max_length).save_pretrained(str(folder))
    return load_tokenizer(folder)


class ContrastAndPixels(nn.Module):
    """Both encoders, and the map that tells pixels from patch features if the configuration wants it."""

    def __init__(self, clip: CLIPModel, config: ClipConfig) -> None:
        """Freezes one of the encoders if the configuration says so."""
        super().__init__()
        self.clip = clip
        self.first_text: CLIPTextModel | None = None
        self.decoder = PatchDecoder(config.vision_width, config.patch_size) if config.reconstruction_weight else None
        clip.text_model.requires_grad_(not config.freeze_text)
        clip.vision_model.requires_grad_(not config.freeze_image)

    def forward(self, input_ids: Tensor, pixels: Tensor) -> tuple[CLIPOutput, Tensor | None]:
        """CLIP's output for token ids [b, L] and normalised pixels [n, 3, s, s], and the pixels decoded from f_v."""
        output = self.clip(input_ids=input_ids, pixel_values=pixels)
        if self.decoder is None:
            return output, None
        return output, self.decoder(output.vision_model_output.last_hidden_state[:, 1:])


class ClipStage(Stage):
    """Contrastive training of both encoders: image with caption, and image with another photo of the person."""

    name = "clip"

    def __init__(self, config: ClipConfig, portraits: Portraits, tokenizer: CLIPTokenizer) -> None:
        """Makes both encoders with random weights."""
        torch.manual_seed(config.loop.seed)
        self.config = config
        self.portraits = portraits
        self.tokenizer = tokenizer
        self.facts = read_facts(portraits.records)
        self.module = ContrastAndPixels(make_clip(config, tokenizer), config)
        self.identity = np.unique([record.identity for record in portraits.records], return_inverse=True)[1]
        order = np.argsort(self.identity, kind="stable")
        self.by_identity = {
            self.identity[group[0]]: group
            for group in np.split(order, np.flatnonzero(np.diff(self.identity[order])) + 1)
        }

    def hold_text(self, text_encoder: CLIPTextModel) -> None:
        """What the text encoder's states may not leave far (`drift_weight`): those of `text_encoder`, frozen.

        In the module, for a checkpoint must bring it back: a run's parts change.
        """
        self.module.first_text = text_encoder.requires_grad_(False)

    def drift(self, states: Tensor, input_ids: Tensor) -> Tensor:
        """Mean square by which text states [b, L, d_t] left those the encoder began with, beside their variance."""
        assert self.module.first_text is not None
        with torch.no_grad():
            first = self.module.first_text(input_ids=input_ids).last_hidden_state.float()
        return (states.float() - first).square().mean() / first.var()

    def picture(self, row: int, random: np.random.Generator) -> tuple[np.ndarray, bool, str | None]:
        """An augmented crop of a photo or its rendition, whether it is flipped, and which rendition it is."""
        drawn, flipped = random.random() < RENDITION_SHARE, random.random() < 0.5
        source = self.portraits.renditions if drawn else self.portraits.photos
        image = np.ascontiguousarray(source[row][:, :: -1 if flipped else 1])
        rendition = RENDITIONS[self.portraits.rendition_class[row]] if drawn else None
        return augmented(image, self.config.image_size, random), flipped, rendition

    def loss(
        self, module: nn.Module, random: StepRandom, step: int, drawn: None = None
    ) -> tuple[Tensor, dict[str, Tensor | float]]:
        """See `Stage.loss`: symmetric InfoNCE of images and captions, and of images and the person's other photos."""
        draw = random.numpy
        rows = draw.choice(self.portraits.train, self.config.loop.batch_size, replace=False)
        images, captions, others = [], [], []
        for row in rows:
            image, flipped, rendition = self.picture(row, draw)
            facts = self.facts[row]
            images.append(image)
            words = caption(mirrored(facts) if flipped else facts, draw, rendition)
            captions.append(shortened(self.tokenizer, words))
        # Pairs of photos teach the image encoder alone.
        for row in [] if self.config.freeze_image else rows[: len(rows) // 3]:
            others.append(self.picture(draw.choice(self.by_identity[self.identity[row]]), draw)[0])
        pixels = normalize_pixels(to_tensor(images + others).to(self.device))
        ids = encode_prompts(self.tokenizer, captions).to(self.device)
        output, decoded = module(ids, pixels)
        scale = self.module.clip.logit_scale.exp()
        image_side = output.image_embeds.float()
        logits = output.logits_per_image[: len(rows)].float()
        # Equal captions are equally right.
        same = torch.tensor([[float(a == b) for b in captions] for a in captions], device=self.device)
        target = same / same.sum(1, keepdim=True)
        contrast = (functional.cross_entropy(logits, target) + functional.cross_entropy(logits.T, target)) / 2
        right = (same.gather(1, logits.argmax(1, keepdim=True)) > 0).float().mean()
        loss, scalars = contrast, {}
        if others:
            first, second = image_side[: len(others)], image_side[len(rows) :]
            identity = torch.tensor(self.identity[rows[: len(others)]], device=self.device)
            pair_target = (identity[:, None] == identity[None]).float()
            pair_target = pair_target / pair_target.sum(1, keepdim=True)
            pairs = functional.cross_entropy(scale * first @ second.T, pair_target)
            loss = loss + IDENTITY_PAIRS * pairs
            scalars["pairs"] = pairs.detach()
        if self.config.drift_weight:
            drift = self.drift(output.text_model_output.last_hidden_state, ids)
            loss = loss + self.config.drift_weight * drift
            scalars["drift"] = drift.detach()
        if decoded is not None:
            reconstruction = (decoded.float() - pixels).square().mean()
            loss = loss + self.config.reconstruction_weight * reconstruction
            scalars["reconstruction"] = reconstruction.detach()
        return loss, {
            **scalars,
            "contrast": contrast.detach(),
            "top1": right,
            "scale": scale.detach(),
        }

    def write_parts(self, root: Path) -> None:
        """See `Stage.write_parts`: both encoders; the projections serve training alone and stay in the checkpoint."""
        write_image_encoder(root, self.module.clip.vision_model)
        write_text_encoder(root, self.module.clip.text_model)
        self.tokenizer.save_pretrained(str(root / "tokenizer"))
