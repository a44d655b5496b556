"""Trains through several phases in a given time: each learning rate falls to its end when the time is up.

`python -m idadapter.recipe --recipe recipes/mini.toml --run ../runs/mini --minutes 90` measures each phase's
steps on this machine and takes as many as fit in its share of the time. The same command goes on where it was stopped.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import time
import tomllib
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import torch.distributed

from .__main__ import STAGES, make_stage, start_parts
from .config import Config, read_config
from .loop import LoopConfig, Stage, StepRandom, train

MEASURED_STEPS = 12
"""Steps that a phase's speed is measured by; the first third of them is not counted."""


@dataclass(frozen=True)
class Phase:
    """A stretch of one stage with settings of its own.

    Attributes:
        stage: of `idadapter.__main__.STAGES`.
        share: of the time, among the shares of all phases.
        settings: changed in the stage's table of the configuration.
        loop: changed in its loop; `steps` follows from the time.
    """

    stage: str
    share: float
    settings: dict[str, Any] = field(default_factory=dict)
    loop: dict[str, Any] = field(default_factory=dict)


def read_recipe(path: Path) -> tuple[Config, list[Phase]]:
    """Reads a recipe: `config`, the path of a configuration file from there, and its `phases` in order.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it has no phases, or one of them an unknown stage or setting, or no share above 0.
    """
    table = tomllib.loads(path.read_text())
    if set(table) != {"config", "phases"} or not table["phases"]:
        raise ValueError(f"{path} has {sorted(table)}; a recipe has config and one or more [[phases]]")
    config = read_config(path.parent / table["config"])
    phases = [_phase(phase) for phase in table["phases"]]
    for phase in phases:
        phase_config(config, phase, 1)
    return config, phases


def _phase(table: dict[str, Any]) -> Phase:
    unknown = set(table) - {"stage", "share", "settings", "loop"}
    if unknown or table.get("stage") not in STAGES or not table.get("share", 0) > 0:
        raise ValueError(f"a phase has a stage ({', '.join(STAGES)}), a share above 0, settings and loop, not {table}")
    return Phase(**table)


def phase_config(config: Config, phase: Phase, steps: int) -> Config:
    """The configuration of a phase that takes so many steps.

    Raises:
        ValueError: it changes a setting that its stage does not have.
    """
    table = getattr(config, phase.stage)
    for given, settings, own in ((phase.settings, table, "loop"), (phase.loop, table.loop, "steps")):
        known = {one.name for one in fields(settings)} - {own}
        if unknown := set(given) - known:
            raise ValueError(
                f"unknown setting {', '.join(sorted(unknown))} in a phase of {phase.stage}; it takes {sorted(known)}"
            )
    loop: LoopConfig = replace(table.loop, **phase.loop, steps=steps)
    loop = replace(loop, warmup_steps=min(loop.warmup_steps, max(1, steps // 8)))
    return replace(config, **{phase.stage: replace(table, **phase.settings, loop=loop)})


def seconds_a_step(stage: Stage, loop: LoopConfig, folder: Path) -> float:
    """What a step takes here, with a learning rate of 0 so that the weights stay.

    Args:
        stage: its module is as it was afterwards.
        loop: of the phase.
        folder: for what is written meanwhile; removed again.
    """
    marks: list[float] = []
    after_step = stage.after_step

    def mark(random: StepRandom, step: int) -> dict[str, float]:
        if stage.device.type == "cuda":
            torch.cuda.synchronize(stage.device)
        marks.append(time.monotonic())
        return {}

    stage.after_step = mark  # type: ignore[method-assign]
    never = 10**9
    still = replace(loop, steps=never, learning_rate=0.0, sample_every=never, checkpoint_every=never)
    try:
        train(stage, still, folder, stop_at=MEASURED_STEPS)
    finally:
        stage.after_step = after_step  # type: ignore[method-assign]
    if _rank() == 0:
        shutil.rmtree(folder)
    uncounted = MEASURED_STEPS // 3
    return (marks[-1] - marks[uncounted - 1]) / (MEASURED_STEPS - uncounted)


def _rank() -> int:
    return torch.distributed.get_rank() if torch.distributed.is_initialized() else 0


def plan_phase(phase: Phase, config: Config, run: Path, cache: Path, folder: Path, seconds: float) -> int:
    """How many steps a phase takes, measured once and kept in its folder.

    Args:
        phase: to be planned.
        config: of the recipe.
        run: the run's folder.
        cache: folder of derived data.
        folder: of the phase.
        seconds: that it may take, from now on.
    """
    plan = folder / "plan.json"
    if plan.exists():
        return json.loads(plan.read_text())["steps"]
    began = time.monotonic()
    folder.mkdir(parents=True, exist_ok=True)
    stage, loop = make_stage(phase.stage, phase_config(config, phase, 1), run, cache)
    each = seconds_a_step(stage, loop, folder / "measured")
    steps = [max(1, int((seconds - (time.monotonic() - began)) / each))]
    if torch.distributed.is_initialized():
        torch.distributed.broadcast_object_list(steps, 0)
    if _rank() == 0:
        partial = plan.with_suffix(".partial")
        partial.write_text(json.dumps({"steps": steps[0], "seconds_a_step": round(each, 4)}) + "\n")
        partial.rename(plan)
    return steps[0]


def follow(config: Config, phases: list[Phase], run: Path, cache: Path, minutes: float) -> None:
    """Goes through the phases, each from the parts that the one before it left; finished ones are left out.

    Args:
        config: of the recipe.
        phases: in order.
        run: the run's folder.
        cache: folder of derived data.
        minutes: for all phases together.
    """
    whole = sum(phase.share for phase in phases)
    for number, phase in enumerate(phases):
        folder = run / "recipe" / f"{number}-{phase.stage}"
        if (folder / "done").exists():
            continue
        seconds = 60 * minutes * phase.share / whole
        steps = plan_phase(phase, config, run, cache, folder, seconds)
        stage, loop = make_stage(phase.stage, phase_config(config, phase, steps), run, cache)
        train(stage, loop, folder / stage.name, run / "parts")
        if _rank() == 0:
            (folder / "done").touch()
            # Its weights are in the parts; its optimizer serves nobody any more.
            for checkpoint in (folder / stage.name).glob("checkpoint-*"):
                shutil.rmtree(checkpoint)
        if torch.distributed.is_initialized():
            torch.distributed.barrier()


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        prog="idadapter.recipe", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--recipe", type=Path, required=True)
    parser.add_argument("--run", type=Path, required=True, help="the run's folder, as of `python -m idadapter`")
    parser.add_argument("--minutes", type=float, required=True, help="for all phases together")
    parser.add_argument("--start-from", type=Path, help="bundle whose weights a run without parts starts from")
    parser.add_argument("--cache", type=Path, help="folder of derived data; default: cache beside the run")
    arguments = parser.parse_args()
    config, phases = read_recipe(arguments.recipe)
    if arguments.start_from is not None:
        start_parts(arguments.start_from, arguments.run / "parts")
    cache = arguments.cache or arguments.run.parent / "cache"
    follow(config, phases, arguments.run, cache, arguments.minutes)


if __name__ == "__main__":
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    main()
