"""A resumed run is the run itself: bit for bit, in every stage."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from safetensors.torch import load_file

from idadapter import loop
from idadapter.__main__ import STAGES
from idadapter.config import Config
from idadapter.loop import Stage, StepRandom, latest_checkpoint, learning_rate_factor, lock_folder, train

MakeStage = Callable[..., Stage]


def parts_of(run: Path) -> dict[str, torch.Tensor]:
    files = sorted((run / "parts").glob("*/model.safetensors"))
    return {f"{file.parent.name}.{name}": value for file in files for name, value in load_file(file).items()}


@pytest.mark.parametrize("name", STAGES)
def test_a_resumed_run_has_the_weights_of_an_uninterrupted_one(
    name: str, config: Config, parts: Path, make_tiny_stage: MakeStage, tmp_path: Path
):
    loop = getattr(config, name).loop
    runs = {}
    for kind, stops in {"whole": [None], "resumed": [2, None]}.items():
        run = runs[kind] = tmp_path / kind
        shutil.copytree(parts, run / "parts")
        for stop_at in stops:
            train(make_tiny_stage(name, run), loop, run / name, run / "parts", stop_at)
    checkpoints = [latest_checkpoint(run / name) for run in runs.values()]
    assert [checkpoint.name for checkpoint in checkpoints] == ["checkpoint-00000004"] * 2
    whole, resumed = (load_file(checkpoint / "model.safetensors") for checkpoint in checkpoints)
    assert whole.keys() == resumed.keys()
    for key, value in whole.items():
        assert torch.equal(value, resumed[key]), key
    # The averaged weights, which parts are made of, go on as well.
    averaged, resumed_average, initial = parts_of(runs["whole"]), parts_of(runs["resumed"]), parts_of(parts.parent)
    assert averaged.keys() == resumed_average.keys() == initial.keys()
    for key, value in averaged.items():
        assert torch.equal(value, resumed_average[key]), key
    assert any(not torch.equal(value, initial[key]) for key, value in averaged.items())


def test_it_stops_when_the_minutes_of_any_process_are_over(
    config: Config, run: Path, make_tiny_stage: MakeStage, monkeypatch: pytest.MonkeyPatch
):
    # Another process's are over after a step; alone this one would take them all.
    others = iter([False, True])
    monkeypatch.setattr(loop, "any_process", lambda here, _: here or next(others))
    train(make_tiny_stage("idadapter", run), config.idadapter.loop, run / "idadapter", minutes=1000)
    assert latest_checkpoint(run / "idadapter").name == "checkpoint-00000001"


def test_an_image_encoder_that_trains_too_resumes_to_the_same_weights(
    config: Config, parts: Path, make_tiny_stage: MakeStage, tmp_path: Path
):
    joint = replace(config, idadapter=replace(config.idadapter, joint=True, train_image_encoder=True))
    encoders = []
    for kind, stops in {"whole": [None], "resumed": [2, None]}.items():
        run = tmp_path / kind
        shutil.copytree(parts, run / "parts")
        for stop_at in stops:
            stage = make_tiny_stage("idadapter", run, joint)
            train(stage, joint.idadapter.loop, run / "idadapter", run / "parts", stop_at)
        encoders.append(load_file(run / "parts" / "image_encoder" / "model.safetensors"))
    whole, resumed = encoders
    before = load_file(parts / "image_encoder" / "model.safetensors")
    assert all(torch.equal(value, resumed[key]) for key, value in whole.items())
    assert all(not torch.equal(value, before[key]) for key, value in whole.items())


def test_what_a_text_encoder_may_not_leave_is_the_same_after_a_resume(
    config: Config, parts: Path, make_tiny_stage: MakeStage, tmp_path: Path
):
    held = replace(config, clip=replace(config.clip, freeze_image=True, drift_weight=20.0))
    encoders = []
    for kind, stops in {"whole": [None], "resumed": [2, None]}.items():
        run = tmp_path / kind
        shutil.copytree(parts, run / "parts")
        for stop_at in stops:
            train(make_tiny_stage("clip", run, held), held.clip.loop, run / "clip", run / "parts", stop_at)
        encoders.append(load_file(run / "parts" / "text_encoder" / "model.safetensors"))
    assert all(torch.equal(value, encoders[1][key]) for key, value in encoders[0].items())


def test_a_killed_run_goes_on_from_its_last_checkpoint(
    config: Config, run: Path, make_tiny_stage: MakeStage, tmp_path: Path
):
    loop = replace(config.diffusion.loop, checkpoint_every=1)
    train(make_tiny_stage("diffusion", run), loop, run / "diffusion")
    found = sorted(path.name for path in (run / "diffusion").glob("checkpoint-*"))
    assert found == ["checkpoint-00000003", "checkpoint-00000004"]
    expected = load_file(run / "diffusion" / found[1] / "model.safetensors")
    shutil.rmtree(run / "diffusion" / found[1])
    # What was being written when the process died is in the way of nothing.
    (run / "diffusion" / "partial").mkdir()
    (run / "diffusion" / "partial" / "model.safetensors").write_bytes(b"half")
    train(make_tiny_stage("diffusion", run), loop, run / "diffusion")
    again = load_file(run / "diffusion" / found[1] / "model.safetensors")
    assert all(torch.equal(value, again[key]) for key, value in expected.items())


def test_a_checkpoint_is_named_when_every_process_has_written_to_it(
    config: Config, run: Path, make_tiny_stage: MakeStage, monkeypatch: pytest.MonkeyPatch
):
    happened: list[str] = []

    def noted(owner: type, name: str) -> None:
        function = getattr(owner, name)

        def wrapped(self: object, *given: object, **named: object) -> object:
            answer = function(self, *given, **named)
            if owner is Accelerator or self == run / "diffusion" / "partial":
                happened.append(name)
            return answer

        monkeypatch.setattr(owner, name, wrapped)

    noted(Accelerator, "save_state")
    noted(Accelerator, "wait_for_everyone")
    noted(Path, "rename")
    train(make_tiny_stage("diffusion", run), config.diffusion.loop, run / "diffusion", stop_at=1)
    saved = happened.index("save_state")
    assert happened[saved : saved + 4] == ["save_state", "wait_for_everyone", "rename", "wait_for_everyone"]


@pytest.mark.parametrize("name", ["idadapter", "diffusion", "patches"])
def test_batches_drawn_ahead_are_those_drawn_when_asked_for(
    name: str, config: Config, run: Path, make_tiny_stage: MakeStage
):
    loop = replace(getattr(config, name).loop, steps=3)
    for workers in (0, 2):
        train(make_tiny_stage(name, run), loop, run / f"{name}-{workers}", workers=workers)
    weights = [load_file(run / f"{name}-{workers}" / "checkpoint-00000003" / "model.safetensors") for workers in (0, 2)]
    assert all(torch.equal(value, weights[1][key]) for key, value in weights[0].items())


def test_the_log_has_means_also_after_resuming(config: Config, run: Path, make_tiny_stage: MakeStage):
    loop = config.autoencoder.loop
    assert loop.log_every == 3
    folders = run / "whole", run / "resumed"
    train(make_tiny_stage("autoencoder", run), loop, folders[0])
    train(make_tiny_stage("autoencoder", run), loop, folders[1], stop_at=2)
    train(make_tiny_stage("autoencoder", run), loop, folders[1])
    [whole], [resumed] = ([json.loads(line) for line in (f / "log.jsonl").open()] for f in folders)
    assert resumed["step"] == whole["step"] == 3
    assert 0.5 < resumed["loss"] / whole["loss"] < 2


def test_every_step_and_process_has_its_own_randomness():
    first = StepRandom(0, 5, 0).normal(8)
    assert torch.equal(first, StepRandom(0, 5, 0).normal(8))
    for other in ((1, 5, 0), (0, 6, 0), (0, 5, 1)):
        assert not torch.equal(first, StepRandom(*other).normal(8))
        assert StepRandom(0, 5, 0).numpy.random() != StepRandom(*other).numpy.random()


def test_learning_rate_warms_up_and_falls_to_its_share(config: Config):
    loop = replace(config.clip.loop, steps=100, warmup_steps=10, final_learning_rate=0.1)
    factors = [learning_rate_factor(loop, step) for step in range(101)]
    assert factors[0] == pytest.approx(0.1)
    assert factors[100] == pytest.approx(0.1)
    assert max(factors) == pytest.approx(1, abs=0.03)
    assert all(a >= b for a, b in zip(factors[10:], factors[11:], strict=False))


def test_a_second_process_in_the_same_run_folder_is_refused(tmp_path: Path) -> None:
    first = lock_folder(tmp_path)
    with pytest.raises(RuntimeError, match="another process trains"):
        lock_folder(tmp_path)
    first.close()
    lock_folder(tmp_path).close()
