"""Stage 5, after the paper's: the decoder learns to make photos of what the model draws, and not only of what the
encoder says.

A UNet of this size leaves eyes uneven, skin blotched and hair in clumps, and does so everywhere in the same way. The
autoencoder's decoder has only ever seen latents of photos and shows every one of these faithfully. Here it sees latents
that the model has drawn over noised photos (`redrawn.py`), with the photo for an answer and discriminators for what the
photo cannot say, as networks that restore faces are trained (GFPGAN, Wang et al. 2021). Latents, UNet and what an image
costs stay what they are.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from ..config import DecoderConfig
from ..data.latents import Latents
from ..data.portraits import Portraits
from ..data.renditions import RENDITIONS
from ..data.templates import portrait_template
from ..data.vision_crops import to_tensor
from ..faces.recognizer import TEMPLATE, FaceRecognizer
from ..loop import Stage, StepRandom, mean_or_zero, mean_over_processes
from ..models.autoencoder import Autoencoder, decode
from ..models.face_discriminator import STAGES_SEEN, FaceDiscriminator
from ..models.face_warp import FaceWarp
from ..models.latent_discriminator import looks_drawn, told_apart
from ..models.second_recognizer import SecondRecognizer
from ..noise_schedule import Diffusion
from ..parts import write_vae
from ..redrawn import Redrawn, drawn_rows
from ..sampling import in_chunks, pictures_at_once, to_pictures
from .autoencoder import colour_differences, face_mask, feature_distance, feature_mask
from .spectrum import spectrum_excess, texture_difference

LEAST_WINDOW = 0.4
"""Side of the smallest window that is looked at, over the portrait's."""

EYES_WINDOW = 1.6
"""Side of the window around both eyes, in their distances."""

OIL_PAINTING = 1 + RENDITIONS.index("oil_painting")
"""Its kind in `DrawnLatents`."""


class DrawnLatents(NamedTuple):
    """What a step takes from the data, b rows of it.

    Attributes:
        latents: [b, c, h, w].
        photos: [b, s, s, 3] uint8, what they are to show.
        timesteps: [b] int64, where their redrawing began; 0 of those that the encoder made.
        kinds: [b] int64, 0 of photos and 1 + an index into `RENDITIONS` of renditions.
    """

    latents: Tensor
    photos: Tensor
    timesteps: Tensor
    kinds: Tensor

    def to(self, device: torch.device) -> DrawnLatents:
        """The same on a device."""
        return DrawnLatents(*(one.to(device, non_blocking=True) for one in self))


def mean_of(values: Tensor, which: Tensor) -> Tensor:
    """The mean of those of [n] values that a [n] bool mask names; 0 of none."""
    return torch.where(which, values, 0.0).sum() / which.sum().clamp_min(1)


class Decoding(nn.Module):
    """The decoder's pass as its training needs it; of the autoencoder only the decoder takes gradients."""

    def __init__(self, vae: Autoencoder) -> None:
        """Freezes all else."""
        super().__init__()
        self.vae = vae.requires_grad_(False)
        vae.decoder.requires_grad_(True)

    def forward(self, latents: Tensor) -> Tensor:
        """Latents [b, c, h, w] to RGB [b, 3, s, s] around [0, 1]."""
        return decode(self.vae, latents)


