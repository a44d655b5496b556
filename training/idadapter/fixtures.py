"""Writes what PyTorch, diffusers, transformers and numpy give, for the tests of the TypeScript pipeline.

    python -m idadapter.fixtures --out ../tests/fixtures

Reproducible: the same libraries give the same bytes. Numbers are raw little-endian float32, the rest
gzipped JSON.
"""

import argparse
import gzip
import itertools
import json
import logging
from pathlib import Path

import numpy as np
import torch

from idadapter.fixture_prompts import make_prompts, make_tokenizer
from idadapter.samplers import SCHEDULERS, make_sampler, takes_generator

SPACINGS = ("leading", "linspace", "trailing")
SAMPLE_SIZE = 24
"""Numbers in a fake latent."""
NOISE_SEED = 21
"""Of the noise that stochastic samplers add at every step."""


def write_json(path: Path, value: object) -> None:
    """Writes gzipped JSON without a date, so that the same value gives the same bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    path.write_bytes(gzip.compress(text.encode("utf-8"), mtime=0))


def write_floats(path: Path, arrays: list[np.ndarray]) -> None:
    """Writes arrays one after another as little-endian float32."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(np.concatenate([array.ravel() for array in arrays]).astype("<f4").tobytes())


def write_noise(out: Path) -> None:
    """Streams of ``torch.randn``: seeds up to 2^64 - 1, sizes below and above 16, whole and broken blocks."""
    big = [16, 17, 31, 32, 1000, 2048]
    mixed = [1, 3, 20, 2, 16, 5, 15, 7, 33, 1, 4]
    cases = [(seed, sizes) for seed in (0, 1, 42, 20240313, 2**32 - 1) for sizes in (big, mixed)]
    cases += [(seed, [64, 3, 50, 3]) for seed in (2**32, 2**32 + 5, 2**53 + 1, 2**63, 2**64 - 1)]
    values = []
    for seed, sizes in cases:
        generator = torch.Generator("cpu").manual_seed(seed)
        values += [torch.randn(size, generator=generator).numpy() for size in sizes]
    write_json(out / "streams.json.gz", [{"seed": str(seed), "sizes": sizes} for seed, sizes in cases])
    write_floats(out / "streams.bin", values)


MEANS = 1.2 * np.sin(0.7 * np.arange(SAMPLE_SIZE))
"""Of the images that `best_prediction` knows, a number each; their standard deviation is `DEVIATION`."""
DEVIATION = 0.4


def best_prediction(prediction_type: str, alpha: float) -> tuple[float, float]:
    """The best denoiser of images x0 ~ N(m, s^2), as (a, b) of its answer a x + b m to x = sqrt(alpha) x0 + noise.

    As a trained UNet's, its errors do not outgrow the images, whatever the noise level.

    Args:
        prediction_type: "epsilon" or "v_prediction".
        alpha: cumulative alpha.
    """
    signal, noise = alpha**0.5, (1 - alpha) ** 0.5
    # E[x0 | x] = m + gain (x - signal m)
    gain = signal * DEVIATION**2 / (alpha * DEVIATION**2 + 1 - alpha)
    image = (gain, 1 - gain * signal)
    epsilon = ((1 - signal * image[0]) / noise, -signal * image[1] / noise)
    if prediction_type == "epsilon":
        return epsilon
    return signal * epsilon[0] - noise * image[0], signal * epsilon[1] - noise * image[1]


