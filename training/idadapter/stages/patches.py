"""An image encoder's patches learn to tell what an adapter needs to draw them again; optional, between the stages."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from transformers import CLIPVisionModel

from ..config import PatchesConfig
from ..data.latents import Latents
from ..data.portraits import Portraits
from ..data.vision_crops import crop, to_tensor
from ..loop import Stage, StepRandom
from ..models.clip import PatchDecoder, image_features
from ..models.mixed_features import MixedFeatures
from ..parts import write_image_encoder


class Mixed(NamedTuple):
    """What is made of pictures, each alone, of nobody known.

    Attributes:
        tokens: of E_r, the patches' [n, P, d_r].
        embedding: E_c [n, d_t].
    """

    tokens: Tensor
    embedding: Tensor


class EncoderAndDecoder(nn.Module):
    """The image encoder, the run's frozen MFF behind it, and one linear map that tells latents from a token of E_r.

    What the encoder was at first is kept beside it, for a checkpoint must bring it back: a run's parts change.
    """

    def __init__(self, encoder: CLIPVisionModel, mixed_features: MixedFeatures, decoder: PatchDecoder) -> None:
        """Freezes MFF and a copy of the encoder."""
        super().__init__()
        self.first = CLIPVisionModel(encoder.config)
        self.first.load_state_dict(encoder.state_dict())
        self.first.requires_grad_(False)
        self.encoder, self.decoder = encoder.requires_grad_(True), decoder
        self.mixed_features = mixed_features.requires_grad_(False)

    def mixed(self, encoder: CLIPVisionModel, crops: Tensor) -> Mixed:
        """What MFF makes of an encoder's features of crops, RGB [n, 3, s, s] in [0, 1]."""
        patches, classes = image_features(encoder, crops)
        nobody = patches.new_zeros(len(patches), 1, self.mixed_features.config["face_width"])
        tokens, embedding = self.mixed_features(patches[:, None], classes[:, None], nobody)
        return Mixed(tokens[:, self.mixed_features.face_tokens :], embedding)

    def forward(self, crops: Tensor) -> tuple[Mixed, Tensor]:
        """Crops, RGB [n, 3, s, s] in [0, 1], to what is mixed of them and the latents that it tells [n, c, h, w]."""
        mixed = self.mixed(self.encoder, crops)
        return mixed, self.decoder(mixed.tokens).float()


class PatchesStage(Stage):
    """Trains the image encoder alone: every token of E_r is to tell its own patch's latents.

    An adapter's heads look at the place they draw (`prefer_nearby`), so what a token does not tell of its own place is
    hardly used, however much its neighbours tell of it. MFF stays, and E_r and E_c stay near what they were, so that
    adapters that have learned to read them still can.
    """

    name = "patches"

    def __init__(
        self,
        config: PatchesConfig,
        encoder: CLIPVisionModel,
        mixed_features: MixedFeatures,
        portraits: Portraits,
        latents: Latents,
    ) -> None:
        """Begins the map with the least squares for some training photos."""
        self.config, self.portraits, self.latents = config, portraits, latents
        rows = portraits.train[:: max(1, len(portraits.train) // config.fitted)][: config.fitted]
        wanted = latents(rows, np.zeros(len(rows), int))
        self.size = encoder.config.image_size
        places = wanted.shape[-1] * encoder.config.patch_size // self.size
        decoder = PatchDecoder(mixed_features.config["width"], places, wanted.shape[1])
        self.module = EncoderAndDecoder(encoder, mixed_features, decoder)
        with torch.no_grad():
            crops = to_tensor(self.crops(rows, np.zeros(len(rows), int)))
            decoder.fit(self.module.mixed(encoder, crops).tokens, wanted)

    def frozen(self) -> list[nn.Module]:
        """See `Stage.frozen`."""
        return [self.latents.vae]

    def place(self, device: torch.device) -> None:
        """See `Stage.place`."""
        super().place(device)
        if device.type == "cpu":
            for encoder in (self.module.encoder, self.module.first):
                encoder.set_attn_implementation("eager")

    def crops(self, rows: np.ndarray, variants: np.ndarray) -> Tensor:
        """What the image encoder sees of photos, mirrored photos or renditions (`data.latents.VARIANTS`).

        Returns:
            [b, s, s, 3] uint8.
        """
        pictures = [crop(picture, self.size) for picture in self.latents.pictures(rows, variants)]
        return torch.from_numpy(np.stack(pictures))

    def draw(self, random: StepRandom, step: int) -> tuple[np.ndarray, np.ndarray, Tensor]:
        """See `Stage.draw`: which portraits, in which variant, and their crops."""
        draw = random.numpy
        rows = draw.choice(self.portraits.train, self.config.loop.batch_size, replace=False)
        drawn = draw.random(len(rows)) < self.config.rendition_share
        variants = np.where(drawn, 2, (draw.random(len(rows)) < 0.5).astype(int))
        return rows, variants, self.crops(rows, variants)

    def loss(
        self,
        module: nn.Module,
        random: StepRandom,
        step: int,
        drawn: tuple[np.ndarray, np.ndarray, Tensor] | None = None,
    ) -> tuple[Tensor, dict[str, Tensor | float]]:
        """See `Stage.loss`: what latents the tokens leave untold, and how far they have left what they were."""
        config = self.config
        rows, variants, crops = drawn or self.draw(random, step)
        wanted = self.latents(rows, variants).to(self.device, non_blocking=True)
        crops = to_tensor(crops, self.device)
        mixed, told = module(crops)
        with torch.no_grad():
            first = self.module.mixed(self.module.first, crops)
        untold = (told - wanted).square().mean() / wanted.var()
        drift = sum((now.float() - then).square().mean() / then.var() for now, then in zip(mixed, first, strict=True))
        return untold + config.drift_weight * drift, {
            "untold": untold.detach(),
            "drift": drift.detach(),
        }

    def write_parts(self, root: Path) -> None:
        """See `Stage.write_parts`: the image encoder; the map serves training alone and stays in the checkpoint."""
        write_image_encoder(root, self.module.encoder)
