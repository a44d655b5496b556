"""What judges see of the stage's decoded one-step predictions: the person, the face, what was told, colours."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..config import IdAdapterConfig
from ..data.templates import portrait_template
from ..data.told import TOLD
from ..faces.colours import region_colours, region_masks
from ..faces.detector import SCORE_THRESHOLD, FaceDetector
from ..faces.emotion import EmotionClassifier
from ..faces.fact_reader import FactReader
from ..faces.recognizer import TEMPLATE, FaceRecognizer
from ..loop import StepRandom, mean_or_zero
from ..models.autoencoder import decode
from ..models.face_warp import FaceWarp
from ..models.second_recognizer import SecondRecognizer
from ..noise_schedule import Diffusion
from .autoencoder import feature_distance
from .discriminators import Discriminators, Scalars


class Judged(NamedTuple):
    """Predictions that are judged, k of them, of which the first r are rolled out.

    Attributes:
        clean: predicted clean latents [k, c, h, w].
        timesteps: [k], of which they are predicted.
        means: [k, d_a], the identities' mean embeddings.
        second_means: [k, d], the same of the second recogniser's; d is 0 where there is none.
        photos: [k, 3, s, s] in [0, 1], what was to be predicted; of those rolled out it was not.
        told: [k, 6], what the captions tell of them (`told_values`).
        alike: [k] bool, whose references show the photo, with nothing told: a rolled out one of these is to look like
            it even so.
        emotions: [r] int64, which of `faces.emotion.CLASSES` are told, -1 for none.
        colours: [r, 2, 3], what skin and hair of those rolled out are to be; None where they may be any.
        real: latents [r, c, h, w] of photos whose faces those rolled out are to look as real as; None where no
            discriminator looks.
    """

    clean: Tensor
    timesteps: Tensor
    means: Tensor
    second_means: Tensor
    photos: Tensor
    told: Tensor
    alike: Tensor
    emotions: Tensor
    colours: Tensor | None = None
    real: Tensor | None = None


class RecognitionLoss:
    """lambda F(x0) L_id (equation 9), 1 - cos(R(x0), f_a) where the detector finds a face; and what else is seen of x0.

    The same as a second recogniser sees it (`second_identity_weight`), R's middle features near the photo's
    (`feature_weight`), in them what the caption tells (`caption_weight`), its
    emotion (`emotion_weight`), the reference's colours (`rollout_colour_weight`) and what gives faces away
    (`face_adversarial_weight`).

    The recogniser looks through a random small similarity and blur (`FaceWarp.jittered`): it is pleased by patterns
    nobody would call a face, and those do not outlive being moved and blurred.
    """

    def __init__(
        self,
        vae: nn.Module,
        diffusion: Diffusion,
        recognizer: FaceRecognizer,
        detector: FaceDetector,
        reader: FactReader | None,
        emotion: EmotionClassifier | None,
        discriminators: Discriminators,
        size: int,
        second: SecondRecognizer | None = None,
    ) -> None:
        """Keeps the judges, all of them frozen but for the discriminators.

        Args:
            vae: decodes predictions.
            diffusion: the noise the model is trained with.
            recognizer: R.
            detector: F.
            reader: reads what captions tell out of R's features; None where nothing is made of it.
            emotion: a classifier of emotions; None where nothing is made of it.
            discriminators: whose `face` looks at those rolled out.
            size: of portraits, in pixels.
            second: another recogniser; None where none looks.
        """
        self.vae, self.diffusion, self.discriminators = vae, diffusion, discriminators
        self.recognizer = recognizer.to(memory_format=torch.channels_last)
        self.detector, self.reader, self.emotion, self.second = detector, reader, emotion, second
        self.warp = FaceWarp(portrait_template(size), TEMPLATE, recognizer.input_size)
        self.regions = region_masks(size)

    def networks(self) -> list[nn.Module]:
        """Those that see the pictures; the autoencoder and the discriminators are the stage's."""
        return [
            one for one in (self.recognizer, self.detector, self.reader, self.emotion, self.second) if one is not None
        ]

    def place(self, device: torch.device) -> None:
        """Moves what is no network."""
        self.regions = self.regions.to(device)

    def __call__(
        self, config: IdAdapterConfig, judged: Judged, random: StepRandom, held_to_real: bool = True
    ) -> tuple[Tensor, Scalars]:
        """The mean loss over k, 0 where the gate is closed, and scalars.

        Args:
            config: the stage's, whose weights count.
            judged: at least one.
            random: draws the similarities and the blur.
            held_to_real: whether those rolled out are held to look real already; else the discriminator learns alone.
        """
        rolled, timesteps, told = len(judged.emotions), judged.timesteps, judged.told
        images = self.pictures(judged.clean)
        count = len(images)
        with torch.no_grad():
            found = (self.detector.portrait_scores(images.clamp(0, 1)) > SCORE_THRESHOLD).float()
        look = self.warp.jittered(random.torch, count, config.jitter)
        seen = look(images)
        features = self.recognizer.features(seen)
        cosine = (self.recognizer.embed(features) * judged.means).sum(1)
        drawn = torch.arange(count, device=images.device) >= rolled
        share = torch.where(drawn, 1.0, config.rollout_weight)
        loss = config.identity_weight * (share * found * (1 - cosine)).mean()
        low = timesteps < 500
        scalars: Scalars = {
            "faces": found.mean(),
            "cosine_low_noise": mean_or_zero(cosine, low & drawn),
            "cosine_high_noise": mean_or_zero(cosine, ~low & drawn),
        }
        if rolled:
            scalars |= {"rollout_faces": found[:rolled].mean(), "rollout_cosine": mean_or_zero(cosine[:rolled])}
        if self.second is not None:
            second = self.second(images, judged.second_means, random, config.jitter)
            loss = loss + config.second_identity_weight * (share * found * (1 - second)).mean()
            scalars["second_cosine"] = mean_or_zero(second[rolled:])
            if rolled:
                scalars["rollout_second_cosine"] = mean_or_zero(second[:rolled])
        if config.feature_weight:
            with torch.no_grad():
                real = self.recognizer.features(look(judged.photos))
            # The more of the picture is still visible, the more of it there is to get right.
            visible = self.diffusion.visible(timesteps)
            comparable = drawn | judged.alike
            feature = (share * comparable * visible * feature_distance(features, real)).mean()
            loss = loss + config.identity_weight * config.feature_weight * feature
            scalars["feature"] = feature.detach()
        if self.reader is not None:
            wrong = self.reader.losses(features, told)
            loss = loss + config.caption_weight * (share * found * wrong).mean()
            facts = (~told.isnan()).sum(1)
            a_fact = wrong.detach() / facts.clamp_min(1)
            some = facts > 0
            scalars["told_wrong_low_noise"] = mean_or_zero(a_fact, some & low & drawn)
            scalars["told_wrong_high_noise"] = mean_or_zero(a_fact, some & ~low & drawn)
            if rolled:
                scalars["rollout_told_wrong"] = mean_or_zero(a_fact, some & ~drawn)
        if not rolled:
            return loss, scalars
        # What follows is of those rolled out, and yet a mean over all that are judged, as the rest is.
        if self.emotion is not None:
            emotions = judged.emotions
            wrong = functional.cross_entropy(self.emotion(seen[:rolled]), emotions, ignore_index=-1, reduction="none")
            loss = loss + config.emotion_weight * config.rollout_weight * (found[:rolled] * wrong).sum() / count
            scalars["rollout_emotion_wrong"] = mean_or_zero(wrong, emotions >= 0)
        if config.rollout_colour_weight and judged.colours is not None:
            off = (region_colours(images[:rolled], self.regions) - judged.colours).abs().mean(2)
            # Who is told of a hat, or of none, may have other colours there than the reference.
            bare = told[:rolled, TOLD.index("hat")].isnan()
            counts = torch.stack([torch.ones_like(bare), bare], 1).float()
            wrong = (counts * off).sum(1) / counts.sum(1)
            loss = loss + config.rollout_colour_weight * config.rollout_weight * (found[:rolled] * wrong).sum() / count
            scalars["rollout_colour_off"] = mean_or_zero(wrong)
        if self.discriminators.face is not None and judged.real is not None:
            with torch.no_grad():
                real = self.recognizer.features(look(self.pictures(judged.real)))
            unreal, more = self.discriminators.face_loss([one[:rolled] for one in features], real, timesteps[:rolled])
            loss = loss + config.face_adversarial_weight * held_to_real * unreal * rolled / count
            scalars |= more
        return loss, scalars

    def pictures(self, latents: Tensor) -> Tensor:
        """Decoded, float32 RGB [b, 3, s, s], a little beyond [0, 1] at most."""
        return decode(self.vae, latents.contiguous(memory_format=torch.channels_last)).float().clamp(-0.1, 1.1)