def walk(name: str, config: dict, steps: int, noise: np.ndarray) -> tuple[dict, np.ndarray]:
    """One whole trajectory of diffusers' scheduler.

    Returns:
        Its description, with (a, b) of `best_prediction` at each timestep, and the samples [1 + timesteps,
        SAMPLE_SIZE] from the scaled noise on.
    """
    scheduler = make_sampler(name, config)
    scheduler.set_timesteps(steps)
    random = {"generator": torch.Generator().manual_seed(NOISE_SEED)} if takes_generator(scheduler) else {}
    if hasattr(scheduler, "set_begin_index"):
        # Karras' levels may visit a timestep twice: diffusers would begin at the second and run off the end.
        scheduler.set_begin_index(0)
    # UniPC wants a batch and channels.
    sample = torch.from_numpy(noise)[None, :, None] * scheduler.init_noise_sigma
    samples, predictions = [sample.flatten().numpy()], []
    alphas = scheduler.alphas_cumprod.double().numpy()
    for timestep in scheduler.timesteps:
        model_input = scheduler.scale_model_input(sample, timestep).flatten().double().numpy()
        alpha = np.interp(timestep.item(), np.arange(len(alphas)), alphas)
        predictions.append(best_prediction(config["prediction_type"], float(alpha)))
        answer = predictions[-1][0] * model_input + predictions[-1][1] * MEANS
        prediction = torch.from_numpy(answer).float().view(sample.shape)
        sample = scheduler.step(prediction, timestep, sample, **random).prev_sample
        samples.append(sample.flatten().numpy())
    description = {
        "name": name,
        "config": config,
        "steps": steps,
        "timesteps": scheduler.timesteps.tolist(),
        "init_noise_sigma": float(scheduler.init_noise_sigma),
        "predictions": predictions,
    }
    return description, np.stack(samples)


def trajectory_cases() -> list[tuple[str, dict, int]]:
    """Scheduler, configuration and step count of every trajectory."""
    stable_diffusion = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
    cases = []
    for name, steps, prediction, spacing, zero_snr in itertools.product(
        SCHEDULERS, (20, 7), ("epsilon", "v_prediction"), SPACINGS, (False, True)
    ):
        # DDIM divides by an alpha of 0 here: diffusers gives infinities, the service refuses.
        if name == "ddim" and zero_snr and prediction == "epsilon" and spacing != "leading":
            continue
        config = {
            **stable_diffusion,
            "prediction_type": prediction,
            "timestep_spacing": spacing,
            "rescale_betas_zero_snr": zero_snr,
            "steps_offset": 1 if spacing == "leading" else 0,
        }
        if name == "ddim":
            config["clip_sample"] = False
        cases.append((name, config, steps))

    schedules, predictions = ("linear", "squaredcos_cap_v2"), ("epsilon", "v_prediction")
    for schedule, prediction in itertools.product(schedules, predictions):
        base = {"beta_schedule": schedule, "prediction_type": prediction, "timestep_spacing": "leading"}
        cases += [("ddim", {**base, "clip_sample": True, "set_alpha_to_one": False}, 12)]
        cases += [("ddim", {**base, "clip_sample": True, "clip_sample_range": 0.5}, 1)]
        for name, karras in itertools.product(("euler", "dpmpp_2m", "dpmpp_2m_sde", "unipc"), (False, True)):
            for final in ("zero", "sigma_min"):
                config = {**base, "use_karras_sigmas": karras, "final_sigmas_type": final}
                cases.append((name, config, 10))
                if final == "sigma_min":
                    cases.append((name, config, 16))

    velocity = {**stable_diffusion, "prediction_type": "v_prediction", "timestep_spacing": "trailing"}
    zero = {**velocity, "rescale_betas_zero_snr": True}
    for steps in (1, 2, 50):
        cases += [(name, zero, steps) for name in SCHEDULERS if name != "ddim"]
        cases.append(("ddim", {**zero, "clip_sample": False}, steps))
    cases += [(name, {**zero, "use_karras_sigmas": True}, 9) for name in SCHEDULERS if name != "ddim"]
    for spacing in SPACINGS:
        cases.append(("dpmpp_2m", {**velocity, "timestep_spacing": spacing, "lambda_min_clipped": -1.5}, 11))
    cases += [("dpmpp_2m", {**velocity, "final_sigmas_type": "sigma_min", "lower_order_final": False}, 8)]
    cases += [("dpmpp_2m", {**velocity, "final_sigmas_type": "sigma_min", "euler_at_final": True}, 17)]
    cases += [("euler", {**velocity, "num_train_timesteps": 250}, 13)]
    cases += [("unipc", {**velocity, "final_sigmas_type": "sigma_min", "lower_order_final": False}, 8)]
    karras = {"use_karras_sigmas": True, "sigma_min": 0.05, "sigma_max": 12.0, "final_sigmas_type": "sigma_min"}
    cases += [("unipc", {**velocity, **karras}, 11), ("dpmpp_2m", {**velocity, **karras}, 11)]
    return cases


