"""Stage 1: the autoencoder, whose sharpness bounds every portrait made through it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from ..config import AutoencoderConfig
from ..data.portraits import Portraits
from ..data.templates import PORTRAIT_SIZE, portrait_template
from ..data.vision_crops import to_tensor
from ..faces.recognizer import TEMPLATE as RECOGNIZER_TEMPLATE
from ..faces.recognizer import FaceRecognizer
from ..loop import Stage, StepRandom
from ..models.autoencoder import Autoencoder, compression, decode, encode, make_autoencoder, side_state, start_from
from ..models.face_warp import FaceWarp
from ..parts import write_vae
from ..sampling import in_chunks, pictures_at_once, to_pictures

RENDITION_SHARE = 0.15
"""How many of the training pictures are art renditions."""


def face_mask(size: int = PORTRAIT_SIZE) -> Tensor:
    """1 on the face's ellipse of an aligned portrait, falling smoothly to 0 outside: [1, 1, size, size]."""
    template = portrait_template(size)
    eyes, mouth = template[:2].mean(0), template[3:].mean(0)
    middle = eyes + 0.55 * (mouth - eyes)
    v, u = np.mgrid[0:size, 0:size]
    radius = np.hypot((u - middle[0]) / (0.30 * size), (v - middle[1]) / (0.38 * size))
    return torch.tensor(1 / (1 + np.exp((radius - 1) * 8)), dtype=torch.float32)[None, None]


def feature_mask(size: int = PORTRAIT_SIZE) -> Tensor:
    """1 at both eyes and along the mouth of an aligned portrait, falling smoothly to 0 around: [1, 1, size, size]."""
    template = portrait_template(size)
    right_eye, left_eye, _, right_corner, left_corner = template
    places = [right_eye, left_eye, right_corner, (right_corner + left_corner) / 2, left_corner]
    v, u = np.mgrid[0:size, 0:size]
    bumps = [np.exp(-0.5 * ((u - x) ** 2 + (v - y) ** 2) / (0.065 * size) ** 2) for x, y in places]
    return torch.tensor(np.max(bumps, axis=0), dtype=torch.float32)[None, None]


def gradient_loss(images: Tensor, targets: Tensor, weight: Tensor) -> Tensor:
    """Mean absolute difference of horizontal and vertical differences at three scales, weighted a pixel."""
    total = images.new_zeros(())
    for _ in range(3):
        for dim in (-1, -2):
            difference = torch.diff(images, dim=dim) - torch.diff(targets, dim=dim)
            total = total + (difference.abs() * weight.narrow(dim, 0, difference.shape[dim])).mean()
        images, targets, weight = (functional.avg_pool2d(x, 2) for x in (images, targets, weight))
    return total


def smoothness_loss(coarse: Tensor, images: Tensor, factor: int) -> Tensor:
    """Latents averaged over blocks must decode to the picture blurred as much.

    Without it nothing keeps neighbouring latents alike: all scales of the picture end up equally strong, and a
    diffusion model cannot go from coarse to fine (after "Improving the Diffusability of Autoencoders", Skorokhodov et
    al. 2025).

    Args:
        coarse: [k, 3, h, w] decoded from averaged latents.
        images: [b, 3, h, w], of which the first k count.
        factor: side of the blocks.
    """
    blurred = functional.avg_pool2d(images[: len(coarse)], factor)
    return (coarse - functional.interpolate(blurred, size=coarse.shape[-2:], mode="bilinear")).abs().mean()


def detail_share(latents: Tensor) -> Tensor:
    """Share of the latents' variance that averaging over 2 x 2 blocks removes: 0.75 of white noise, 0.1 of photos.

    What is small in amplitude drowns first when noise is added, so a latent space whose fine structure is small lets a
    diffusion model go from coarse to fine, as it does on pixels.

    Args:
        latents: [b, c, h, w], h and w even.
    """
    coarse = functional.interpolate(functional.avg_pool2d(latents, 2), scale_factor=2, mode="nearest")
    centred = latents - latents.mean((0, 2, 3), keepdim=True)
    return ((latents - coarse).square().mean((0, 2, 3)) / centred.square().mean((0, 2, 3)).clamp_min(1e-6)).mean()


