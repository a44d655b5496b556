"""IDAdapter's inference in PyTorch, from a bundle: what the TypeScript pipeline is held against."""

from __future__ import annotations

import json
import math
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from diffusers import DDPMScheduler, SchedulerMixin
from torch import Tensor

from .data.alignment import align_face, similarity_transform
from .data.told import told_view, words_of
from .data.turned_heads import head_towards, turn_of_seed, turned_head, varied_turn, yaw_angle
from .data.vision_crops import to_tensor
from .faces.locate import FaceLocator, LocatedFace
from .faces.recognizer import FaceRecognizer
from .guidance import GuidanceSchedule
from .models.autoencoder import decode
from .models.clip import normalize_pixels
from .models.identity_adapter import predict
from .models.text_encoder import encode_text, identifier_positions
from .models.unet import deep_features
from .noise_schedule import Diffusion
from .parts import read_image_encoder, read_mixed_features, read_text_encoder, read_unet, read_vae
from .samplers import EulerRestart, make_sampler, takes_generator
from .sampling import to_pictures
from .tokenizer import encode_prompts, load_tokenizer

SIDE_VIEWS = {"left": -math.radians(20), "right": math.radians(20)}
"""Where a head looks that words have look to a side, radians."""

LEAST_SPAN = 0.52
"""The service drops detections whose landmarks span less than this share of their box (pipeline/faces.ts)."""


@dataclass(frozen=True)
class Conditioning:
    """What steers a denoising, a row for each of `GuidanceSchedule.kinds`.

    Attributes:
        hidden_states: C [rows, L, d_t].
        identity_tokens: E_r [rows, M, d_r].
        token_bias: [M], what the adapters add to each token's logits.
    """

    hidden_states: Tensor
    identity_tokens: Tensor
    token_bias: Tensor


