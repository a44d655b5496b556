"""What one denoising step knows of a held-out person, noise level by noise level: where training has got to.

`python -m idadapter.one_step --parts ../models/default` hides a photo of each person in noise, has the model say what
it was, once with another photo of the person as reference and once with nobody, and prints how far the answers are off
and whose face the two recognisers see in them. Samples mix all noise levels' mistakes; this tells them apart.
`--reference itself` shows the very photo that is hidden (what can be copied is), `stranger` another person's.

Last it prints how much words change of the text encoder's output (what is all but nothing no UNet can follow) and of
the UNet's first answer, of which few words make more than hundredths: they are the small part of a portrait.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from .data.facts import Facts, read_facts
from .data.records import data_folder, read_records
from .data.templates import PORTRAIT_SIZE, portrait_template
from .data.vision_crops import crop, to_tensor
from .evaluation.people import held_out_people, open_photos
from .faces.recognizer import TEMPLATE, FaceRecognizer
from .judges.face_judge import FaceJudge
from .models.autoencoder import decode, encode
from .models.clip import normalize_pixels
from .models.face_warp import FaceWarp
from .models.idadapter import IdAdapterModel
from .models.identity_adapter import IdentityAdapter, predict
from .models.text_encoder import encode_text, identifier_positions
from .noise_schedule import Diffusion, read_noise_schedule
from .parts import read_image_encoder, read_mixed_features, read_text_encoder, read_unet, read_vae
from .sampling import to_pictures
from .tokenizer import IDENTIFIER, encode_prompts, load_tokenizer, with_identifier

RATIOS = (0.15, 0.3, 0.6, 1.2, 2.5, 5.0, 50.0)
"""Standard deviations of the noise over the latents' own."""

WORDS = ("{} is smiling", "{}, facing left", "{} with glasses", "{} wearing a hat", "a pencil sketch of a {}")
"""Prompts that are compared with the class noun alone."""

Embed = Callable[[np.ndarray], np.ndarray]
"""Portraits [n, s, s, 3] uint8 to unit-length embeddings [n, d]."""


@dataclass(frozen=True)
class Level:
    """Means over the people at one noise level.

    Attributes:
        noise: standard deviation of the noise over the latents' own.
        timestep: where the schedule has that much.
        coarse: squared error of latents averaged over 2 x 2, over their variance about the mean face.
        fine: squared error of what that average leaves out, over its variance: from 1 on nothing of it is known.
        known: cosine of the recogniser in the loss between the answer and the reference.
        known_nobody: the same where nobody was the reference.
        unseen: cosine of the independent recogniser between the answer and the reference.
        unseen_nobody: the same where nobody was the reference.
    """

    noise: float
    timestep: int
    coarse: float
    fine: float
    known: float
    known_nobody: float
    unseen: float
    unseen_nobody: float


@torch.no_grad()
def one_step(
    parts: Path, references: np.ndarray, targets: np.ndarray, facts: list[Facts], known: Embed, unseen: Embed
) -> list[Level]:
    """Asks the model once at each of `RATIOS`.

    Args:
        parts: a bundle, or a run's parts.
        references: [n, s, s, 3] uint8 portraits of n people, 2 or more.
        targets: [n, s, s, 3] other portraits of them, to be hidden in noise.
        facts: of the references; their class nouns are the prompts.
        known: the recogniser that f_a is from.
        unseen: a recogniser the model has nothing to do with.
    """
    vae, encoder = read_vae(parts), read_image_encoder(parts)
    model = IdAdapterModel(read_unet(parts), read_text_encoder(parts), read_mixed_features(parts)).eval()
    tokenizer, diffusion = load_tokenizer(parts / "tokenizer"), Diffusion(read_noise_schedule(parts))
    count = len(references)
    size = encoder.config.image_size
    output = encoder(pixel_values=normalize_pixels(to_tensor([crop(portrait, size) for portrait in references])))
    patches, classes = output.last_hidden_state[:, None, 1:], output.pooler_output[:, None]
    who = {"known": known(references), "unseen": unseen(references)}
    photos = torch.ones(count, 1)
    tokens, embedding = model.mixed_features(patches, classes, torch.from_numpy(who["known"])[:, None], photos)
    bias = model.mixed_features.token_bias(photos, patches.shape[2])
    nouns = [fact.noun for fact in facts]
    ids = {
        "": encode_prompts(tokenizer, [with_identifier(noun, noun) for noun in nouns]),
        "_nobody": encode_prompts(tokenizer, nouns),
    }
    identifier = tokenizer.convert_tokens_to_ids(IDENTIFIER + "</w>")
    latents = encode(vae, to_tensor(targets))
    about_the_mean = latents - latents.mean(0)
    deviation, variances = float(about_the_mean.std()), split(about_the_mean)
    noise = torch.randn(latents.shape, generator=torch.Generator().manual_seed(0))
    amounts = ((1 - diffusion.alphas) / diffusion.alphas.clamp_min(1e-12)).sqrt() / deviation

    def ask(case: str, noisy: Tensor, timesteps: Tensor) -> Tensor:
        here = 0.0 if case else 1.0
        positions = identifier_positions(ids[case], identifier)
        predicted = model.denoise(noisy, timesteps, ids[case], positions, (here * tokens, here * embedding), bias)
        return diffusion.clean(noisy, predicted, timesteps)

    levels = []
    for ratio in RATIOS:
        timestep = int((amounts.clamp_min(1e-12).log() - np.log(ratio)).abs().argmin())
        timesteps = torch.full((count,), timestep)
        noisy, _, _ = diffusion.add_noise(latents, noise, timesteps)
        clean = {case: ask(case, noisy, timesteps) for case in ids}
        off = split(clean[""] - latents)
        pictures = {case: to_pictures(decode(vae, clean[case])) for case in ids}
        cosines = {
            f"{name}{case}": float((judge(pictures[case]) * who[name]).sum(1).mean())
            for name, judge in (("known", known), ("unseen", unseen))
            for case in ids
        }
        coarse, fine = (error / variance for error, variance in zip(off, variances, strict=True))
        levels.append(Level(noise=ratio, timestep=timestep, coarse=coarse, fine=fine, **cosines))
    return levels


