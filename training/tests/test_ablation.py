"""Ablations: each switch leaves out what it says and nothing else, and the tool goes on where it stopped."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import onnxruntime
import pytest
import torch
from configured import configure
from safetensors.torch import load_file

from idadapter.__main__ import make_stage
from idadapter.ablate import (
    VARIANTS,
    check_settings,
    copy_base,
    train_variant,
    variant_config,
    with_loop,
    write_report,
)
from idadapter.ablation_report import to_figure, to_table
from idadapter.config import Config
from idadapter.export import export_graph
from idadapter.graphs import graph_specs
from idadapter.loop import StepRandom
from idadapter.models.identity_adapter import adapter_parameters
from idadapter.models.mixed_features import MixedFeatures
from idadapter.parts import (
    copy_parts,
    read_mixed_features,
    read_text_encoder,
    read_unet,
    write_mixed_features,
    write_unet,
)
from idadapter.stages.idadapter import IdAdapterStage
from idadapter.tokenizer import IDENTIFIER, load_tokenizer

BY_NAME = {variant.name: variant for variant in VARIANTS}


@pytest.fixture
def trained(config: Config, data: Path, cache: Path, parts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Trains a variant for some steps and gives its folder."""
    monkeypatch.setenv("IDADAPTER_DATA", str(data))

    def run(name: str, steps: int = 2, folder: str = "run") -> Path:
        variant = BY_NAME[name]
        path = tmp_path / folder / name
        assert train_variant(variant, variant_config(config, variant, steps), parts, path, cache)
        return path

    return run


def test_every_variant_trains_with_the_frozen_base_and_equal_budget(config: Config):
    configs = [variant_config(config, variant, 70) for variant in VARIANTS]
    assert {c.idadapter.loop.steps for c in configs} == {70}
    assert len({c.idadapter.loop for c in configs}) == 1
    shortcuts = replace(
        config.idadapter,
        itself_share=0.5,
        itself_share_low_noise=0.9,
        itself_wordless_share=0.6,
        itself_mirrored_share=0.6,
        least_timestep=400,
        eyes_and_mouth_weight=3.0,
        train_image_encoder=True,
        caption_weight=0.1,
        recognized_told=2,
        rollout_rows=2,
        second_identity_weight=0.1,
        emotion_weight=0.1,
        rollout_colour_weight=1.0,
    )
    configs += [variant_config(replace(config, idadapter=shortcuts), variant, 70) for variant in VARIANTS]
    for c in (c.idadapter for c in configs):
        assert not any((c.train_image_encoder, c.caption_weight, c.recognized_told, c.rollout_rows, c.emotion_weight))
        assert not any((c.joint, c.single_share, c.itself_wordless_share, c.itself_mirrored_share, c.least_timestep))
        assert c.itself_share == c.itself_share_low_noise == 1
        assert c.eyes_and_mouth_weight == c.second_identity_weight == 0
    assert configs[: len(VARIANTS)] == configs[len(VARIANTS) :]
    configs = configs[: len(VARIANTS)]
    assert [c.idadapter.references for c in configs] == [4, 4, 4, 4, 1, 2, 3, 5]
    assert [c.idadapter.identity_weight == 0 for c in configs].count(True) == 1


def test_all_variants_may_take_larger_batches_and_steps(config: Config):
    larger = with_loop(config, 48, 3e-4)
    loops = [variant_config(larger, variant, 70).idadapter.loop for variant in VARIANTS]
    assert {(loop.batch_size, loop.learning_rate) for loop in loops} == {(48, 3e-4)}
    assert with_loop(config, None, None) == config


def test_without_text_embedding_the_text_is_the_identifiers_own(trained, config: Config, parts: Path):
    folder = trained("without_text")
    embedding = read_text_encoder(parts).get_input_embeddings().weight
    identifier = load_tokenizer(parts / "tokenizer").convert_tokens_to_ids(IDENTIFIER + "</w>")
    state = load_file(folder / "parts" / "mixed_features" / "model.safetensors")
    assert torch.equal(state["textual.3.bias"], embedding[identifier]) and not state["textual.3.weight"].any()
    before = load_file(parts / "mixed_features" / "model.safetensors")
    assert not torch.equal(state["patch_in.weight"], before["patch_in.weight"])


