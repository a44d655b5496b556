"""The paper's Table 2 at this size: each part of IDAdapter left out in turn, all else equal.

`python -m idadapter.ablate --config configs/mini.toml --base ../models/default --run ../runs/ablation --steps 4000`
trains every variant from the same base with the same seeds, batches and steps and the paper's frozen-base stage, serves
each and judges it. The same command goes on where it was stopped; the table and the figure hold what is finished.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import time
from dataclasses import MISSING, asdict, dataclass, fields, is_dataclass, replace
from pathlib import Path
from typing import Any, get_type_hints

from .__main__ import make_stage
from .ablation_report import to_figure, to_table
from .bundle_config import BundleConfig
from .config import Config, IdAdapterConfig, read_config
from .evaluate import evaluate
from .evaluation.report import to_json
from .export import export_bundle
from .loop import latest_checkpoint, train
from .noise_schedule import SCHEDULER_FILE
from .parts import TRAINED_PARTS, copy_parts
from .service import running_service

KINDS = ("noun", "expression")
"""The prompts that the paper's figures need."""

COPIED_PARTS = tuple(name for name in TRAINED_PARTS if name != "mixed_features")
"""What a variant begins with of its base; a run has no MFF yet after `diffusion`."""

COMMON: dict[str, Any] = {
    "joint": False,
    "references": 4,
    "different_references": None,
    "single_share": 0.0,
    "itself_share": 1.0,
    "itself_share_low_noise": 1.0,
    "itself_wordless_share": 0.0,
    "itself_mirrored_share": 0.0,
    "itself_turned_share": 0.0,
    "least_timestep": 0,
    "timestep_shift": 1.0,
    "train_image_encoder": False,
    "second_identity_weight": 0.0,
    "feature_weight": 0.0,
    "caption_weight": 0.0,
    "recognized": 8,
    "recognized_told": 0,
    "rollout_rows": 0,
    "rollout_turned_reference_share": 0.0,
    "emotion_weight": 0.0,
    "rollout_colour_weight": 0.0,
    "jitter": 0.0,
    "face_weight": 1.0,
    "eyes_and_mouth_weight": 0.0,
    "input_perturbation": 0.0,
}
"""What every variant is configured with, whatever the run's configuration says."""

FREE_SETTINGS = frozenset(
    {f"idadapter.{name}" for name in COMMON}
    | {f"idadapter.loop.{name}" for name in ("steps", "log_every", "sample_every", "checkpoint_every")}
)
"""Settings of a run that change no figure."""

NOTED_TABLES = {"idadapter": IdAdapterConfig, "bundle": BundleConfig}
"""What the tables of a run's settings are of."""


@dataclass(frozen=True)
class Variant:
    """One row of the table.

    Attributes:
        name: of its folder.
        label: in the table.
        changes: of the configuration.
        paper: the paper's figures for it, where it has them (shares, degrees).
    """

    name: str
    label: str
    changes: dict[str, Any]
    paper: dict[str, float]


VARIANTS = (
    Variant(
        "full",
        "IDAdapter, N = 4",
        {},
        {"id_sim": 0.603, "expr_div": 0.65, "pose_div_pitch": 7.90, "pose_div_yaw": 16.47},
    ),
    Variant("without_text", "without text embedding", {"text_embedding": False}, {"id_sim": 0.394}),
    Variant("without_mff", "without MFF", {"mixing": False}, {"id_sim": 0.517, "expr_div": 0.46}),
    Variant("without_identity_loss", "without identity loss", {"identity_weight": 0.0}, {"id_sim": 0.592}),
    Variant("n1", "N = 1", {"references": 1}, {"id_sim": 0.602, "expr_div": 0.37, "pose_div_yaw": 12.90}),
    Variant("n2", "N = 2", {"references": 2}, {"expr_div": 0.58}),
    Variant("n3", "N = 3", {"references": 3}, {"expr_div": 0.61}),
    Variant("n5", "N = 5", {"references": 5}, {"expr_div": 0.64}),
)
"""In the order they are trained: the first rows tell most."""


