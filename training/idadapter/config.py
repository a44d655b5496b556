"""A run's configuration: one TOML file a model size, one table a stage."""

from __future__ import annotations

import tomllib
from dataclasses import MISSING, dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from .bundle_config import BundleConfig
from .data.templates import PORTRAIT_SIZE
from .loop import LoopConfig


@dataclass(frozen=True)
class AutoencoderConfig:
    """Shape of the autoencoder (levels from the pixels inwards) and weights of its losses.

    Attributes:
        latent_channels: channels of the latent. One more than the autoencoder has that the stage begins with becomes a
            channel for the colour that the others have lost.
        encoder_channels: width a level; the first level has no layers.
        encoder_layers: residual blocks a level.
        decoder_channels: as for the encoder.
        decoder_layers: as for the encoder.
        window: side of the training windows cut out of the portraits, pixels.
        latent_noise: largest standard deviation of the noise added to latents before decoding.
        face_weight: how much more the face's pixels count.
        gradient_weight: of the image-gradient loss.
        feature_weight: of the recogniser's middle features.
        identity_weight: of the recogniser's cosine.
        smoothness_weight: of the loss that makes blurred latents decode to blurred pictures.
        detail_weight: of the share of the latents' variance that is finer than 2 x 2 latents.
        colour_weight: of the blurred pictures' colour differences (`stages.autoencoder.colour_differences`).
        recognized: how many of a batch the recogniser sees.
        freeze_encoder: train the decoder alone. Latents stay what they are (but for new channels), and so does what was
            trained on them.
        loop: the training loop.
        kind: "dc" for the small `AutoencoderDC`, "kl" for Stable Diffusion's `AutoencoderKL` (its layers a level are
            `encoder_layers`' first, and the decoder mirrors the encoder).
    """

    latent_channels: int
    encoder_channels: list[int]
    encoder_layers: list[int]
    decoder_channels: list[int]
    decoder_layers: list[int]
    loop: LoopConfig
    window: int = 96
    latent_noise: float = 0.1
    face_weight: float = 2.0
    gradient_weight: float = 1.0
    feature_weight: float = 0.3
    identity_weight: float = 0.1
    smoothness_weight: float = 0.5
    detail_weight: float = 0.0
    colour_weight: float = 0.0
    recognized: int = 4
    freeze_encoder: bool = False
    kind: Literal["dc", "kl"] = "dc"