class DecoderStage(Stage):
    """Pixels, colours and a recogniser's features of the photo, who a second recogniser says it shows, and three
    discriminators' opinions.

    One discriminator sees faces as the recogniser does, one sees windows of the whole portrait at several scales, one
    sees both eyes (GFPGAN's facial component loss, Wang et al. 2021), all through the recogniser's first stages
    (projected GANs, Sauer et al. 2021). They are told which rendition it is, if one: without, they make photos of
    cartoons and of oil paintings.
    """

    name = "decoder"

    def __init__(
        self,
        config: DecoderConfig,
        vae: Autoencoder,
        portraits: Portraits,
        latents: Latents,
        redrawn: Redrawn,
        diffusion: Diffusion,
        recognizer: FaceRecognizer,
        second: SecondRecognizer | None = None,
    ) -> None:
        """Makes the discriminators.

        Args:
            config: weights of the losses.
            vae: whose decoder trains.
            portraits: photos and renditions.
            latents: theirs, as the encoder makes them.
            redrawn: as the model makes them.
            diffusion: tells how much of a photo was visible where its redrawing began.
            recognizer: frozen.
            second: another, frozen; None where none looks.
        """
        torch.manual_seed(config.loop.seed)
        self.config, self.portraits, self.latents, self.redrawn = config, portraits, latents, redrawn
        self.diffusion = diffusion
        painted = (redrawn.variants == 2) & (portraits.rendition_class[redrawn.rows] == OIL_PAINTING - 1)
        often = np.where(painted, config.oil_paintings, 1.0)
        self.often = often / often.sum()
        self.module = Decoding(vae).to(memory_format=torch.channels_last)
        self.recognizer = recognizer.to(memory_format=torch.channels_last)
        self.second = second
        self.warp = FaceWarp(portrait_template(portraits.size), TEMPLATE, recognizer.input_size)
        face, features = face_mask(portraits.size), feature_mask(portraits.size)
        self.weight = 1 + (config.face_weight - 1) * face + config.eyes_and_mouth_weight * features
        self.discriminators = nn.ModuleDict(
            {name: FaceDiscriminator(1 + len(RENDITIONS)) for name in ("face", "window", "eyes")}
        )
        self.optimizer = torch.optim.AdamW(
            self.discriminators.parameters(), lr=config.adversarial_learning_rate, betas=(0.5, 0.99)
        )
        self.seen: dict[str, tuple[list[Tensor], list[Tensor], Tensor]] = {}

    def frozen(self) -> list[nn.Module]:
        """See `Stage.frozen`."""
        return [self.recognizer, self.discriminators, *([] if self.second is None else [self.second])]

    def kept(self) -> list[Any]:
        """See `Stage.kept`."""
        return [self.discriminators, self.optimizer]

    def place(self, device: torch.device) -> None:
        """See `Stage.place`."""
        super().place(device)
        self.weight = self.weight.to(device)

    def batch(self, random: StepRandom) -> DrawnLatents:
        """Mostly redrawn latents, and some as the encoder makes them, of photos and renditions.

        Not `Stage.draw`, which processes of their own may run: they could not encode on a GPU.
        """
        draw, redrawn, count = random.numpy, self.redrawn, self.config.loop.batch_size
        encoded = int(round(self.config.encoded_share * count))
        chosen = draw.choice(len(redrawn.rows), count - encoded, p=self.often)
        rows, variants = drawn_rows(draw, self.portraits, encoded)
        drawn = torch.from_numpy(redrawn.latents[chosen].astype(np.float32))
        all_rows = np.concatenate([redrawn.rows[chosen], rows])
        all_variants = np.concatenate([redrawn.variants[chosen], variants])
        return DrawnLatents(
            latents=torch.cat([drawn, self.latents(rows, variants)]),
            photos=torch.from_numpy(self.latents.pictures(all_rows, all_variants)),
            timesteps=torch.from_numpy(np.concatenate([redrawn.timesteps[chosen], np.zeros(encoded, np.int64)])),
            kinds=torch.from_numpy(np.where(all_variants == 2, 1 + self.portraits.rendition_class[all_rows], 0)),
        )

    def loss(
        self, module: nn.Module, random: StepRandom, step: int, drawn: DrawnLatents | None = None
    ) -> tuple[Tensor, dict[str, Tensor | float]]:
        """See `Stage.loss`."""
        config = self.config
        batch = (drawn or self.batch(random)).to(self.device)
        photos = to_tensor(batch.photos).contiguous(memory_format=torch.channels_last)
        decoded = module(batch.latents.contiguous(memory_format=torch.channels_last)).float()
        # The less of the photo was visible, the less of it can be asked for.
        visible = self.diffusion.visible(batch.timesteps)
        pixel = ((decoded - photos).abs() * self.weight).mean((1, 2, 3))
        colour = (colour_differences(decoded) - colour_differences(photos)).abs().mean((1, 2, 3))
        loss = (visible * (config.pixel_weight * pixel + config.colour_weight * colour)).mean()
        painted, shot = batch.kinds == OIL_PAINTING, batch.kinds == 0
        woven = spectrum_excess(decoded, photos, shot) + spectrum_excess(decoded, photos, painted)
        # What the model draws has no brushwork, whose place nothing tells: as much is asked for as the filter paints,
        # and none of it in photos.
        lack, surplus = texture_difference(decoded, photos)
        texture = mean_of(lack + surplus, painted) + mean_of(visible * surplus, shot)
        loss = loss + config.spectrum_weight * woven + config.brushwork_weight * texture
        looks = {
            "face": self.warp.jittered(random.torch, len(photos), 1.0),
            "window": self.window(random),
            "eyes": self.eyes(random),
        }
        scalars: dict[str, Tensor | float] = {
            "pixel": mean_or_zero(pixel, batch.timesteps > 0),
            "pixel_encoded": mean_or_zero(pixel, batch.timesteps == 0),
            "woven": woven.detach(),
            "texture": texture.detach(),
        }
        for name, look in looks.items():
            features = self.recognizer.features(look(decoded.clamp(-0.1, 1.1)))
            with torch.no_grad():
                real = self.recognizer.features(look(photos))
            feature = feature_distance(features, real)
            loss = loss + config.feature_weight * (visible * feature).mean()
            scalars[f"{name}_feature"] = mean_or_zero(feature, batch.timesteps > 0)
            if name == "face":
                cosine = (self.recognizer.embed(features) * self.recognizer.embed(real)).sum(1)
                loss = loss + config.identity_weight * (visible * (1 - cosine)).mean()
                scalars["cosine"] = mean_or_zero(cosine, batch.timesteps > 0)
            discriminator = self.discriminators[name]
            shown = features[:STAGES_SEEN]
            self.seen[name] = (
                [one.detach() for one in shown],
                [one.detach() for one in real[:STAGES_SEEN]],
                batch.kinds,
            )
            scores = discriminator(shown, batch.kinds)
            adversarial = looks_drawn(scores)
            if step >= config.adversarial_after:
                loss = loss + config.adversarial_weight * adversarial
            taken = torch.stack([(one > 0).float().mean() for one in scores]).mean()
            scalars |= {f"{name}_adversarial": adversarial.detach(), f"{name}_taken_for_real": taken.detach()}
        if self.second is not None:
            with torch.no_grad():
                shown = self.second.embed(photos)
            cosine = self.second(decoded.clamp(0, 1), shown, random, 1.0)
            loss = loss + config.second_identity_weight * (visible * (1 - cosine)).mean()
            scalars["second_cosine"] = mean_or_zero(cosine, batch.timesteps > 0)
        return loss, scalars

    def window(self, random: StepRandom) -> Callable[[Tensor], Tensor]:
        """A way to look at portraits: a window of a side and at a place drawn by chance, as large as R wants it."""
        size = self.portraits.size
        side = int(size * (LEAST_WINDOW + (1 - LEAST_WINDOW) * random.numpy.random()))
        x, y = (int(random.numpy.integers(0, size - side + 1)) for _ in range(2))
        return self._look_into(x, y, side)

    def eyes(self, random: StepRandom) -> Callable[[Tensor], Tensor]:
        """The same of a window around both eyes; its side and its place vary by a tenth of their distance."""
        size = self.portraits.size
        right, left = portrait_template(size)[:2]
        distance = float(np.hypot(*(left - right)))
        side = int(distance * (EYES_WINDOW + 0.1 * random.numpy.standard_normal()))
        middle = (right + left) / 2 + 0.1 * distance * random.numpy.standard_normal(2)
        x, y = (int(np.clip(place - side / 2, 0, size - side)) for place in middle)
        return self._look_into(x, y, side)

    def _look_into(self, x: int, y: int, side: int) -> Callable[[Tensor], Tensor]:
        wanted = self.recognizer.input_size

        def look(images: Tensor) -> Tensor:
            window = images[..., y : y + side, x : x + side]
            return functional.interpolate(window, size=(wanted, wanted), mode="bilinear", align_corners=False)

        return look

    def after_step(self, random: StepRandom, step: int) -> dict[str, Tensor | float]:
        """See `Stage.after_step`: the discriminators' turn, with what the step drew."""
        losses: dict[str, Tensor | float] = {}
        for name, (drawn, real, kinds) in self.seen.items():
            network = self.discriminators[name]
            loss = told_apart(network(drawn, kinds), network(real, kinds))
            heads = list(network.parameters())
            gradients = torch.autograd.grad(loss, heads)
            mean_over_processes(gradients)
            for parameter, gradient in zip(heads, gradients, strict=True):
                parameter.grad = gradient
            losses[f"{name}_discriminator"] = loss.detach()
        self.seen = {}
        self.optimizer.step()
        return losses

    def write_parts(self, root: Path) -> None:
        """See `Stage.write_parts`; encoder and scaling factor stay as they are."""
        write_vae(root, self.module.vae)

    def sample(self, step: int) -> np.ndarray:
        """Photos above what is decoded of their redrawn latents."""
        chosen = np.linspace(0, len(self.redrawn.rows) - 1, 12).astype(int)
        photos = self.latents.pictures(self.redrawn.rows[chosen], self.redrawn.variants[chosen])
        latents = torch.from_numpy(self.redrawn.latents[chosen].astype(np.float32)).to(self.device)
        at_once = pictures_at_once(self.portraits.size)
        pictures = to_pictures(in_chunks(lambda some: decode(self.module.vae, some), at_once, latents))
        return np.concatenate([np.concatenate(list(row), axis=1) for row in (photos, pictures)], axis=0)