def variant_config(config: Config, variant: Variant, steps: int) -> Config:
    """The run's configuration for a variant: the paper's frozen base, N different photos, so many steps.

    The photo to be drawn is one of the N [ours; the paper does not say]: adapters that never see it learn next to
    nothing in so few steps (docs/training_log.md, sixth session). N then says how much else is mixed into what they
    copy.

    Args:
        config: of the run; its loop, learning rate and loss weights are kept.
        variant: what is left out.
        steps: of every variant.
    """
    loop = config.idadapter.loop
    loop = replace(loop, steps=steps, sample_every=steps, warmup_steps=min(loop.warmup_steps, steps // 10))
    changed: IdAdapterConfig = replace(config.idadapter, **{**COMMON, "loop": loop, **variant.changes})
    return replace(config, idadapter=changed)


def with_loop(config: Config, batch_size: int | None, learning_rate: float | None) -> Config:
    """The configuration with so many photos a step of the stage, and its learning rate; None changes nothing."""
    loop = config.idadapter.loop
    if batch_size is not None:
        loop = replace(loop, batch_size=batch_size)
    if learning_rate is not None:
        loop = replace(loop, learning_rate=learning_rate)
    return replace(config, idadapter=replace(config.idadapter, loop=loop))


def copy_base(base: Path, parts: Path) -> None:
    """Copies a base model without what knows the identity: MFF stays behind, and with it the adapters are made anew.

    Args:
        base: parts of a run after `diffusion`, or a bundle, whose UNet was trained with its words alone too.
        parts: folder to write; marked `complete` at the end.

    Raises:
        FileNotFoundError: `base` lacks another part.
    """
    shutil.rmtree(parts, ignore_errors=True)
    copy_parts(base, parts, COPIED_PARTS)
    (parts / "complete").touch()


def train_variant(
    variant: Variant, config: Config, base: Path, folder: Path, cache: Path, minutes: float | None = None
) -> bool:
    """Trains a variant, going on from its newest checkpoint.

    Args:
        variant: what is left out.
        config: of the variant.
        base: see `copy_base`.
        folder: of the variant.
        cache: folder of derived data.
        minutes: stop with a checkpoint after so many.

    Returns:
        whether all its steps are done.
    """
    steps = config.idadapter.loop.steps
    parts = folder / "parts"
    if not (parts / "complete").exists():
        copy_base(base, parts)
    # The parts of a finished stage hold its averaged weights; they must not be trained from again.
    if not (folder / "trained").exists():
        stage, loop = make_stage("idadapter", config, folder, cache)
        train(stage, loop, folder / stage.name, parts, minutes=minutes)
        newest = latest_checkpoint(folder / stage.name)
        if newest is None or int(newest.name.removeprefix("checkpoint-")) < steps:
            return False
        (folder / "trained").touch()
    return True


def judge_variant(config: Config, folder: Path, cache: Path, people: int) -> None:
    """Exports a trained variant, serves it, and writes `evaluation.json` into its folder."""
    if (folder / "evaluation.json").exists():
        return
    bundle = folder / "bundle"
    if not bundle.exists():
        export_bundle(folder / "parts", bundle, config.bundle, config.idadapter.references)
    with running_service(bundle) as service:
        # What varies is to come from the photos and the model, as in the paper.
        evaluation = evaluate(service, None, cache, people, {"pose_variation": 0}, folder / "sheet.png", KINDS)
    write_whole(folder / "evaluation.json", json.dumps(to_json(evaluation), indent=2) + "\n")


def write_whole(path: Path, text: str) -> None:
    """Writes a file so that nobody finds it half written, however many processes write it."""
    partial = path.with_name(f"{path.stem}.{os.getpid()}.partial{path.suffix}")
    partial.write_text(text)
    partial.rename(path)


def write_report(run: Path) -> str:
    """Writes `ablation.md`, `ablation.json` and `ablation.svg` of what is finished, and returns the table."""
    rows = []
    for variant in VARIANTS:
        path = run / variant.name / "evaluation.json"
        if path.exists():
            figures = json.loads(path.read_text())["figures"]["portraits"]
            rows.append((variant.label, figures, variant.paper))
    table = to_table(rows)
    described = [{"variant": label, "figures": figures, "paper": paper} for label, figures, paper in rows]
    write_whole(run / "ablation.md", table)
    write_whole(run / "ablation.json", json.dumps(described, indent=2) + "\n")
    write_whole(run / "ablation.svg", to_figure(rows))
    return table


def noted_settings(config: Config, base: Path, steps: int, people: int) -> dict[str, Any]:
    """What the figures of a run of ablations depend on, beside the code and the data.

    Args:
        config: of the run.
        base: see `copy_base`.
        steps: of every variant.
        people: held-out people each variant is judged by.
    """
    files = [base / name / file for name in COPIED_PARTS for file in ("config.json", "model.safetensors")]
    files += sorted(path for path in (base / "tokenizer").iterdir() if path.is_file())
    files += [base / SCHEDULER_FILE] if (base / SCHEDULER_FILE).exists() else []
    # A bundle may have been replaced since.
    digests = {path.relative_to(base).as_posix(): file_digest(path) for path in files}
    untold = ("name", "version", "description", "license", "origin")
    return {
        "base": digests.pop("unet/model.safetensors"),
        "parts": digests,
        "steps": steps,
        "people": people,
        "portrait_size": config.portrait_size,
        "idadapter": asdict(config.idadapter),
        "bundle": {name: value for name, value in asdict(config.bundle).items() if name not in untold},
    }


def file_digest(path: Path) -> str:
    """A file's sha256, read piece by piece."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def with_new_fields(kind: type, table: dict[str, Any]) -> dict[str, Any]:
    """A dataclass's table as it was noted; fields that the dataclass did not have then are at their defaults."""
    hints = get_type_hints(kind)
    table = {f.name: f.default for f in fields(kind) if f.default is not MISSING} | table
    nested = {name for name in table if is_dataclass(hints.get(name))}
    return {name: with_new_fields(hints[name], value) if name in nested else value for name, value in table.items()}


def differing(found: Any, now: Any, name: str = "") -> list[str]:
    """Names of what differs, those of nested tables with dots."""
    if not (isinstance(found, dict) and isinstance(now, dict)):
        return [] if found == now else [name]
    keys = sorted(found.keys() | now.keys())
    return [n for key in keys for n in differing(found.get(key), now.get(key), f"{name}.{key}".removeprefix("."))]


def check_settings(run: Path, settings: dict[str, Any]) -> None:
    """Notes what a run of ablations is made with, and refuses to go on with anything else.

    Several processes may train variants of one run at once (`--only`): none finds a file half written. What a run did
    not note yet when it was begun is not compared.

    Args:
        run: its folder.
        settings: see `noted_settings`.

    Raises:
        ValueError: the run was begun with other settings; the message names them.
    """
    path = run / "settings.json"
    if not path.exists():
        run.mkdir(parents=True, exist_ok=True)
        write_whole(path, json.dumps(settings, indent=2) + "\n")
        return
    found = {
        name: with_new_fields(NOTED_TABLES[name], value) if name in NOTED_TABLES else value
        for name, value in json.loads(path.read_text()).items()
    }
    # As JSON has it: lists for tuples.
    plain = json.loads(json.dumps(settings))
    now = {name: plain.get(name) for name in found}
    if changed := [name for name in differing(found, now) if name not in FREE_SETTINGS]:
        raise ValueError(f"{run} was begun with other settings ({', '.join(changed)}); take another --run")


def main() -> None:
    """Trains, judges, reports."""
    parser = argparse.ArgumentParser(
        prog="idadapter.ablate", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--base", type=Path, required=True, help="parts of a run after `diffusion`, or a bundle")
    parser.add_argument("--run", type=Path, required=True, help="a folder for each variant, the table and the figure")
    parser.add_argument("--cache", type=Path, help="folder of derived data; default: cache beside the run")
    parser.add_argument("--steps", type=int, required=True, help="of every variant")
    parser.add_argument("--batch-size", type=int, help="photos a step, instead of the configuration's: more on a GPU")
    parser.add_argument("--learning-rate", type=float, help="instead of the configuration's: more where all is new")
    parser.add_argument("--people", type=int, default=100, help="held-out people each variant is judged by")
    parser.add_argument("--only", nargs="+", choices=[variant.name for variant in VARIANTS])
    parser.add_argument("--minutes", type=float, help="stop with a checkpoint after so many")
    arguments = parser.parse_args()
    started = time.monotonic()
    config = with_loop(read_config(arguments.config), arguments.batch_size, arguments.learning_rate)
    cache = arguments.cache or arguments.run.parent / "cache"
    check_settings(arguments.run, noted_settings(config, arguments.base, arguments.steps, arguments.people))
    for variant in VARIANTS:
        if arguments.only and variant.name not in arguments.only:
            continue
        left = None if arguments.minutes is None else arguments.minutes - (time.monotonic() - started) / 60
        if left is not None and left <= 0:
            break
        folder = arguments.run / variant.name
        changed = variant_config(config, variant, arguments.steps)
        if train_variant(variant, changed, arguments.base, folder, cache, left):
            judge_variant(changed, folder, cache, arguments.people)
            print(write_report(arguments.run), flush=True)
    print(write_report(arguments.run))


if __name__ == "__main__":
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    main()
