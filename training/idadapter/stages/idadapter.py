"""Stage 4: IDAdapter itself (paper, sections 3.2 to 3.4)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import CLIPTokenizer

from ..config import IdAdapterConfig
from ..data.embeddings import open_embeddings
from ..data.latents import Latents
from ..data.portraits import Portraits
from ..data.vision_crops import crop, to_tensor
from ..faces.colours import region_colours, region_masks
from ..faces.detector import FaceDetector
from ..faces.emotion import EmotionClassifier
from ..faces.fact_reader import open_fact_reader
from ..faces.recognizer import FaceRecognizer
from ..loop import Stage, StepRandom, mean_or_zero
from ..models.attention import plain_attention
from ..models.autoencoder import decode
from ..models.clip import image_features
from ..models.group_norm import contiguous_group_norms
from ..models.idadapter import IdAdapterModel
from ..models.identity_adapter import adapter_parameters, cross_attention_key_value_parameters
from ..models.second_recognizer import open_second_recognizer
from ..models.text_encoder import identifier_positions
from ..models.unet import pooled_text_parameters
from ..noise_schedule import Diffusion, read_noise_schedule
from ..parts import (
    read_image_encoder,
    write_image_encoder,
    write_mixed_features,
    write_text_encoder,
    write_unet,
)
from ..rollouts import roll_out
from ..sampling import guided, in_chunks, pictures_at_once, sample_latents, to_pictures
from ..tokenizer import encode_prompts, with_identifier
from .autoencoder import face_mask, feature_mask
from .discriminators import Discriminators
from .drawn_people import DrawnPeople
from .people_draw import PeopleDraw
from .recognition import Judged, RecognitionLoss

SAMPLE_PROMPTS = (
    "{}",
    "{} is smiling",
    "{}, not smiling",
    "{}, facing left",
    "{} with glasses",
    "a pencil sketch of {}",
)


class IdAdapterStage(Stage):
    """The diffusion loss plus the face identity loss (equations 8 and 9), gated by the detector."""

    name = "idadapter"

    def __init__(
        self,
        config: IdAdapterConfig,
        model: IdAdapterModel,
        tokenizer: CLIPTokenizer,
        portraits: Portraits,
        latents: Latents,
        parts: Path,
        cache: Path,
        recognizer: FaceRecognizer,
        detector: FaceDetector,
    ) -> None:
        """Takes the networks as they are; the frozen judges come from `parts` and the registry's package."""
        self.config, self.tokenizer, self.portraits = config, tokenizer, portraits
        self.module = model.to(memory_format=torch.channels_last)
        self.latents = latents
        self.diffusion = Diffusion(read_noise_schedule(parts))
        self.vae = latents.vae
        if config.gradient_checkpointing:
            model.unet.enable_gradient_checkpointing()
            self.vae.enable_gradient_checkpointing()
        self.image_encoder = model.image_encoder or read_image_encoder(parts)
        self.embeddings = open_embeddings(cache, portraits, recognizer)
        second, second_embeddings = None, None
        if config.second_identity_weight:
            second, second_embeddings = open_second_recognizer(cache, portraits)
        self.people = PeopleDraw(
            config,
            tokenizer,
            portraits,
            latents,
            self.embeddings,
            second_embeddings,
            self.image_encoder.config.image_size,
            len(self.diffusion.alphas) - 1,
        )
        side = self.module.unet.config.sample_size
        face = functional.adaptive_avg_pool2d(face_mask(portraits.size), side)
        features = functional.adaptive_avg_pool2d(feature_mask(portraits.size), side)
        weight = 1 + (config.face_weight - 1) * face + config.eyes_and_mouth_weight * features
        self.place_weight = weight / weight.mean()
        self.reference_regions = region_masks(self.image_encoder.config.image_size)
        self.discriminators = Discriminators(config, model, self.diffusion)
        facts = self.people.captioned.facts
        self.recognition = RecognitionLoss(
            self.vae,
            self.diffusion,
            recognizer,
            detector,
            open_fact_reader(cache, portraits, facts, recognizer) if config.caption_weight else None,
            EmotionClassifier.from_package() if config.emotion_weight else None,
            self.discriminators,
            portraits.size,
            second,
        )

    def learning_rate_shares(self) -> dict[nn.Parameter, float]:
        """See `Stage.learning_rate_shares`: of what the paper leaves frozen, in a joint training."""
        unet = self.module.unet
        new = {
            *adapter_parameters(unet),
            *cross_attention_key_value_parameters(unet),
            *pooled_text_parameters(unet),
            *self.module.mixed_features.parameters(),
        }
        return {p: 1.0 if p in new else self.config.base_learning_rate for p in self.module.parameters()}

    def frozen(self) -> list[nn.Module]:
        """See `Stage.frozen`."""
        outside = [] if self.module.image_encoder is self.image_encoder else [self.image_encoder]
        return [self.vae, *outside, *self.recognition.networks(), *self.discriminators.networks().values()]

    def kept(self) -> list[nn.Module | torch.optim.Optimizer]:
        """See `Stage.kept`."""
        return self.discriminators.kept()

    def place(self, device: torch.device) -> None:
        """See `Stage.place`."""
        super().place(device)
        self.place_weight = self.place_weight.to(device)
        self.reference_regions = self.reference_regions.to(device)
        self.recognition.place(device)
        if device.type == "cpu":
            for network in filter(None, (self.module, self.discriminators.latent)):
                plain_attention(network.unet, network.text_encoder)
                contiguous_group_norms(network.unet)
            if self.module.image_encoder is not None:
                self.image_encoder.set_attn_implementation("eager")

    @torch.no_grad()
    def features(self, crops: Tensor, index: Tensor) -> tuple[Tensor, Tensor]:
        """f_v [b, N, P, d_v] and f_c [b, N, d_v] of the references, RGB [k, 3, s, s] in [0, 1]."""
        patch, classes = image_features(self.image_encoder, crops.to(self.device))
        return patch[index], classes[index]

    def fit_features(self, photos: int = 256) -> None:
        """Fits a new MFF to the image encoder (`MixedFeatures.begin_with`) by some training photos' patch features."""
        rows = self.portraits.train[:: max(1, len(self.portraits.train) // photos)]
        size = self.image_encoder.config.image_size
        crops = to_tensor([crop(np.ascontiguousarray(self.portraits.photos[row]), size) for row in rows])
        patches, _ = self.features(crops, torch.arange(len(rows)))
        self.module.mixed_features.begin_with(patches)

    def draw(self, random: StepRandom, step: int) -> DrawnPeople:
        """See `Stage.draw`."""
        return self.people(random)

    def loss(
        self, module: nn.Module, random: StepRandom, step: int, drawn: DrawnPeople | None = None
    ) -> tuple[Tensor, dict[str, Tensor | float]]:
        """See `Stage.loss`."""
        config = self.config
        batch = (drawn or self.draw(random, step)).to(self.device)
        timesteps = batch.timesteps
        crops = to_tensor(batch.crops)
        features = (
            (*self.features(crops, batch.index), batch.faces)
            if self.module.image_encoder is None
            else (crops, batch.index, batch.faces)
        )
        latents = self.latents(batch.rows, batch.variants).to(self.device, non_blocking=True)
        noise = random.normal(*latents.shape, device=self.device)
        noisy, target, snr = self.diffusion.add_noise(latents, noise, timesteps)
        if config.input_perturbation:
            # More noise than the model is told of, as in sampling, where a step starts from the errors of those before.
            more = config.input_perturbation * random.normal(*latents.shape, device=self.device)
            noisy, _, _ = self.diffusion.add_noise(latents, noise + more, timesteps)
        if len(batch.rolled):
            rolled_noise = noise[None, batch.rolled]
            if config.rollout_ancestral:
                steps_noise = random.normal(config.rollout_steps, *rolled_noise.shape[1:], device=self.device)
                rolled_noise = torch.cat([rolled_noise, steps_noise])
            noisy[batch.rolled] = roll_out(config, self.module, self.diffusion, batch, rolled_noise, features)
        predicted = module(
            noisy.contiguous(memory_format=torch.channels_last),
            timesteps,
            batch.ids,
            batch.positions,
            features,
            batch.counts,
            batch.anonymous,
            batch.quiet,
        ).float()
        squares = (predicted - target).square()[batch.drawn]
        error = (squares * self.place_weight).mean((1, 2, 3))
        weight = self.diffusion.weight(snr, config.snr_gamma) if config.snr_weighting else torch.ones_like(snr)
        diffusion = (weight[batch.drawn] * error).sum() / max(1, len(batch.drawn))
        judged = batch.judged
        # What rollouts are told apart from.
        real = self.latents(batch.real_rows, batch.real_variants).to(self.device, non_blocking=True)
        weights = (
            config.identity_weight,
            config.second_identity_weight,
            config.caption_weight,
            config.emotion_weight,
            config.rollout_colour_weight,
        )
        if (any(weights) or self.discriminators.face is not None) and len(judged):
            seen = Judged(
                self.diffusion.clean(noisy[judged], predicted[judged], timesteps[judged]),
                timesteps[judged],
                batch.means,
                batch.second_means,
                to_tensor(batch.photos),
                batch.told,
                batch.alike,
                batch.emotions,
                self.reference_colours(crops, batch) if config.rollout_colour_weight else None,
                real[: len(batch.emotions)] if self.discriminators.face is not None else None,
            )
            recognition, scalars = self.recognition(config, seen, random, step >= config.adversarial_after)
        else:
            # The ablation without the identity loss does not pay for it either; and a batch may have nobody to judge.
            recognition, scalars = predicted.new_zeros(()), {}
        adversarial = predicted.new_zeros(())
        if self.discriminators.latent is not None and len(batch.rolled):
            rolled = batch.rolled
            clean = self.diffusion.clean(noisy[rolled], predicted[rolled], timesteps[rolled])
            words = batch.rolled_words
            adversarial, more = self.discriminators.latent_loss(clean, real, timesteps[rolled], words, random)
            adversarial = adversarial * config.adversarial_weight * (step >= config.adversarial_after)
            scalars |= more
        gate = [p.detach().abs().mean() for n, p in self.module.unet.named_parameters() if n.endswith("alpha_attn")]
        low = timesteps[batch.drawn] < 500
        return diffusion + recognition + adversarial, {
            "diffusion": diffusion.detach(),
            "error": mean_or_zero(squares),
            "error_low_noise": mean_or_zero(squares, low),
            "error_high_noise": mean_or_zero(squares, ~low),
            "gamma": torch.stack(gate).mean(),
            **scalars,
        }

    def reference_colours(self, crops: Tensor, batch: DrawnPeople) -> Tensor:
        """Mean colours of skin and hair in the references of those rolled out and judged: [r, 2, 3].

        Args:
            crops: RGB [k, 3, s, s] in [0, 1].
            batch: whose `index` and `counts` say which are whose.
        """
        rows = batch.judged[: len(batch.emotions)]
        share = batch.counts[rows] / batch.counts[rows].sum(1, keepdim=True)
        colours = region_colours(crops, self.reference_regions)[batch.index[rows]]
        return (share[:, :, None, None] * colours).sum(1)

    def after_step(self, random: StepRandom, step: int) -> dict[str, Tensor | float]:
        """See `Stage.after_step`: the discriminators' turn, with what the step drew."""
        return self.discriminators.learn()

    def write_parts(self, root: Path) -> None:
        """See `Stage.write_parts`."""
        write_unet(root, self.module.unet)
        write_text_encoder(root, self.module.text_encoder)
        write_mixed_features(root, self.module.mixed_features)
        if self.module.image_encoder is not None:
            write_image_encoder(root, self.image_encoder)

    def sample(self, step: int) -> np.ndarray:
        """Held-out people: the reference, then one portrait a prompt."""
        held_out = self.portraits.held_out[np.linspace(0, len(self.portraits.held_out) - 1, 8).astype(int)]
        count, prompts_each = len(held_out), len(SAMPLE_PROMPTS)
        crops = to_tensor([crop(self.portraits.photos[row], self.image_encoder.config.image_size) for row in held_out])
        index = torch.arange(count)[:, None].expand(-1, self.config.references)
        patch, classes = self.features(crops, index)
        faces = (
            torch.from_numpy(self.embeddings[held_out, 0])
            .to(self.device)[:, None]
            .expand(-1, self.config.references, -1)
        )
        tokens, embedding = self.module.mixed_features(patch, classes, faces)
        tokens, embedding = tokens.repeat_interleave(prompts_each, 0), embedding.repeat_interleave(prompts_each, 0)
        nouns = [self.people.captioned.facts[row].noun for row in held_out]
        prompts = [with_identifier(form.format(noun), noun) for noun in nouns for form in SAMPLE_PROMPTS]
        ids = encode_prompts(self.tokenizer, [*prompts, *([""] * len(prompts))]).to(self.device)
        positions = identifier_positions(ids, self.people.identifier_id)
        tokens, embedding = (torch.cat([known, torch.zeros_like(known)]) for known in (tokens, embedding))

        def predict(noisy: Tensor, timesteps: Tensor, rows: Tensor) -> Tensor:
            return self.module.denoise(noisy, timesteps, ids[rows], positions[rows], (tokens[rows], embedding[rows]))

        at_once = pictures_at_once(self.portraits.size)
        size = self.module.unet.config.sample_size
        shape = (len(prompts), self.vae.config.latent_channels, size, size)
        latents = sample_latents(
            guided(predict, at_once), shape, 20, seed=1, schedule=self.diffusion.schedule, device=self.device
        )
        pictures = to_pictures(in_chunks(lambda some: decode(self.vae, some), at_once, latents))
        lines = [
            np.concatenate([self.portraits.photos[row], *pictures[i * prompts_each : (i + 1) * prompts_each]], axis=1)
            for i, row in enumerate(held_out)
        ]
        half = len(lines) // 2
        return np.concatenate([np.concatenate(lines[:half], axis=0), np.concatenate(lines[half:], axis=0)], axis=1)
