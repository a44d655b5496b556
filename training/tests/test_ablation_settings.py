"""What a run of ablations notes: what changes its figures is refused, what does not is not."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from idadapter import ablate
from idadapter.ablate import check_settings, noted_settings, write_report
from idadapter.config import Config, IdAdapterConfig


@pytest.fixture
def noted(config: Config, parts: Path):
    """What is noted of a run, with changes of the configuration."""

    def note(base: Path = parts, **changes: Any) -> dict[str, Any]:
        return noted_settings(replace(config, **changes), base, steps=5, people=3)

    return note


@pytest.fixture
def begun(noted, tmp_path: Path) -> Path:
    """The folder of a run that was begun."""
    check_settings(tmp_path / "run", noted())
    return tmp_path / "run"


def rewrite(run: Path, change) -> None:
    settings = json.loads((run / "settings.json").read_text())
    change(settings)
    (run / "settings.json").write_text(json.dumps(settings))


def test_the_same_settings_go_on(begun: Path, noted):
    before = (begun / "settings.json").read_text()
    check_settings(begun, noted())
    assert (begun / "settings.json").read_text() == before
    assert [path.name for path in begun.iterdir()] == ["settings.json"]


def test_what_changes_the_figures_is_refused_by_name(begun: Path, noted, config: Config):
    defaults = replace(config.bundle.defaults, guidance_scale=4.0, pose_variation=3.0)
    loop = replace(config.idadapter.loop, learning_rate=0.5)
    refused = {
        r"\(bundle.defaults.guidance_scale, bundle.defaults.pose_variation\)": {
            "bundle": replace(config.bundle, defaults=defaults)
        },
        r"\(bundle.mouth_bias\)": {"bundle": replace(config.bundle, mouth_bias=-1.0)},
        r"\(idadapter.loop.learning_rate\)": {"idadapter": replace(config.idadapter, loop=loop)},
        r"\(idadapter.face_tokens\)": {"idadapter": replace(config.idadapter, face_tokens=7)},
        r"\(portrait_size\)": {"portrait_size": 192},
    }
    for message, changes in refused.items():
        with pytest.raises(ValueError, match=message):
            check_settings(begun, noted(**changes))


@pytest.mark.parametrize(
    "file", ["unet/model.safetensors", "vae_decoder/model.safetensors", "tokenizer/tokenizer.json"]
)
def test_another_base_is_refused(file: str, begun: Path, noted, parts: Path, tmp_path: Path):
    shutil.copytree(parts, tmp_path / "base")
    check_settings(begun, noted(tmp_path / "base"))
    with (tmp_path / "base" / file).open("ab") as opened:
        opened.write(b" ")
    name = "base" if file.startswith("unet") else f"parts.{file}"
    with pytest.raises(ValueError, match=rf"\({name}\)"):
        check_settings(begun, noted(tmp_path / "base"))


def test_what_changes_no_figure_is_not_refused(begun: Path, noted, config: Config, parts: Path, tmp_path: Path):
    bundle = replace(config.bundle, version="9.9.9", description="other words")
    loop = replace(config.idadapter.loop, steps=99, checkpoint_every=1, log_every=7)
    # Every variant is configured with something else than these.
    changed = replace(config.idadapter, loop=loop, jitter=0.7, rollout_rows=3, references=2)
    check_settings(begun, noted(bundle=bundle, idadapter=changed))
    shutil.copytree(parts, tmp_path / "base")
    shutil.rmtree(tmp_path / "base" / "mixed_features")
    check_settings(begun, noted(tmp_path / "base"))


def test_a_run_that_noted_less_goes_on(begun: Path, noted, config: Config):
    def as_before(settings: dict[str, Any]) -> None:
        for name in ("parts", "portrait_size", "bundle"):
            del settings[name]

    rewrite(begun, as_before)
    check_settings(begun, noted())
    check_settings(begun, noted(bundle=replace(config.bundle, mouth_bias=-1.0)))
    with pytest.raises(ValueError, match=r"\(idadapter.aligned\)"):
        check_settings(begun, noted(idadapter=replace(config.idadapter, aligned=not config.idadapter.aligned)))


def test_a_field_that_is_new_since_counts_as_its_default(
    begun: Path, noted, config: Config, monkeypatch: pytest.MonkeyPatch
):
    @dataclass(frozen=True)
    class Newer(IdAdapterConfig):
        invented: float = 0.25

    monkeypatch.setitem(ablate.NOTED_TABLES, "idadapter", Newer)

    def newer(hat_bias: float = config.bundle.hat_bias, **changes: Any) -> dict[str, Any]:
        idadapter = Newer(**{**vars(config.idadapter), **changes})
        return noted(idadapter=idadapter, bundle=replace(config.bundle, hat_bias=hat_bias))

    def older(settings: dict[str, Any]) -> None:
        del settings["idadapter"]["loop"]["mixed_precision"], settings["bundle"]["hat_bias"]
        del settings["bundle"]["defaults"]["pose_variation"]

    check_settings(begun, newer())
    with pytest.raises(ValueError, match=r"\(idadapter.invented\)"):
        check_settings(begun, newer(invented=0.5))
    rewrite(begun, older)
    with pytest.raises(ValueError, match=r"\(bundle.hat_bias\)"):
        check_settings(begun, newer())
    check_settings(begun, newer(hat_bias=0.0))


def test_a_report_that_is_stopped_leaves_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    names = ["ablation.json", "ablation.md", "ablation.svg"]
    write_report(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == names
    before = [(tmp_path / name).read_text() for name in names]
    write_text = Path.write_text

    def stopped(path: Path, text: str) -> None:
        write_text(path, text[: len(text) // 2])
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "write_text", stopped)
    with pytest.raises(KeyboardInterrupt):
        write_report(tmp_path)
    assert [(tmp_path / name).read_text() for name in names] == before