@dataclass(frozen=True)
class ClipConfig:
    """Shape of the small CLIP.

    Attributes:
        image_size: side of the face crops, pixels.
        patch_size: side of a patch, pixels.
        vision_width, vision_layers, vision_heads: of the vision transformer.
        text_width, text_layers, text_heads: of the text transformer.
        max_length: tokens of a prompt.
        merges: of the tokenizer.
        projection: width of the common space.
        freeze_text: train the image encoder alone (as LiT, Zhai et al. 2022, turned around), against the run's text
            encoder, or against one with random weights in a run that has none.
        freeze_image: train the text encoder alone, against the run's image encoder (LiT).
        drift_weight: of the mean square by which the text encoder's states leave those it began with (in a run that has
            none, `make_text_encoder`'s), beside their variance: with a large one, a UNet that has learned to read them
            still can.
        reconstruction_weight: of the loss that has every patch's features tell the patch's pixels.
    """

    loop: LoopConfig
    image_size: int = 96
    patch_size: int = 16
    vision_width: int = 256
    vision_layers: int = 6
    vision_heads: int = 4
    text_width: int = 256
    text_layers: int = 4
    text_heads: int = 4
    max_length: int = 48
    merges: int = 1000
    projection: int = 128
    freeze_text: bool = False
    freeze_image: bool = False
    drift_weight: float = 0.0
    reconstruction_weight: float = 0.0

    @property
    def patches(self) -> int:
        """P: how many patches a picture has."""
        return (self.image_size // self.patch_size) ** 2


@dataclass(frozen=True)
class PatchesConfig:
    """How an image encoder's patches learn to tell more of a picture (`stages.patches`).

    Attributes:
        drift_weight: of the mean square by which E_r and E_c leave what they were, over their variance, beside the part
            of the latents' variance that is untold.
        rendition_share: how many of the pictures are renditions.
        fitted: photos that the map from tokens to latents is fitted to at first.
    """

    loop: LoopConfig = field(
        default_factory=lambda: LoopConfig(
            steps=400, batch_size=32, learning_rate=4e-4, warmup_steps=20, weight_decay=0.0, ema_decay=0.98
        )
    )
    drift_weight: float = 0.2
    rendition_share: float = 0.15
    fitted: int = 512


@dataclass(frozen=True)
class DiffusionConfig:
    """Shape of the UNet (levels from the latent inwards) and how the base model trains.

    Attributes:
        channels: width a level.
        attention: whether a level has transformer blocks, and with them identity adapters.
        layers: residual blocks a level.
        head_width: channels of an attention head.
        heads: attention heads of every level instead, as Stable Diffusion 1.x has them.
        pooled_text: the words also reach every residual block, pooled (`models.unet.with_pooled_text`).
        linear_projection: linear maps instead of 1 x 1 convolutions around the transformer blocks, as in 2.x.
        rendition_share: how many of the pictures are art renditions.
        condition_dropout: how many of the captions are dropped, for guidance.
    """

    channels: list[int]
    attention: list[bool]
    loop: LoopConfig
    layers: int = 1
    head_width: int = 32
    heads: int | None = None
    linear_projection: bool = False
    pooled_text: bool = False
    rendition_share: float = 0.12
    condition_dropout: float = 0.12


@dataclass(frozen=True)
class IdAdapterConfig:
    """How IDAdapter trains.

    Attributes:
        base_learning_rate: share of the learning rate that what the paper leaves frozen has in a joint training (the
            UNet but for adapters and cross-attention keys and values): what is trained already is worn down by the rate
            that what is new needs.
        references: N.
        different_references: the most different photos among the N; by default N. Fewer cost less.
        joint: train all of the UNet, not only what the paper trains. The text encoder is frozen in either case.
        train_image_encoder: train the image encoder too, beyond the paper, at the base's rate: what contrast has left
            out of its patch features no adapter can bring back.
        identity_weight: lambda of equation 9.
        second_identity_weight: of the same loss as a second recogniser sees it (`faces.face_res`), beyond the paper.
        feature_weight: inside the identity loss, of the recogniser's middle features against the photo's.
        caption_weight: of the loss of what captions tell of a picture, as a reader of the recogniser's features sees it
            (`faces.fact_reader`), beyond the paper; with the identity loss's rows and gate.
        jitter: how strongly what the recogniser sees is moved and blurred at random; 0 not at all, 1 by a few pixels.
        recognized: how many of a batch carry the identity loss.
        recognized_told: how many of those may be rows whose captions tell more than the noun, before the others: what
            copies the photo knows its person anyway.
        rollout_rows: how many rows of a batch carry no diffusion loss: their z_t is not a noisy photo, but what the
            model itself has drawn so far out of noise, under words that no photo of the person need fit, and their
            losses are the recogniser's of what it draws next (ReFL: Xu et al. 2023, section 4). Beyond the paper.
        rollout_steps: denoising steps that lead there, without gradients.
        rollout_ancestral: whether each of these adds noise of its own, as the stochastic samplers do.
        rollout_weight: how much more the recogniser's losses of such a row count than of another.
        rollout_guidance_scale: guidance of the words on the way there.
        rollout_identity_guidance_scale: guidance of the person; with both 1 a step takes a third of the time.
        rollout_early_guidance_scale: of the words from timestep 800 on; by default the same.
        rollout_early_identity_guidance_scale: of the person from there on; by default the same.
        rollout_negative_prompt: what guidance leads away from there, but where a drawing is asked for.
        rollout_guidance_rescale: phi of `guidance.rescale_guidance` there.
        rollout_turned_share: how many of them are told of a photo that looks clearly to a side (`TURNED`), rather than
            of any: who is told a yaw near the threshold of the words for it ends up short of it.
        rollout_turned_reference_share: how many of them have a reference of their own photo whose head is turned
            (`data.turned_heads`), and are to look where it does unless words say otherwise.
        rollout_emotion_share: how many of them are told of a photo that shows an emotion (`Facts.emotion`), each as
            often as any other.
        emotion_weight: of the loss of the emotion that a rollout is told, as a classifier sees it (`faces.emotion`).
        rollout_colour_weight: of the loss by which a rollout's skin and hair have the colours of its reference
            (`faces.colours`), the hair where nothing is told of hats: the recogniser looks past them.
        rollout_renditions: up to how many more rows are rolled out, if any are, whose photo is a rendition, told as
            they are; no recogniser looks at them.
        adversarial_weight: of the loss of a discriminator that tells rollouts from photos which show what they are
            told (`models.latent_discriminator`): what nothing else here sees, colours and brushwork, gives drawn
            pictures away to it. Beyond the paper.
        face_adversarial_weight: of the loss of another, which sees decoded faces as the recogniser does
            (`models.face_discriminator`), the more of the picture is visible at its timestep the more.
        adversarial_learning_rate: the discriminators'.
        adversarial_after: steps in which only the discriminators learn, first.
        several_share: how many of the photos are of people with several.
        single_share: how often one reference photo stands N times.
        itself_share: how often the very photo to be drawn is among the references, unaltered, or is the one that
            stands N times. Where a feature goes is learned from these within a hundred steps, from other photos hardly:
            in a new run, begin with 1.
        itself_share_low_noise: the same below timestep 500, where z_t says where everything is and the details are
            left: what of them the reference tells is learned from these too.
        itself_wordless_share: how many of those rows have the class noun alone for words, so that the noun asks for the
            person as the photo shows it, and more words for what they say.
        itself_mirrored_share: how many of the rest of those rows, whose captions tell more, have the photo's mirror
            image for a reference: the same person, looking to the other side.
        itself_turned_share: how many of these rows, mirrored or not, have a reference whose head is turned
            (`data.turned_heads`): words then say where the picture looks, and the photo all else.
        expressive_share: of how many rows whose captions tell an expression the references' mouths count less
            (`models.quiet_patches`), so that the words are needed to draw them.
        hat_share: of how many rows whose captions tell a hat, or none, what references show there counts less.
        least_timestep: the smallest timestep trained at; below some 400 the latents tell more than any reference.
        rendition_share: how many of the pictures are art renditions.
        rendition_itself_share: how many of these have the photo that they were made of among their references, rather
            than other photos alone.
        timestep_shift: moves the timesteps trained at towards more noise (`noise_schedule.stratified_timesteps`).
        condition_dropout: share of each unconditional kind that guidance needs: nothing known, and the person alone.
        words_alone_share: of the third, whose words nothing but the picture itself competes with.
        face_tokens: tokens made of f_a.
        gate_start: what the gates gamma are set to before the first step, without a change to what the UNet computes; 0
            leaves them as they are, closed in a new run as in the paper.
        aligned: half of the adapters' heads look first at the patches near their own place, for portraits that stand
            aligned as the references' crops do (`models.identity_adapter.nearness`).
        text_embedding: whether E_c replaces the identifier's token embedding; false for the paper's ablation.
        mixing: whether MFF mixes patch features and f_a; false for the paper's ablation, where the adapters read the
            patch features alone, each on its own.
        face_weight: how much more the face's latents count in the diffusion loss than the background's.
        eyes_and_mouth_weight: added there to that weight; they are a tenth of the picture and most of the person.
        input_perturbation: standard deviation of noise that is added to z_t's own without the model being told (Ning et
            al. 2023): it learns to go on from a state that is a little off, as its own are in sampling.
        snr_weighting: weigh the diffusion loss by min-SNR; false weighs all noise levels alike, as the paper does.
        snr_gamma: gamma of min-SNR.
        gradient_checkpointing: compute activations again in the backward pass instead of keeping them, for a GPU that
            the model hardly fits.
    """

    loop: LoopConfig
    base_learning_rate: float = 1.0
    gate_start: float = 0.0
    references: int = 4
    different_references: int | None = None
    joint: bool = False
    train_image_encoder: bool = False
    identity_weight: float = 0.1
    second_identity_weight: float = 0.0
    feature_weight: float = 0.0
    caption_weight: float = 0.0
    jitter: float = 0.0
    recognized: int = 16
    recognized_told: int = 0
    rollout_rows: int = 0
    rollout_steps: int = 4
    rollout_ancestral: bool = False
    rollout_weight: float = 1.0
    rollout_guidance_scale: float = 1.0
    rollout_identity_guidance_scale: float = 1.0
    rollout_early_guidance_scale: float | None = None
    rollout_early_identity_guidance_scale: float | None = None
    rollout_negative_prompt: str = ""
    rollout_guidance_rescale: float = 0.0
    rollout_turned_share: float = 0.0
    rollout_turned_reference_share: float = 0.0
    rollout_emotion_share: float = 0.0
    emotion_weight: float = 0.0
    rollout_colour_weight: float = 0.0
    rollout_renditions: int = 0
    adversarial_weight: float = 0.0
    face_adversarial_weight: float = 0.0
    adversarial_learning_rate: float = 1e-3
    adversarial_after: int = 0
    several_share: float = 0.7
    single_share: float = 0.4
    itself_share: float = 0.0
    itself_share_low_noise: float = 0.0
    itself_wordless_share: float = 0.0
    itself_mirrored_share: float = 0.0
    itself_turned_share: float = 0.0
    expressive_share: float = 0.0
    hat_share: float = 0.0
    least_timestep: int = 0
    rendition_share: float = 0.1
    rendition_itself_share: float = 0.0
    condition_dropout: float = 0.08
    words_alone_share: float = 0.08
    timestep_shift: float = 1.0
    face_tokens: int = 4
    aligned: bool = False
    text_embedding: bool = True
    mixing: bool = True
    face_weight: float = 1.0
    eyes_and_mouth_weight: float = 0.0
    input_perturbation: float = 0.0
    snr_weighting: bool = True
    snr_gamma: float = 5.0
    gradient_checkpointing: bool = False


@dataclass(frozen=True)
class DecoderConfig:
    """How the decoder learns to make photos of what the model draws (`stages.decoder`).

    Attributes:
        loop: the training loop.
        redrawn: how many pictures the model redraws to learn from.
        encoded_share: how many of a batch are latents that the encoder made: the decoder stays the encoder's too.
        face_weight: how much more the face's pixels count.
        eyes_and_mouth_weight: added there to that weight.
        pixel_weight: of the mean absolute difference from the photo.
        colour_weight: of blurred pictures' colour differences.
        oil_paintings: how many times as often as other redrawn pictures those of oil paintings come.
        spectrum_weight: of frequencies with more energy in what is made of photos, or of oil paintings, than in these
            (`stages.spectrum.spectrum_excess`).
        brushwork_weight: of how much less or more fine detail what is made of oil paintings has than these, and of how
            much more what is made of photos has (`stages.spectrum.texture_difference`).
        feature_weight: of the recogniser's middle features, of the face, of a window and of the eyes.
        identity_weight: of the recogniser's cosine to the photo.
        second_identity_weight: of the same as a second recogniser sees it (`faces.face_res`).
        adversarial_weight: of what gives a picture away to a discriminator, of each of the three.
        adversarial_learning_rate: of these.
        adversarial_after: steps in which they learn alone.
    """

    loop: LoopConfig = field(
        default_factory=lambda: LoopConfig(
            steps=800, batch_size=16, learning_rate=3e-4, warmup_steps=20, weight_decay=0.0, ema_decay=0.995
        )
    )
    redrawn: int = 2500
    encoded_share: float = 0.25
    face_weight: float = 2.0
    eyes_and_mouth_weight: float = 0.0
    pixel_weight: float = 1.0
    colour_weight: float = 2.0
    oil_paintings: float = 1.0
    spectrum_weight: float = 0.0
    brushwork_weight: float = 0.0
    feature_weight: float = 0.3
    identity_weight: float = 0.1
    second_identity_weight: float = 0.0
    adversarial_weight: float = 0.03
    adversarial_learning_rate: float = 2e-3
    adversarial_after: int = 40


@dataclass(frozen=True)
class Config:
    """Everything a run needs, as read from its TOML file; `portrait_size` is the pictures' side in pixels."""

    name: str
    autoencoder: AutoencoderConfig
    clip: ClipConfig
    diffusion: DiffusionConfig
    idadapter: IdAdapterConfig
    bundle: BundleConfig
    patches: PatchesConfig = field(default_factory=PatchesConfig)
    decoder: DecoderConfig = field(default_factory=DecoderConfig)
    portrait_size: int = PORTRAIT_SIZE


T = TypeVar("T")


def read_table(kind: type[T], table: dict[str, Any]) -> T:
    """A dataclass out of a TOML table; a sub-table becomes the dataclass that its field is declared as.

    Raises:
        ValueError: the table has a key the dataclass lacks, or lacks one that has no default, or a value is none of
            those that its field may have.
    """
    known = {f.name for f in fields(kind)}  # type: ignore[arg-type]
    unknown = set(table) - known
    if unknown:
        raise ValueError(f"unknown setting {', '.join(sorted(unknown))} for {kind.__name__}; it takes {sorted(known)}")
    needed = {f.name for f in fields(kind) if f.default is MISSING and f.default_factory is MISSING}  # type: ignore[arg-type]
    missing = needed - set(table)
    if missing:
        raise ValueError(f"{kind.__name__} needs {', '.join(sorted(missing))}")
    hints, values = get_type_hints(kind), dict(table)
    for name, value in table.items():
        hint = hints[name]
        if is_dataclass(hint):
            if not isinstance(value, dict):
                raise ValueError(f"{name} of {kind.__name__} must be a table, not {value!r}")
            values[name] = read_table(hint, value)
        elif get_origin(hint) is Literal and value not in get_args(hint):
            raise ValueError(f"{name} of {kind.__name__} must be one of {', '.join(get_args(hint))}, not {value!r}")
    return kind(**values)


def read_config(path: Path) -> Config:
    """Reads a configuration file.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no TOML, a table is missing, or a table has an unknown key, lacks a needed one or has a value
            that is not possible there.
    """
    tables = tomllib.loads(path.read_text())
    kinds = {
        "autoencoder": AutoencoderConfig,
        "clip": ClipConfig,
        "patches": PatchesConfig,
        "diffusion": DiffusionConfig,
        "idadapter": IdAdapterConfig,
        "decoder": DecoderConfig,
        "bundle": BundleConfig,
    }
    size = tables.pop("portrait_size", PORTRAIT_SIZE)
    for optional in ("patches", "decoder"):
        tables.setdefault(optional, {})
    if set(tables) != {"name", *kinds}:
        raise ValueError(f"{path} has {sorted(tables)}; a configuration has name and the tables {sorted(kinds)}")
    if not isinstance(size, int) or size <= 0 or size % 64:
        raise ValueError(f"{path}: portrait_size must be a multiple of 64 pixels, not {size}")
    read = {table: read_table(kind, tables[table]) for table, kind in kinds.items()}
    return Config(name=tables["name"], **read, portrait_size=size)
