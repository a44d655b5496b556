"""What tells the stage's rollouts from pictures that show what they are told, and learns to by turns with the model."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from ..config import IdAdapterConfig
from ..data.renditions import RENDITIONS
from ..data.templates import portrait_template
from ..faces.recognizer import FaceRecognizer
from ..loop import StepRandom, mean_or_zero, mean_over_processes
from ..models.decoded_discriminator import STAGES_SEEN, DecodedDiscriminator
from ..models.face_warp import FaceWarp
from ..models.idadapter import IdAdapterModel
from ..models.latent_discriminator import LatentDiscriminator, looks_drawn, told_apart
from ..noise_schedule import Diffusion

Scalars = dict[str, Tensor | float]

LOOKED_AT_UP_TO = 800
"""The most noise, as a timestep, through which latents are seen: what words decide shows that far."""


class ToTellApart(NamedTuple):
    """What a discriminator learns from after a step.

    Attributes:
        drawn: features of rollouts, for each head.
        real: of as many photos.
        share: [b], how much each pair counts; None for all the same.
        kinds: [b], what a discriminator of several kinds is to know; None for others.
        places: maps, how much each place counts, one a head; None for all the same.
    """

    drawn: list[Tensor]
    real: list[Tensor]
    share: Tensor | None = None
    kinds: Tensor | None = None
    places: list[Tensor] | None = None


class Discriminators:
    """Up to three, by the configuration: of latents, of decoded faces, of whole decoded pictures.

    Attributes:
        latent: sees all rollouts' latents behind noise; or None, as the others.
        face: sees what the recogniser sees of rollouts told as photos.
        picture: sees all of every rollout, renditions among themselves.
        recognizer: whose features the last two go by.
    """

    def __init__(
        self,
        config: IdAdapterConfig,
        model: IdAdapterModel,
        recognizer: FaceRecognizer,
        warp: FaceWarp,
        place_weight: Tensor,
        diffusion: Diffusion,
    ) -> None:
        """Makes those that have a weight; none where nothing is rolled out.

        Args:
            config: the stage's.
            model: as it is before the stage trains it.
            recognizer: frozen.
            warp: cuts its faces out of portraits.
            place_weight: [1, 1, s, s], how much each pixel of a portrait counts to the face's.
            diffusion: the stage's.
        """
        self.jitter, self.recognizer, self.diffusion = config.jitter, recognizer, diffusion
        self.latent = self.face = self.picture = self.optimizer = None
        self.places: list[Tensor] = []
        self.seen: dict[str, ToTellApart] = {}
        size = place_weight.shape[-1]
        template = portrait_template(recognizer.input_size)
        self.whole = FaceWarp(portrait_template(size), template, recognizer.input_size)
        if not config.rollout_rows:
            return
        if config.adversarial_weight:
            self.latent = LatentDiscriminator(model.unet, model.text_encoder)
        if config.face_adversarial_weight:
            self.face = DecodedDiscriminator()
            with torch.no_grad():
                maps = self.recognizer.features(warp(place_weight.expand(-1, 3, -1, -1)))[:STAGES_SEEN]
            places = [functional.adaptive_avg_pool2d(warp(place_weight), one.shape[2:])[0, 0] for one in maps]
            self.places = [one / one.mean() for one in places]
        if config.picture_adversarial_weight:
            self.picture = DecodedDiscriminator(1 + len(RENDITIONS))
        if self.networks():
            heads = [parameter for one in self.networks().values() for parameter in one.heads.parameters()]
            self.optimizer = torch.optim.AdamW(heads, lr=config.adversarial_learning_rate, betas=(0.5, 0.99))

    def networks(self) -> dict[str, LatentDiscriminator | DecodedDiscriminator]:
        """Those of this run, by the names of their losses in its log."""
        every = {
            "discriminator": self.latent,
            "face_discriminator": self.face,
            "picture_discriminator": self.picture,
        }
        return {name: one for name, one in every.items() if one is not None}

    def kept(self) -> list[Any]:
        """What a checkpoint holds of them: themselves, as no part of a run is what one looks through, and what trains
        them."""
        return [*self.networks().values(), *filter(None, [self.optimizer])]

    def place(self, device: torch.device) -> None:
        """Moves to a device what no network moves."""
        self.places = [one.to(device) for one in self.places]

    def latent_loss(
        self, clean: Tensor, real: Tensor, timesteps: Tensor, words: Tensor, random: StepRandom
    ) -> tuple[Tensor, Scalars]:
        """What gives rollouts' latents away.

        Args:
            clean: their predicted clean latents [r, c, h, w].
            real: as many of pictures that show what they are told.
            timesteps: [r], of which they are predicted: as much noise, or more, is added before they are looked at.
            words: [r, L] token ids of what they are told.
            random: draws how much, and the noise.

        Returns:
            the loss, and scalars.
        """
        assert self.latent is not None
        share = torch.rand(len(clean), generator=random.torch).to(clean.device, non_blocking=True)
        end = torch.full_like(timesteps, LOOKED_AT_UP_TO)
        seen_at = (timesteps + share * (end - timesteps)).round().long()
        noisy, _, _ = self.diffusion.add_noise(clean, random.normal(*clean.shape, device=clean.device), seen_at)
        noisy_real, _, _ = self.diffusion.add_noise(real, random.normal(*real.shape, device=clean.device), seen_at)
        features = self.latent.features(noisy, seen_at, words)
        with torch.no_grad():
            real_features = self.latent.features(noisy_real, seen_at, words)
        self.seen["discriminator"] = ToTellApart([one.detach() for one in features], real_features)
        scores = self.latent(features)
        with torch.no_grad():
            real_scores = self.latent(real_features)
        loss = looks_drawn(scores)
        found = torch.stack([(one > 0).float().mean() for one in real_scores]).mean()
        fooled = torch.stack([(one > 0).float().mean() for one in scores]).mean()
        return loss, {"adversarial": loss.detach(), "taken_for_real": fooled.detach(), "real_for_real": found}

    def face_loss(self, features: list[Tensor], real: list[Tensor], timesteps: Tensor) -> tuple[Tensor, Scalars]:
        """What gives rollouts' decoded faces away.

        Args:
            features: the recogniser's of them.
            real: of as many decoded photos, seen through the same similarities and blur.
            timesteps: [r], of which they are predicted: the more is visible there, the more a face counts.

        Returns:
            the loss, and scalars.
        """
        assert self.face is not None
        drawn, share = features[:STAGES_SEEN], self.diffusion.visible(timesteps)
        kept = [one.detach() for one in drawn]
        self.seen["face_discriminator"] = ToTellApart(kept, real[:STAGES_SEEN], share, places=self.places)
        scores = self.face(drawn)
        loss = looks_drawn(scores, share, self.places)
        fooled = mean_or_zero(taken_for_real(scores), share > 0.5)
        return loss, {"face_adversarial": loss.detach(), "face_taken_for_real": fooled}

    def picture_loss(
        self, drawn: Tensor, real: Tensor, timesteps: Tensor, kinds: Tensor, random: StepRandom
    ) -> tuple[Tensor, Scalars]:
        """What gives whole decoded rollouts away: hair, background, brushwork.

        Args:
            drawn: decoded predictions, RGB [r, 3, s, s].
            real: decoded photos and renditions, as many.
            timesteps: as `face_loss` takes them.
            kinds: [r] int64, what each is to look like: 0 for a photo, else one more than which of `RENDITIONS`.
            random: draws how both are moved and blurred.

        Returns:
            the loss, and scalars.
        """
        assert self.picture is not None
        look = self.whole.jittered(random.torch, len(drawn), self.jitter)
        features = self.recognizer.features(look(drawn))[:STAGES_SEEN]
        with torch.no_grad():
            real_features = self.recognizer.features(look(real))[:STAGES_SEEN]
        share = self.diffusion.visible(timesteps)
        kept = [one.detach() for one in features]
        self.seen["picture_discriminator"] = ToTellApart(kept, real_features, share, kinds)
        scores = self.picture(features, kinds)
        loss = looks_drawn(scores, share)
        fooled, visible = taken_for_real(scores), share > 0.5
        return loss, {
            "picture_adversarial": loss.detach(),
            "picture_taken_for_real": mean_or_zero(fooled, visible & (kinds == 0)),
            "rendition_taken_for_real": mean_or_zero(fooled, visible & (kinds > 0)),
        }

    def learn(self) -> Scalars:
        """Their turn, with what the step has shown them; once."""
        if self.optimizer is None:
            return {}
        losses: Scalars = {}
        for name, network in self.networks().items():
            heads, seen = list(network.heads.parameters()), self.seen.pop(name, None)
            if seen is None:
                loss, gradients = heads[0].new_zeros(()), [torch.zeros_like(one) for one in heads]
            else:
                of = (seen.kinds,) if isinstance(network, DecodedDiscriminator) else ()
                loss = told_apart(network(seen.drawn, *of), network(seen.real, *of), seen.share, seen.places)
                gradients = torch.autograd.grad(loss, heads)
            mean_over_processes(gradients)
            for parameter, gradient in zip(heads, gradients, strict=True):
                parameter.grad = gradient
            losses[name] = loss.detach()
        self.optimizer.step()
        return losses


def taken_for_real(scores: list[Tensor]) -> Tensor:
    """How many of a picture's places are taken for a photo's, a mean over heads: [b]."""
    return torch.stack([(one > 0).float().mean((1, 2)) for one in scores]).mean(0)
