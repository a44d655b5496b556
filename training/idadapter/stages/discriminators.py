"""What tells the stage's rollouts from photos that show what they are told, and learns to by turns with the model."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..config import IdAdapterConfig
from ..loop import StepRandom, mean_or_zero, mean_over_processes
from ..models.face_discriminator import STAGES_SEEN, FaceDiscriminator
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
    """

    drawn: list[Tensor]
    real: list[Tensor]
    share: Tensor | None


class Discriminators:
    """Up to two, by the configuration; none where nothing is rolled out.

    Attributes:
        latent: sees all rollouts' latents behind noise; or None.
        face: sees what the recogniser sees of rollouts told as photos; or None.
    """

    def __init__(self, config: IdAdapterConfig, model: IdAdapterModel, diffusion: Diffusion) -> None:
        """Makes those that have a weight.

        Args:
            config: the stage's.
            model: as it is before the stage trains it.
            diffusion: the noise it is trained with.
        """
        self.diffusion = diffusion
        self.latent = self.face = self.optimizer = None
        self.seen: dict[str, ToTellApart] = {}
        if config.rollout_rows and config.adversarial_weight:
            self.latent = LatentDiscriminator(model.unet, model.text_encoder)
        if config.rollout_rows and config.face_adversarial_weight:
            self.face = FaceDiscriminator()
        if self.networks():
            heads = [parameter for one in self.networks().values() for parameter in one.heads.parameters()]
            self.optimizer = torch.optim.AdamW(heads, lr=config.adversarial_learning_rate, betas=(0.5, 0.99))

    def networks(self) -> dict[str, LatentDiscriminator | FaceDiscriminator]:
        """Those of this run, by the names of their losses in its log."""
        both = {"discriminator": self.latent, "face_discriminator": self.face}
        return {name: one for name, one in both.items() if one is not None}

    def kept(self) -> list[Any]:
        """What a checkpoint holds: the networks, as no part of a run is what one looks through, and their optimizer."""
        return [*self.networks().values(), *filter(None, [self.optimizer])]

    def latent_loss(
        self, clean: Tensor, real: Tensor, timesteps: Tensor, words: Tensor, random: StepRandom
    ) -> tuple[Tensor, Scalars]:
        """What gives rollouts' latents away; keeps both for `learn`.

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
        self.seen["discriminator"] = ToTellApart([one.detach() for one in features], real_features, None)
        scores = self.latent(features)
        with torch.no_grad():
            real_scores = self.latent(real_features)
        loss = looks_drawn(scores)
        found = torch.stack([(one > 0).float().mean() for one in real_scores]).mean()
        fooled = torch.stack([(one > 0).float().mean() for one in scores]).mean()
        return loss, {"adversarial": loss.detach(), "taken_for_real": fooled.detach(), "real_for_real": found}

    def face_loss(self, features: list[Tensor], real: list[Tensor], timesteps: Tensor) -> tuple[Tensor, Scalars]:
        """What gives rollouts' decoded faces away; keeps both for `learn`.

        Args:
            features: `FaceRecognizer.features` of them, r each.
            real: of as many decoded photos, seen through the same similarities and blur.
            timesteps: [r], of which they are predicted: the more is visible there, the more a face counts.

        Returns:
            the loss, a mean over r, and scalars.
        """
        assert self.face is not None
        drawn, share = features[:STAGES_SEEN], self.diffusion.visible(timesteps)
        kept = [one.detach() for one in drawn]
        self.seen["face_discriminator"] = ToTellApart(kept, real[:STAGES_SEEN], share)
        scores = self.face(drawn)
        loss = looks_drawn(scores, share)
        fooled = torch.stack([(one > 0).float().mean((1, 2)) for one in scores]).mean(0)
        return loss, {"face_adversarial": loss.detach(), "face_taken_for_real": mean_or_zero(fooled, share > 0.5)}

    def learn(self) -> Scalars:
        """Their turn, with what the step has shown them; from each step once."""
        if self.optimizer is None:
            return {}
        losses: Scalars = {}
        for name, network in self.networks().items():
            heads, seen = list(network.heads.parameters()), self.seen.pop(name, None)
            if seen is None:
                loss, gradients = heads[0].new_zeros(()), [torch.zeros_like(one) for one in heads]
            else:
                loss = told_apart(network(seen.drawn), network(seen.real), seen.share)
                gradients = torch.autograd.grad(loss, heads)
            mean_over_processes(gradients)
            for parameter, gradient in zip(heads, gradients, strict=True):
                parameter.grad = gradient
            losses[name] = loss.detach()
        self.optimizer.step()
        return losses