@torch.no_grad()
def changed_by_words(parts: Path, noun: str = "man", pictures: int = 8) -> dict[str, tuple[float, float]]:
    """How much each of `WORDS` changes against the class noun alone, nobody being the reference.

    Returns:
        for each prompt two mean squared differences over what is changed's mean square: of the text encoder's output,
        and of the UNet's first answer, to noise alone.
    """
    encoder, unet, tokenizer = read_text_encoder(parts), read_unet(parts), load_tokenizer(parts / "tokenizer")
    prompts = [noun, *(form.format(noun) for form in WORDS)]
    ids = encode_prompts(tokenizer, prompts)
    nobody = torch.zeros(len(prompts), encoder.config.hidden_size)
    hidden = encode_text(encoder, ids, nobody, torch.full((len(prompts),), -1))
    size, last = unet.config.sample_size, len(Diffusion(read_noise_schedule(parts)).alphas) - 1
    noise = torch.randn(pictures, unet.config.in_channels, size, size, generator=torch.Generator().manual_seed(0))
    answers = torch.stack(
        [
            predict(unet, noise, torch.full((pictures,), last), words.expand(pictures, -1, -1), None, None)
            for words in hidden
        ]
    )

    def change(values: Tensor) -> list[float]:
        return ((values[1:] - values[0]).square().flatten(1).mean(1) / values[0].square().mean()).tolist()

    return dict(zip(prompts[1:], zip(change(hidden), change(answers), strict=True), strict=True))


def split(values: Tensor) -> tuple[float, float]:
    """Mean squares of [b, c, h, w] averaged over 2 x 2, and of what that leaves out."""
    coarse = functional.interpolate(functional.avg_pool2d(values, 2), scale_factor=2.0)
    return float(coarse.square().mean()), float((values - coarse).square().mean())


def gates(parts: Path) -> list[float]:
    """|tanh(gamma)| of every adapter's attention, from the input over the middle to the output."""
    unet = read_unet(parts)
    blocks = [*unet.down_blocks, unet.mid_block, *unet.up_blocks]
    adapters = [module for block in blocks for module in block.modules() if isinstance(module, IdentityAdapter)]
    return [abs(float(adapter.alpha_attn.detach().tanh())) for adapter in adapters]


def to_markdown(levels: list[Level]) -> str:
    """The levels as a table."""
    names = [field.name for field in fields(Level)]
    rows = [[f"{getattr(level, name):.3g}" for name in names] for level in levels]
    return "\n".join(f"| {' | '.join(row)} |" for row in [names, ["---"] * len(names), *rows])


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--parts", type=Path, required=True, help="a bundle, or a run's parts")
    parser.add_argument("--people", type=int, default=40, help="held-out people with two photos or more")
    parser.add_argument("--reference", choices=("other", "itself", "stranger"), default="other")
    arguments = parser.parse_args()
    if arguments.people < 2:
        parser.error("--people must be 2 or more: latents are measured against their spread over people")
    data = data_folder()
    records = read_records(data)
    facts = read_facts(records)
    pairs = [rows[:2] for rows in held_out_people(records) if len(rows) > 1][: arguments.people]
    photos = open_photos(data, records, facts, sorted(row for pair in pairs for row in pair))
    first, second = (np.stack([photos[pair[i]].portrait(PORTRAIT_SIZE) for pair in pairs]) for i in (0, 1))
    recognizer, judge = FaceRecognizer.from_package(), FaceJudge(data / "evaluators")
    template = portrait_template(PORTRAIT_SIZE)
    warp = FaceWarp(template, TEMPLATE, recognizer.input_size)

    @torch.no_grad()
    def known(portraits: np.ndarray) -> np.ndarray:
        return recognizer(warp(to_tensor(portraits))).numpy()

    def unseen(portraits: np.ndarray) -> np.ndarray:
        return np.stack([judge.run(portrait, template.astype(np.float32))[0] for portrait in portraits])

    who = [facts[pair[0]] for pair in pairs]
    references = {"other": first, "itself": second, "stranger": np.roll(first, 1, axis=0)}[arguments.reference]
    print(to_markdown(one_step(arguments.parts, references, second, who, known, unseen)))
    ceiling = [float((of(first) * of(second)).sum(1).mean()) for of in (known, unseen)]
    print(f"{len(pairs)} people; two real photos of each: known {ceiling[0]:.3f}, unseen {ceiling[1]:.3f}")
    words = changed_by_words(arguments.parts)
    told = [f"{prompt} {text:.3f} {answer:.4f}" for prompt, (text, answer) in words.items()]
    print(f"changed by words, the text encoder's output and the UNet's first answer: {', '.join(told)}")
    print(f"gates: {', '.join(f'{gate:.2f}' for gate in gates(arguments.parts))}")


if __name__ == "__main__":
    main()