def write_schedulers(out: Path) -> None:
    """Trajectories, and the timesteps of every step count of 1 to 100."""
    noise = torch.randn(SAMPLE_SIZE, generator=torch.Generator().manual_seed(11)).numpy()
    descriptions, samples = zip(*(walk(*case, noise) for case in trajectory_cases()), strict=True)
    described = {"means": MEANS.tolist(), "trajectories": descriptions}
    write_json(out / "trajectories.json.gz", described)
    write_floats(out / "trajectories.bin", list(samples))

    plans = []
    for name, spacing in itertools.product(SCHEDULERS, SPACINGS):
        scheduler = make_sampler(name, {"timestep_spacing": spacing})
        counts = []
        for steps in range(1, 101):
            scheduler.set_timesteps(steps)
            counts.append(scheduler.timesteps.tolist())
        plans.append({"name": name, "spacing": spacing, "timesteps": counts})
    write_json(out / "timesteps.json.gz", plans)


def umeyama(points: np.ndarray, template: np.ndarray) -> np.ndarray:
    """Umeyama 1991, equations 34 to 43, by singular values: [2, 3]; ``data.alignment`` uses a closed form."""
    source_mean, target_mean = points.mean(0), template.mean(0)
    source, target = points - source_mean, template - target_mean
    left, singular, right = np.linalg.svd(target.T @ source / len(points))
    signs = np.array([1.0, np.sign(np.linalg.det(left) * np.linalg.det(right))])
    scale = (singular * signs).sum() / source.var(0).sum()
    linear = scale * left @ np.diag(signs) @ right
    return np.concatenate([linear, (target_mean - linear @ source_mean)[:, None]], axis=1)


def write_geometry(out: Path) -> None:
    """Five-point sets, noisy images of a template and unrelated ones, with their least-squares similarity."""
    random = np.random.default_rng(5)
    template = np.array([[38.3, 51.7], [73.5, 51.5], [56.0, 71.7], [41.5, 92.4], [70.7, 92.2]])
    cases = []
    for index in range(40):
        angle, scale = random.uniform(-np.pi, np.pi), random.uniform(0.05, 20)
        turn = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        points = template @ turn.T + random.uniform(-2000, 2000, 2) + random.normal(0, 3 * scale, (5, 2))
        if index % 4 == 0:
            points = random.uniform(0, 640, (5, 2))
        matrix = umeyama(points, template).ravel()
        cases.append({"points": points.tolist(), "template": template.tolist(), "matrix": matrix.tolist()})
    write_json(out / "similarities.json.gz", cases)


def write_tokenizer(out: Path) -> None:
    """A small CLIP tokenizer, and the ids transformers gives for 500 odd prompts."""
    tokenizer = make_tokenizer(out)
    prompts = [{"text": text, "ids": tokenizer(text)["input_ids"]} for text in make_prompts(500)]
    write_json(out / "prompts.json.gz", prompts)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="the tests' fixtures folder")
    out: Path = parser.parse_args().out
    logging.getLogger("diffusers").setLevel(logging.ERROR)
    write_noise(out / "noise")
    write_schedulers(out / "schedulers")
    write_geometry(out / "geometry")
    write_tokenizer(out / "tokenizer")


if __name__ == "__main__":
    main()