def colour_differences(images: Tensor, factor: int = 4) -> Tensor:
    """Red against blue, and green against both, of pictures averaged over blocks: [b, 2, h / factor, w / factor].

    What tells yellow from orange and green from brown is a twentieth of a photo's contrast, so an autoencoder that is
    asked for pixels alone gives it up first (docs/training_log.md, seventh session).

    Args:
        images: [b, 3, h, w].
        factor: side of the blocks.
    """
    red, green, blue = functional.avg_pool2d(images, factor).unbind(1)
    return torch.stack([red - blue, green - (red + blue) / 2], dim=1)


def feature_distance(features: list[Tensor], targets: list[Tensor]) -> Tensor:
    """How far a network's features are from others, unit length over channels at each place (LPIPS, Zhang et al. 2018).

    Args:
        features: a layer each, [b, c, h, w].
        targets: of the same shapes.

    Returns:
        [b], squared distances averaged over places and layers.
    """
    distances = []
    for a, b in zip(features, targets, strict=True):
        a, b = functional.normalize(a.float(), dim=1), functional.normalize(b.float(), dim=1)
        distances.append((a - b).square().sum(1).mean((1, 2)))
    return torch.stack(distances).mean(0)


class Reconstruction(nn.Module):
    """One pass of the autoencoder as its training needs it."""

    def __init__(self, vae: Autoencoder) -> None:
        """Wraps the autoencoder."""
        super().__init__()
        self.vae = vae

    def forward(self, images: Tensor, noise: Tensor, factor: int | None) -> tuple[Tensor, Tensor, Tensor | None]:
        """Encodes and decodes.

        Args:
            images: [b, 3, h, w] in [0, 1].
            noise: [b, c, h/f, w/f], added to the latents before decoding.
            factor: the first half's latents are also decoded after averaging over blocks of this side; None for not.

        Returns:
            latents [b, c, h/f, w/f], pictures [b, 3, h, w], and pictures of the averaged latents [b/2, 3, h, w].
        """
        latents = encode(self.vae, images)
        if factor is None:
            return latents, decode(self.vae, latents + noise), None
        coarse = functional.avg_pool2d(latents[: len(latents) // 2], factor)
        coarse = functional.interpolate(coarse, size=latents.shape[-2:], mode="bilinear")
        return latents, decode(self.vae, latents + noise), decode(self.vae, coarse)


class AutoencoderStage(Stage):
    """Reconstruction of windows of portraits: pixels, gradients, a recogniser's features and its embedding."""

    name = "autoencoder"

    def __init__(self, config: AutoencoderConfig, portraits: Portraits, recognizer: FaceRecognizer) -> None:
        """Makes the network.

        Args:
            config: shape and loss weights.
            portraits: what to reconstruct.
            recognizer: frozen; its features and embedding judge the faces.
        """
        torch.manual_seed(config.loop.seed)
        self.config = config
        self.portraits = portraits
        self.module = Reconstruction(make_autoencoder(config)).to(memory_format=torch.channels_last)
        self.recognizer = recognizer.to(memory_format=torch.channels_last)
        self.warp = FaceWarp(portrait_template(portraits.size), RECOGNIZER_TEMPLATE, recognizer.input_size)
        self.weight = 1 + (config.face_weight - 1) * face_mask(portraits.size)
        self.scaling_factor: float | None = None

    def start_from(self, trained: Autoencoder) -> None:
        """Begins with a trained autoencoder's weights (see `models.autoencoder.start_from`).

        One channel more than it has becomes a channel for the colour it has lost (`fit_colour_channel`).

        Raises:
            ValueError: another kind, a level that differs, or with `freeze_encoder` another shape of encoder.
        """
        vae = self.module.vae
        start_from(vae, trained)
        more = vae.config.latent_channels - trained.config.latent_channels
        if more == 1:
            self.fit_colour_channel()
        if not self.config.freeze_encoder:
            return
        kept = side_state(trained, "encoder")[0]
        if more not in (0, 1) or any(
            name not in kept or kept[name].shape[1:] != x.shape[1:] or not torch.equal(kept[name], x[: len(kept[name])])
            for name, x in side_state(vae, "encoder")[0].items()
        ):
            raise ValueError(
                "freeze_encoder keeps the run's encoder, but the configuration's is of another shape: give it the "
                "run's latent_channels, encoder_channels and encoder_layers, or leave freeze_encoder out"
            )
        # Stable Diffusion's has a convolution beside it that latents come out of.
        for layers in filter(None, (vae.encoder, getattr(vae, "quant_conv", None))):
            layers.requires_grad_(False)
        self.scaling_factor = trained.config.scaling_factor

    @torch.no_grad()
    def fit_colour_channel(self, photos: int = 256) -> None:
        """Has the last latent channel tell green against red and blue, as far as the encoder's last level does.

        That level knows 0.95 of green's variance and the eight latent channels 0.12, which no loss changed in 50 steps:
        a decoder does not look for what no latent holds, and an encoder gets no gradient for what no decoder looks for.
        The channel is the least squares solution, of the other channels' scale.
        """
        vae, level = self.module.vae, []
        keep = vae.encoder.conv_out.register_forward_pre_hook(lambda _, inputs: level.append(inputs[0]))
        rows = self.portraits.train[:: max(1, len(self.portraits.train) // photos)]
        images = to_tensor(np.ascontiguousarray(self.portraits.photos[rows]))
        latents = torch.cat([encode(vae, part)[:, :-1] for part in images.split(32)])
        keep.remove()
        green = colour_differences(images, compression(vae))[:, 1:]
        known, wanted = (x.transpose(0, 1).flatten(1).T.double() for x in (torch.cat(level), green))
        known = torch.cat([known, torch.ones_like(known[:, :1])], dim=1)
        wanted = (wanted - wanted.mean()) / wanted.std() * latents.std()
        solution = torch.linalg.lstsq(known, wanted).solution[:, 0]
        last = vae.encoder.conv_out
        last.weight[-1] = 0
        last.weight[-1, :, last.kernel_size[0] // 2, last.kernel_size[1] // 2] = solution[:-1].to(last.weight)
        last.bias[-1] = solution[-1]

    def frozen(self) -> list[nn.Module]:
        """See `Stage.frozen`."""
        return [self.recognizer]

    def batch(self, random: StepRandom) -> tuple[Tensor, tuple[int, int]]:
        """Windows [b, 3, w, w] of training portraits in [0, 1], and the window's x and y, one for the batch."""
        size, window = self.config.loop.batch_size, self.config.window
        rows = random.numpy.choice(self.portraits.train, size)
        drawn = random.numpy.random(size) < RENDITION_SHARE
        flipped = random.numpy.random(size) < 0.5
        room = self.portraits.size - window
        # Half of the windows lie on the face, the rest anywhere.
        near = random.numpy.random() < 0.5
        x = int(random.numpy.integers(room // 4, 3 * room // 4 + 1) if near else random.numpy.integers(0, room + 1))
        y = int(random.numpy.integers(room // 2, room + 1) if near else random.numpy.integers(0, room + 1))
        pictures = [
            (self.portraits.renditions if d else self.portraits.photos)[row][:, :: -1 if f else 1]
            for row, d, f in zip(rows, drawn, flipped, strict=True)
        ]
        images = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).float() / 255
        return images[..., y : y + window, x : x + window], (x, y)

    def loss(
        self, module: nn.Module, random: StepRandom, step: int, drawn: None = None
    ) -> tuple[Tensor, dict[str, Tensor | float]]:
        """See `Stage.loss`."""
        config = self.config
        images, (x, y) = self.batch(random)
        images = images.to(self.device).contiguous(memory_format=torch.channels_last)
        side = config.window // compression(self.module.vae)
        sigma = config.latent_noise * random.uniform(len(images), 1, 1, 1)
        noise = (sigma * random.normal(len(images), config.latent_channels, side, side)).to(self.device)
        factor = int(random.numpy.choice([2, 4])) if config.smoothness_weight else None
        latents, decoded, coarse = module(images, noise, factor)
        decoded, statistics = decoded.float(), latents.float()
        # Holds every channel near mean 0 and deviation 1, so that one scaling factor serves all.
        mean, deviation = statistics.mean((0, 2, 3)), statistics.std((0, 2, 3))
        regularizer = mean.square().mean() + deviation.clamp_min(1e-4).log().square().mean()
        weight = self.weight[..., y : y + config.window, x : x + config.window].to(self.device)
        pixel = ((decoded - images).abs() * weight).mean()
        gradient = gradient_loss(decoded, images, weight)
        feature, identity = self.recognition_loss(decoded, images, (x, y))
        smooth = pixel.new_zeros(()) if coarse is None else smoothness_loss(coarse.float(), images, factor)
        detail = detail_share(statistics)
        colour = (colour_differences(decoded) - colour_differences(images)).abs().mean()
        total = (
            pixel
            + config.gradient_weight * gradient
            + config.feature_weight * feature
            + config.identity_weight * identity
            + config.smoothness_weight * smooth
            + config.detail_weight * detail
            + config.colour_weight * colour
            + 0.05 * regularizer
        )
        with torch.no_grad():
            psnr = -10 * torch.log10((decoded.clamp(0, 1) - images).square().mean((1, 2, 3))).mean()
        return total, {
            "pixel": pixel.detach(),
            "gradient": gradient.detach(),
            "feature": feature.detach(),
            "identity": identity.detach(),
            "smoothness": smooth.detach(),
            "detail": detail.detach(),
            "colour": colour.detach(),
            "regularizer": regularizer.detach(),
            "psnr": psnr,
        }

    def recognition_loss(self, decoded: Tensor, images: Tensor, offset: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """How far the recogniser tells decoded faces from real ones: unit-length features, and 1 - cosine."""
        count = self.config.recognized
        with torch.no_grad():
            real = self.recognizer.features(self.warp(images[:count], offset))
            real_embedding = self.recognizer.embed(real)
        fake = self.recognizer.features(self.warp(decoded[:count], offset))
        feature = feature_distance(fake, real).mean()
        identity = 1 - (self.recognizer.embed(fake) * real_embedding).sum(1).mean()
        return feature, identity

    def sample(self, step: int) -> np.ndarray:
        """Held-out portraits above themselves decoded."""
        rows = self.portraits.held_out[np.linspace(0, len(self.portraits.held_out) - 1, 12).astype(int)]
        photos = self.portraits.photos[rows]
        vae = self.module.vae
        images = torch.from_numpy(photos).permute(0, 3, 1, 2).float() / 255
        at_once = pictures_at_once(self.portraits.size)
        decoded = to_pictures(in_chunks(lambda some: decode(vae, encode(vae, some)), at_once, images.to(self.device)))
        return np.concatenate([np.concatenate(list(row), axis=1) for row in (photos, decoded)], axis=0)

    def write_parts(self, root: Path) -> None:
        """See `Stage.write_parts`; the scaling factor is a kept encoder's own, or brings latents to unit variance."""
        vae = self.module.vae
        vae.register_to_config(scaling_factor=self.scaling_factor or self.measured_scaling_factor())
        write_vae(root, vae)

    @torch.no_grad()
    def measured_scaling_factor(self) -> float:
        """One over the latents' standard deviation over some 512 training portraits."""
        rows = self.portraits.train[:: max(1, len(self.portraits.train) // 512)]
        self.module.vae.register_to_config(scaling_factor=1.0)
        latents = [
            encode(self.module.vae, to_tensor(self.portraits.photos[part]).to(self.device))
            for part in np.array_split(rows, 32)
        ]
        return round(1 / float(torch.cat(latents).std()), 6)
