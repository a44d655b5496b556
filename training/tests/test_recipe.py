"""A recipe goes through its phases in a given time, and goes on where it was stopped."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from idadapter import recipe
from idadapter.config import Config
from idadapter.recipe import Phase, follow, phase_config, plan_phase, read_recipe, seconds_a_step

PHASES = [
    Phase("patches", 1.0, loop={"learning_rate": 2e-3}),
    Phase("idadapter", 3.0, settings={"joint": True, "rollout_rows": 0}),
]


@pytest.fixture(autouse=True)
def drawn_data(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IDADAPTER_DATA", str(data))


def weights(run: Path, part: str) -> dict[str, torch.Tensor]:
    return load_file(run / "parts" / part / "model.safetensors")


def test_measuring_a_step_leaves_the_weights_as_they_are(config: Config, run: Path, make_tiny_stage):
    stage = make_tiny_stage("patches", run)
    before = {name: value.clone() for name, value in stage.module.state_dict().items()}
    each = seconds_a_step(stage, config.patches.loop, run / "measured")
    assert 0 < each < 60 and not (run / "measured").exists()
    assert all(torch.equal(value, before[name]) for name, value in stage.module.state_dict().items())
    # What runs after a step is the stage's own again.
    assert stage.after_step.__func__ is type(stage).after_step


def test_each_phase_takes_the_steps_that_fit_its_share(
    config: Config, run: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(recipe, "seconds_a_step", lambda *_: 0.5)
    given: list[tuple[str, int, float]] = []

    def noted(stage, loop, folder, parts):
        given.append((stage.name, loop.steps, loop.learning_rate))
        (folder / "checkpoint-00000001").mkdir(parents=True)

    monkeypatch.setattr(recipe, "train", noted)
    follow(config, PHASES, run, cache, minutes=200 / 60)
    [(first, few, rate), (second, many, _)] = given
    assert (first, second) == ("patches", "idadapter") and rate == 2e-3
    # 50 and 150 seconds, less what it takes to make a stage.
    assert 60 < few <= 100 and 240 < many <= 300
    # A finished phase is not begun again, and a planned one keeps its plan.
    follow(config, PHASES, run, cache, minutes=1)
    assert len(given) == 2
    folder = run / "recipe" / "1-idadapter"
    assert plan_phase(PHASES[1], config, run, cache, folder, seconds=1) == many


def test_phases_go_on_from_one_another(config: Config, run: Path, cache: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(recipe, "seconds_a_step", lambda *_: 1.0)
    before = {part: weights(run, part) for part in ("image_encoder", "unet")}
    unstopped = recipe.train
    calls: list[str] = []

    def stopped_once(stage, loop, folder, parts):
        calls.append(stage.name)
        if calls == ["patches", "idadapter"]:
            unstopped(stage, loop, folder, parts, stop_at=1)
            raise KeyboardInterrupt
        unstopped(stage, loop, folder, parts)

    monkeypatch.setattr(recipe, "train", stopped_once)
    monkeypatch.setattr(recipe, "plan_phase", lambda *_: 2)
    with pytest.raises(KeyboardInterrupt):
        follow(config, PHASES, run, cache, minutes=1)
    assert (run / "recipe" / "0-patches" / "done").exists() and not (run / "recipe" / "1-idadapter" / "done").exists()
    follow(config, PHASES, run, cache, minutes=1)
    assert calls == ["patches", "idadapter", "idadapter"]
    assert (run / "recipe" / "1-idadapter" / "done").exists()
    assert not list((run / "recipe").glob("*/*/checkpoint-*"))
    for part, values in before.items():
        after = weights(run, part)
        assert any(not torch.equal(after[name], value) for name, value in values.items())


def test_a_phase_changes_its_stage_alone(config: Config):
    changed = phase_config(config, PHASES[1], 40)
    assert changed.idadapter.joint and not config.idadapter.joint
    assert changed.idadapter.loop == replace(config.idadapter.loop, steps=40, warmup_steps=2)
    assert changed.patches == config.patches and changed.diffusion == config.diffusion
    # A short phase is not all warm-up.
    assert phase_config(config, PHASES[1], 8).idadapter.loop.warmup_steps == 1


@pytest.mark.parametrize("name", ["mini", "mini_gpu"])
def test_the_shipped_recipes_can_be_read(name: str):
    config, phases = read_recipe(Path(__file__).parents[1] / "recipes" / f"{name}.toml")
    assert config.name == "idadapter-mini"
    assert {phase.stage for phase in phases} == {"patches", "idadapter"}
    assert phase_config(config, phases[-1], 40).idadapter.rollout_rows > 0


@pytest.mark.parametrize(
    ("phase", "told"),
    [
        ('stage = "dream"\nshare = 1.0', "dream"),
        ('stage = "patches"\nshare = 0.0', "share above 0"),
        ('stage = "patches"', "share above 0"),
        ('stage = "patches"\nshare = 1.0\nspeed = 2', "speed"),
        ('stage = "patches"\nshare = 1.0\nsettings = { drift = 1.0 }', "drift"),
        ('stage = "patches"\nshare = 1.0\nloop = { rate = 1.0 }', "rate.*learning_rate"),
        ('stage = "patches"\nshare = 1.0\nloop = { steps = 7 }', "steps"),
    ],
)
def test_what_is_no_recipe_is_refused(phase: str, told: str, tmp_path: Path):
    (tmp_path / "tiny.toml").write_text(Path(__file__).with_name("tiny.toml").read_text())
    path = tmp_path / "recipe.toml"
    path.write_text(f'config = "tiny.toml"\n[[phases]]\n{phase}\n')
    with pytest.raises(ValueError, match=told):
        read_recipe(path)


def test_a_recipe_without_phases_is_refused(tmp_path: Path):
    path = tmp_path / "recipe.toml"
    path.write_text('config = "tiny.toml"\n')
    with pytest.raises(ValueError, match="phases"):
        read_recipe(path)