class ReferencePipeline:
    """One photo and a prompt to portraits, in float32 on the CPU, with the bundle's own weights.

    Nothing here knows ONNX: the weights are read from the same `model.safetensors` that the graphs point into.
    """

    def __init__(self, bundle: Path) -> None:
        """Loads every part.

        Args:
            bundle: folder as docs/bundle.md describes it.

        Raises:
            FileNotFoundError: a part is missing.
        """
        self.manifest = json.loads((bundle / "bundle.json").read_text())
        self.scheduler_config = json.loads((bundle / self.manifest["scheduler"]).read_text())
        self.tokenizer = load_tokenizer(bundle / self.manifest["tokenizer"])
        self.locator = FaceLocator(bundle=bundle)
        self.recognizer = FaceRecognizer.from_folder(bundle / "face_recognizer")
        self.image_encoder = read_image_encoder(bundle)
        self.mixed_features = read_mixed_features(bundle).eval()
        self.text_encoder = read_text_encoder(bundle).eval()
        self.unet = read_unet(bundle).eval()
        self.vae = read_vae(bundle)

    @torch.inference_mode()
    def generate(
        self,
        photo: np.ndarray,
        prompt: str,
        class_noun: str,
        negative_prompt: str = "",
        num_inference_steps: int = 20,
        guidance_scale: float = 3.0,
        identity_guidance_scale: float | None = None,
        early_guidance_scale: float | None = None,
        early_identity_guidance_scale: float | None = None,
        early_guidance_until: float = 800.0,
        guidance_rescale: float = 0.0,
        identity_strength: float = 1.0,
        pose_variation: float = 0.0,
        scheduler: str = "dpmpp_2m",
        seed: int = 0,
        num_images: int = 1,
        cache_interval: int = 1,
    ) -> np.ndarray:
        """Makes portraits of the person in the photo.

        Args:
            photo: [H, W, 3] uint8 RGB, with one face.
            prompt: what to show, without the identifier.
            class_noun: one of the manifest's `class_nouns`.
            negative_prompt: words of guidance's unconditional branch.
            num_inference_steps: denoising steps.
            guidance_scale: classifier-free guidance of the words; 1 runs the conditional branch alone.
            identity_guidance_scale: guidance of the person; None for both together by `guidance_scale`.
            early_guidance_scale: of the words in the steps that begin a picture; None for `guidance_scale`.
            early_identity_guidance_scale: of the person in these; None for `identity_guidance_scale`.
            early_guidance_until: the last timestep of these.
            guidance_rescale: phi of `guidance.rescale_guidance`, 0 for none.
            identity_strength: beta of equation 7.
            pose_variation: by up to how many degrees the reference's head is turned, each picture's by its seed.
            scheduler: one of `samplers.SCHEDULERS`.
            seed: of the first picture; picture i has seed + i.
            num_images: how many.
            cache_interval: all of the UNet runs at every `cache_interval`-th step; at the others its last block gets
                what the blocks below gave it then (DeepCache).

        Returns:
            [num_images, h, w, 3] uint8.

        Raises:
            ValueError: no face in the photo, or a prompt too long.
        """
        face = self.find_face(photo)
        guidance = GuidanceSchedule(
            guidance_scale,
            identity_guidance_scale,
            early_guidance_scale,
            early_identity_guidance_scale,
            early_guidance_until,
        )
        kinds = guidance.kinds()
        view = told_view(prompt, self.manifest.get("view_words", {}))
        pictures = []
        for picture_seed in range(seed, seed + num_images):
            conditioning = self.encode_conditioning(
                prompt,
                class_noun,
                negative_prompt if "unconditional" in kinds else None,
                *self.encode_identity(
                    photo, face, turn_of_seed(picture_seed, 0.0 if view else pose_variation), SIDE_VIEWS.get(view)
                ),
                words_row="words" in kinds,
            )
            latents = self.denoise(
                [torch.Generator("cpu").manual_seed(picture_seed)],
                conditioning,
                make_sampler(scheduler, {"clip_sample": False, **self.scheduler_config}),
                num_inference_steps,
                guidance,
                guidance_rescale,
                identity_strength,
                cache_interval,
            )
            pictures.append(to_pictures(decode(self.vae, latents)))
        return np.concatenate(pictures)

    def find_face(self, photo: np.ndarray) -> LocatedFace:
        """The largest face of the photo whose landmarks have not collapsed.

        Raises:
            ValueError: there is none.
        """
        faces = [face for face in self.locator.locate(photo) if _span(face) >= LEAST_SPAN * _sides(face).max()]
        if not faces:
            raise ValueError("the photo shows no face")
        return max(faces, key=lambda face: _sides(face).prod())

    def encode_identity(
        self, photo: np.ndarray, face: LocatedFace, turn: float = 0.0, view: float | None = None
    ) -> tuple[Tensor, Tensor]:
        """Mixed facial features and textual projection (equations 3 to 6) of one photo, taken N times.

        Args:
            photo: [H, W, 3] uint8 RGB.
            face: its face.
            turn: by how many radians the head is turned before its patches are read.
            view: where it is to look instead, radians; None for what `turn` says.

        Returns:
            E_r [1, M, d_r] and E_c [1, d_t].
        """
        face_embedding = self.recognizer(to_tensor([self.align(photo, face, "recognizer")]))
        seen = self.align(photo, face, "image_encoder")
        if turn or view is not None:
            target = self.manifest["faces"]["image_encoder"]
            template, size = np.array(target["template"]), target["input_size"]
            transform = similarity_transform(face.points, template)
            landmarks = face.points @ transform[:, :2].T + transform[:, 2]
            margin = size // 4
            surroundings = align_face(photo, face.points, template + margin, size + 2 * margin)
            seen = (
                turned_head(surroundings, landmarks, varied_turn(yaw_angle(landmarks), turn), margin)
                if view is None
                else head_towards(surroundings, landmarks, view, margin)
            )
        output = self.image_encoder(pixel_values=normalize_pixels(to_tensor([seen])))
        patch_features, class_embedding = output.last_hidden_state[:, 1:], output.pooler_output
        count = self.manifest["max_reference_images"]
        return self.mixed_features(
            patch_features.expand(count, -1, -1)[None],
            class_embedding.expand(count, -1)[None],
            face_embedding.expand(count, -1)[None],
        )

    def align(self, photo: np.ndarray, face: LocatedFace, graph: str) -> np.ndarray:
        """The face as a graph of the bundle wants it: [S, S, 3] uint8."""
        target = self.manifest["faces"][graph]
        return align_face(photo, face.points, np.array(target["template"]), target["input_size"])

    def encode_conditioning(
        self,
        prompt: str,
        class_noun: str,
        negative_prompt: str | None,
        identity_tokens: Tensor,
        identity_embedding: Tensor,
        words_row: bool = False,
    ) -> Conditioning:
        """The prompt with "[class noun] is sks" and E_c in place of "sks" (section 3.2), and the unconditional branch.

        Args:
            prompt: the caller's.
            class_noun: the caller's.
            negative_prompt: None for no unconditional row.
            identity_tokens: E_r [1, M, d_r].
            identity_embedding: E_c [1, d_t].
            words_row: whether there is a row with the prompt and without the person.
        """
        identifier = self.manifest["identifier"]
        hidden_states, tokens = [], []
        nobody, nowhere = torch.zeros_like(identity_embedding), torch.tensor([-1])
        zero = self.manifest["unconditional_identity"] == "zero"
        anonymous = torch.zeros_like(identity_tokens) if zero else identity_tokens
        for words in ([] if negative_prompt is None else [negative_prompt]) + ([prompt] if words_row else []):
            ids = encode_prompts(self.tokenizer, [words.strip()])
            hidden_states.append(encode_text(self.text_encoder, ids, nobody, nowhere))
            tokens.append(anonymous)
        ids = encode_prompts(self.tokenizer, [f"{prompt.strip()}, {class_noun} is {identifier}"])
        position = identifier_positions(ids, self.tokenizer.convert_tokens_to_ids(f"{identifier}</w>"))
        hidden_states.append(encode_text(self.text_encoder, ids, identity_embedding, position))
        tokens.append(identity_tokens)
        return Conditioning(torch.cat(hidden_states), torch.cat(tokens), self.token_bias(prompt))

    def token_bias(self, prompt: str) -> Tensor:
        """Less of places where the prompt tells what is there (`models.quiet_patches`), [M] for N copies of a photo."""
        count, face_tokens = self.manifest["max_reference_images"], self.mixed_features.face_tokens
        bias = torch.zeros(count, (self.manifest["identity_token_count"] - face_tokens) // count)
        for place in self.manifest.get("quiet_patches", []):
            if not words_of(prompt).isdisjoint(place["words"]):
                bias[:, place["patches"]] += place["bias"]
        return torch.cat([torch.zeros(face_tokens), bias.flatten()])

    def draw_noise(self, generators: list[torch.Generator]) -> Tensor:
        """Standard normal noise [len(generators), c, h, w], each picture's from a CPU generator of its own."""
        channels, size = self.manifest["latent"]["channels"], self.manifest["latent"]["size"]
        return torch.cat([torch.randn(1, channels, size, size, generator=generator) for generator in generators])

    def denoise(
        self,
        generators: list[torch.Generator],
        conditioning: Conditioning,
        scheduler: SchedulerMixin | EulerRestart,
        num_inference_steps: int,
        guidance: GuidanceSchedule,
        guidance_rescale: float,
        identity_strength: float,
        cache_interval: int = 1,
    ) -> Tensor:
        """Noise to clean latents [n, c, h, w]: the UNet with its adapters, guidance, the scheduler's step."""
        count, kinds = len(generators), guidance.kinds()
        diffusion = Diffusion(DDPMScheduler.from_config(self.scheduler_config))
        scheduler.set_timesteps(num_inference_steps)
        latents = self.draw_noise(generators) * scheduler.init_noise_sigma
        random = {"generator": generators} if takes_generator(scheduler) else {}
        deep: list[Tensor] = []
        kept_kinds: list[str] = []
        before = float("inf")
        for step, timestep in enumerate(scheduler.timesteps):
            weights = guidance.rows_at(float(timestep))
            counting = [kinds.index(kind) for kind in weights]
            branches = len(counting)
            hidden_states = conditioning.hidden_states[counting].repeat_interleave(count, 0)
            identity_tokens = conditioning.identity_tokens[counting].repeat_interleave(count, 0)
            bias = conditioning.token_bias.expand(branches * count, -1)
            strength = torch.full((branches * count,), identity_strength)
            sample = scheduler.scale_model_input(latents, timestep).repeat(branches, 1, 1, 1)
            timesteps = timestep.expand(branches * count)
            falls, before = float(timestep) < before, float(timestep)
            kept = deep[0] if step % cache_interval and falls and kept_kinds == list(weights) else None
            kept_kinds = list(weights)
            with deep_features(self.unet, kept) if cache_interval > 1 else nullcontext(deep) as deep:
                prediction = predict(self.unet, sample, timesteps, hidden_states, identity_tokens, strength, bias)
            rows = prediction.chunk(branches)
            prediction = sum(weight * row for weight, row in zip(weights.values(), rows, strict=True))
            if guidance_rescale and branches > 1:
                now, noisy = timestep.round().long().expand(count), sample[:count]
                prediction = diffusion.rescale(prediction, rows[-1], noisy, now, guidance_rescale)
            latents = scheduler.step(prediction, timestep, latents, **random).prev_sample
        return latents


def _sides(face: LocatedFace) -> np.ndarray:
    """Width and height of the box, photo pixels."""
    return face.box[2:] - face.box[:2]


def _span(face: LocatedFace) -> float:
    """The longer side of the upright rectangle around the landmarks, photo pixels."""
    return float(np.ptp(face.landmarks, axis=0).max())