def test_without_mff_every_token_is_one_patch(parts: Path):
    torch.manual_seed(0)
    mixed = MixedFeatures(patch_width=8, face_width=6, width=16, text_width=12, heads=2, face_tokens=2, mixing=False)
    patches, classes, faces = torch.randn(1, 3, 4, 8), torch.randn(1, 3, 8), torch.randn(1, 3, 6)
    tokens, embedding = mixed(patches, classes, faces)
    assert tokens.shape == (1, 3 * 4 + 2, 16)
    other = patches.clone()
    other[0, 2] += 1
    changed = (mixed(other, classes, faces)[0] - tokens).abs().amax(-1)[0] > 0
    assert changed.nonzero().flatten().tolist() == [10, 11, 12, 13]
    assert torch.equal(mixed(patches, classes, faces + 1)[0], tokens)
    # The text keeps its own way.
    assert not torch.equal(mixed(patches, -classes, faces)[1], embedding)


def test_idle_parts_do_not_train(config: Config, data: Path, cache: Path, run: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("IDADAPTER_DATA", str(data))
    shutil.rmtree(run / "parts" / "mixed_features")

    def trained_names(name: str) -> set[str]:
        stage, _ = make_stage("idadapter", variant_config(config, BY_NAME[name], 1), run, cache)
        return {key for key, p in stage.module.named_parameters() if p.requires_grad}

    full = trained_names("full")
    assert full - trained_names("without_text") == {key for key in full if key.startswith("mixed_features.textual.")}
    idle = ("mixed_features.blocks.", "mixed_features.face_in.", "mixed_features.face_beside.")
    assert full - trained_names("without_mff") == {key for key in full if key.startswith(idle)}
    assert full == trained_names("n1") == trained_names("without_identity_loss")


def test_without_identity_loss_only_the_diffusion_loss_is_left(
    config: Config, data: Path, cache: Path, run: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("IDADAPTER_DATA", str(data))
    changed = variant_config(config, BY_NAME["without_identity_loss"], 1)
    stage, _ = make_stage("idadapter", changed, run, cache)
    assert isinstance(stage, IdAdapterStage)
    loss, scalars = stage.loss(stage.module, StepRandom(0, 0, 0), 0)
    assert loss.item() == scalars["diffusion"].item() and "faces" not in scalars
    # The same batch has an identity loss otherwise.
    configure(stage, identity_weight=0.1)
    assert "faces" in stage.loss(stage.module, StepRandom(0, 0, 0), 0)[1]


@pytest.mark.parametrize("name", ["without_text", "without_mff"])
def test_variants_are_served_as_they_are(name: str, trained, config: Config, tmp_path: Path):
    folder = trained(name, steps=1)
    changed = variant_config(config, BY_NAME[name], 1)
    specs = graph_specs(folder / "parts", changed.idadapter.references)
    export_graph(next(spec for spec in specs if spec.name == "mixed_features"), tmp_path / "bundle")
    session = onnxruntime.InferenceSession(tmp_path / "bundle" / "mixed_features" / "model.onnx")
    inputs = {value.name: value.shape for value in session.get_inputs()}
    assert set(inputs) == {"patch_features", "class_embedding", "face_embedding", "photo_counts"}
    random = np.random.default_rng(0)
    values = {key: random.normal(size=(1, *shape[1:])).astype(np.float32) for key, shape in inputs.items()}
    values["photo_counts"] = np.ones(1, np.float32)

    def run(**changes: np.ndarray) -> dict[str, np.ndarray]:
        names = [value.name for value in session.get_outputs()]
        return dict(zip(names, session.run(names, {**values, **changes}), strict=True))

    plain, other = run(), run(class_embedding=-values["class_embedding"])
    same_text = np.allclose(plain["identity_embedding"], other["identity_embedding"], atol=1e-6)
    assert same_text == (name == "without_text")
    other = run(face_embedding=-values["face_embedding"])
    assert np.allclose(plain["identity_tokens"], other["identity_tokens"], atol=1e-6) == (name == "without_mff")


def test_a_stopped_variant_goes_on_and_a_finished_one_is_left_alone(
    config: Config, data: Path, cache: Path, parts: Path, tmp_path: Path, trained, monkeypatch: pytest.MonkeyPatch
):
    whole = trained("n2", steps=3)
    changed = variant_config(config, BY_NAME["n2"], 3)
    folder = tmp_path / "stopped" / "n2"
    changed = replace(
        changed, idadapter=replace(changed.idadapter, loop=replace(changed.idadapter.loop, checkpoint_every=1))
    )
    assert not train_variant(BY_NAME["n2"], changed, parts, folder, cache, minutes=0)
    assert train_variant(BY_NAME["n2"], changed, parts, folder, cache)
    for part in ("unet", "mixed_features"):
        one, two = (load_file(path / "parts" / part / "model.safetensors") for path in (whole, folder))
        assert all(torch.equal(one[key], two[key]) for key in one), part
    monkeypatch.setattr("idadapter.ablate.train", lambda *_, **__: pytest.fail("trained again"))
    assert train_variant(BY_NAME["n2"], changed, parts, folder, cache)


def test_a_base_is_taken_without_what_knows_the_identity(
    config: Config, data: Path, cache: Path, parts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("IDADAPTER_DATA", str(data))
    trained_parts = tmp_path / "trained" / "parts"
    copy_parts(parts, trained_parts)
    unet, mixed = read_unet(trained_parts), read_mixed_features(trained_parts)
    with torch.no_grad():
        for parameter in [*adapter_parameters(unet), *mixed.parameters()]:
            parameter.add_(0.5)
    write_unet(trained_parts, unet)
    write_mixed_features(trained_parts, mixed)
    modules = []
    for number, base in enumerate((parts, trained_parts)):
        run = tmp_path / f"run{number}"
        copy_base(base, run / "parts")
        modules.append(make_stage("idadapter", variant_config(config, BY_NAME["full"], 1), run, cache)[0].module)
    fresh, from_trained = (module.state_dict() for module in modules)
    assert fresh.keys() == from_trained.keys()
    assert all(torch.equal(fresh[key], from_trained[key]) for key in fresh)
    assert torch.equal(fresh["unet.conv_in.weight"], unet.conv_in.weight)


def test_a_base_may_be_a_run_that_has_no_mixed_features_yet(parts: Path, tmp_path: Path):
    base = tmp_path / "base"
    shutil.copytree(parts, base)
    shutil.rmtree(base / "mixed_features")
    copy_base(base, tmp_path / "parts")
    copied, there = ({path.name for path in folder.iterdir()} for folder in (tmp_path / "parts", base))
    assert copied - {"complete"} == there and "complete" in copied
    # Whoever wants everything is told what is missing.
    with pytest.raises(FileNotFoundError, match="mixed_features"):
        copy_parts(base, tmp_path / "everything")


def test_changed_settings_are_refused(tmp_path: Path):
    check_settings(tmp_path / "run", {"steps": 5, "people": 3})
    check_settings(tmp_path / "run", {"steps": 5, "people": 3})
    with pytest.raises(ValueError, match=r"other settings \(steps\)"):
        check_settings(tmp_path / "run", {"steps": 6, "people": 3})


def test_the_table_and_the_figure_show_ours_beside_the_papers(tmp_path: Path):
    figures = {
        "id_sim": {"value": 0.5123, "interval": [0.49, 0.53], "count": 100},
        "expr_div": {"value": 0.66, "interval": [0.6, 0.7], "count": 70},
        "pose_div_yaw": {"value": 13.25, "interval": None, "count": 70},
        "realism": None,
    }
    rows = [(variant.label, figures, variant.paper) for variant in VARIANTS[:2]]
    table = to_table(rows)
    # Of a hundred, thirty portraits have no face to take an expression of.
    assert "| IDAdapter, N = 4 | 0.512 (0.490 to 0.530; 100) | 0.603 | 66 (60 to 70; 70) | 65 |" in table
    assert table.count("\n|") == 3 and "number of pictures after them" in table
    root = ElementTree.fromstring(to_figure(rows))
    texts = [element.text for element in root.iter("{http://www.w3.org/2000/svg}text")]
    assert {"without text embedding", "0.512", "66", "13.2"} <= set(texts)
    # Without a finished variant there is an empty table, not an error.
    assert write_report(tmp_path).startswith("| variant |")
    assert (tmp_path / "ablation.svg").exists()
