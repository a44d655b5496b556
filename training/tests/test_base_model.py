"""A base model in diffusers' layout becomes a run: its own numbers come out, it trains, and it is exported."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKL, DDPMScheduler, PNDMScheduler, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPVisionConfig, CLIPVisionModel

from idadapter import export
from idadapter.__main__ import make_stage
from idadapter.base_model import read_base_model
from idadapter.calibration import SAMPLE_PHOTO
from idadapter.config import Config
from idadapter.data.portraits import Portraits, open_portraits
from idadapter.data.templates import portrait_template
from idadapter.export import export_bundle
from idadapter.faces.recognizer import TEMPLATE
from idadapter.fixture_reference import read_photo
from idadapter.loop import StepRandom, train
from idadapter.models.autoencoder import decode, encode
from idadapter.models.face_warp import FaceWarp
from idadapter.models.identity_adapter import predict
from idadapter.models.text_encoder import encode_text
from idadapter.noise_schedule import Diffusion, make_noise_schedule, read_noise_schedule
from idadapter.parts import read_text_encoder, read_unet, read_vae
from idadapter.reference import ReferencePipeline
from idadapter.stages.clip import caption_corpus
from idadapter.tokenizer import train_tokenizer

SIZE = 64


@pytest.fixture(scope="module")
def base(portraits: Portraits, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The smallest Stable Diffusion, as diffusers' pipelines save theirs: predicts noise, scaled linear schedule."""
    folder = tmp_path_factory.mktemp("base")
    torch.manual_seed(0)
    tokenizer = train_tokenizer(caption_corpus(portraits, 500), merges=300, max_length=77)
    tokenizer.save_pretrained(str(folder / "tokenizer"))
    text = CLIPTextConfig(
        vocab_size=len(tokenizer), hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2,
        hidden_act="gelu", bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id,
    )  # fmt: skip
    CLIPTextModel(text).save_pretrained(str(folder / "text_encoder"))
    UNet2DConditionModel(
        sample_size=SIZE // 4, in_channels=4, out_channels=4, block_out_channels=(32, 64), layers_per_block=1,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"), up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        cross_attention_dim=32, attention_head_dim=4,
    ).save_pretrained(str(folder / "unet"))  # fmt: skip
    AutoencoderKL(
        block_out_channels=(16, 32, 32), down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3, norm_num_groups=8, latent_channels=4, scaling_factor=0.2,
    ).save_pretrained(str(folder / "vae"))  # fmt: skip
    PNDMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", steps_offset=1, skip_prk_steps=True
    ).save_pretrained(str(folder / "scheduler"))
    vision = CLIPVisionConfig(
        hidden_size=32, intermediate_size=64, num_hidden_layers=1, num_attention_heads=2, image_size=32, patch_size=16
    )
    CLIPVisionModel(vision).save_pretrained(str(folder / "image_encoder"))
    return folder


@pytest.fixture(scope="module")
def base_parts(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    parts = tmp_path_factory.mktemp("run") / "parts"
    read_base_model(base, base / "image_encoder", parts, SIZE)
    return parts


def test_the_parts_compute_what_the_base_model_does(base: Path, base_parts: Path):
    random = torch.Generator().manual_seed(1)
    sample, hidden = torch.randn(2, 4, 16, 16, generator=random), torch.randn(2, 77, 32, generator=random)
    tokens = torch.randn(2, 9, 32, generator=random)
    timesteps = torch.tensor([999, 10])
    with torch.no_grad():
        expected = UNet2DConditionModel.from_pretrained(str(base / "unet"))(sample, timesteps, hidden).sample
        found = predict(read_unet(base_parts), sample, timesteps, hidden, tokens, torch.ones(2))
        torch.testing.assert_close(found, expected)
        images = torch.rand(2, 3, SIZE, SIZE, generator=random)
        vae, read = AutoencoderKL.from_pretrained(str(base / "vae")), read_vae(base_parts)
        latents = vae.encode(images * 2 - 1).latent_dist.mode() * 0.2
        torch.testing.assert_close(encode(read, images), latents)
        torch.testing.assert_close(decode(read, latents), vae.decode(latents / 0.2).sample / 2 + 0.5)
        ids = torch.randint(0, 500, (2, 77), generator=random)
        text = CLIPTextModel.from_pretrained(str(base / "text_encoder"))
        nobody = torch.full((2,), -1)
        found = encode_text(read_text_encoder(base_parts), ids, torch.zeros(2, 32), nobody)
        torch.testing.assert_close(found, text(input_ids=ids).last_hidden_state, rtol=1e-4, atol=1e-5)


def test_a_base_published_before_there_were_gated_adapters_is_given_them(base: Path, base_parts: Path, tmp_path: Path):
    shutil.copytree(base, tmp_path / "base")
    path = tmp_path / "base" / "unet" / "config.json"
    # All that Stable Diffusion 1.5's says.
    said = (
        "_class_name _diffusers_version act_fn attention_head_dim block_out_channels center_input_sample "
        "cross_attention_dim down_block_types downsample_padding flip_sin_to_cos freq_shift in_channels "
        "layers_per_block mid_block_scale_factor norm_eps norm_num_groups out_channels sample_size up_block_types"
    ).split()
    config = {name: value for name, value in json.loads(path.read_text()).items() if name in said}
    assert len(config) == len(said)
    path.write_text(json.dumps(config))
    read_base_model(tmp_path / "base", base / "image_encoder", tmp_path / "parts", SIZE)
    found, expected = (read_unet(parts).state_dict() for parts in (tmp_path / "parts", base_parts))
    assert found.keys() == expected.keys() and any(".fuser." in name for name in found)


def test_a_base_model_trains_and_is_served(
    base_parts: Path, config: Config, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("IDADAPTER_DATA", str(data))
    shutil.copytree(base_parts, tmp_path / "run" / "parts")
    settings = replace(config.idadapter, gradient_checkpointing=True, snr_weighting=False)
    config = replace(config, portrait_size=SIZE, idadapter=settings)
    stage, loop = make_stage("idadapter", config, tmp_path / "run", tmp_path / "cache")
    assert stage.diffusion.predicts_noise
    train(stage, loop, tmp_path / "run" / "idadapter", tmp_path / "run" / "parts", stop_at=1)
    before, after = read_unet(base_parts).state_dict(), read_unet(tmp_path / "run" / "parts").state_dict()
    changed = {name for name, value in before.items() if not torch.equal(value, after[name])}
    assert changed and all(".fuser." in name or ".attn2.to_" in name for name in changed)
    with torch.no_grad():
        assert stage.sample(1).shape[1] % SIZE == 0
    bundle = tmp_path / "bundle"
    # A UNet too large for the quantiser, as Stable Diffusion's own is.
    monkeypatch.setattr(export, "ONNX_MESSAGE_BYTES", 1)
    photo = read_photo(SAMPLE_PHOTO)
    export_bundle(tmp_path / "run" / "parts", bundle, config.bundle, config.idadapter.references, photo=photo)
    manifest = json.loads((bundle / "bundle.json").read_text())
    assert manifest["image_size"] == manifest["faces"]["portrait"]["input_size"] == SIZE
    assert manifest["latent"] == {"channels": 4, "size": 16}
    assert manifest["variants"] == {} and not (bundle / "unet" / "model_int8.onnx").exists()
    scheduler = json.loads((bundle / "scheduler" / "scheduler_config.json").read_text())
    assert scheduler["beta_schedule"] == "scaled_linear" and scheduler["prediction_type"] == "epsilon"
    assert ReferencePipeline(bundle).vae.config.scaling_factor == 0.2


def test_gradient_checkpointing_changes_no_gradient(
    base_parts: Path, config: Config, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("IDADAPTER_DATA", str(data))
    monkeypatch.setattr("idadapter.stages.recognition.SCORE_THRESHOLD", -1.0)
    gradients = []
    for checkpointing in (False, True):
        settings = replace(config.idadapter, gradient_checkpointing=checkpointing)
        changed = replace(config, portrait_size=SIZE, idadapter=settings)
        run = tmp_path / str(checkpointing)
        shutil.copytree(base_parts, run / "parts")
        stage, _ = make_stage("idadapter", changed, run, tmp_path / "cache")
        stage.module.train()
        loss, scalars = stage.loss(stage.module, StepRandom(0, 0, 0), 0)
        assert scalars["faces"] == 1
        loss.backward()
        gradients.append([p.grad for p in stage.module.parameters() if p.requires_grad])
    for one, two in zip(*gradients, strict=True):
        torch.testing.assert_close(one, two, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("missing", ["unet", "scheduler", "image_encoder"])
def test_what_is_no_base_model_is_refused(missing: str, base: Path, tmp_path: Path):
    shutil.copytree(base, tmp_path / "base")
    shutil.rmtree(tmp_path / "base" / missing)
    with pytest.raises(FileNotFoundError, match=missing):
        read_base_model(tmp_path / "base", tmp_path / "base" / "image_encoder", tmp_path / "parts", SIZE)
    assert not (tmp_path / "parts").exists()


def test_another_size_and_a_run_with_parts_are_refused(base: Path, base_parts: Path, tmp_path: Path):
    with pytest.raises(ValueError, match="portrait_size = 64"):
        read_base_model(base, base / "image_encoder", tmp_path / "parts", 128)
    with pytest.raises(FileExistsError):
        read_base_model(base, base / "image_encoder", base_parts, SIZE)


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction"])
def test_the_clean_latents_come_back_from_a_right_prediction(prediction_type: str):
    schedule = DDPMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear")
    schedule.register_to_config(prediction_type=prediction_type)
    diffusion = Diffusion(schedule)
    random = torch.Generator().manual_seed(0)
    latents, noise = torch.randn(3, 4, 8, 8, generator=random), torch.randn(3, 4, 8, 8, generator=random)
    timesteps = torch.tensor([5, 400, 900])
    noisy, target, snr = diffusion.add_noise(latents, noise, timesteps)
    torch.testing.assert_close(noisy, schedule.add_noise(latents, noise, timesteps))
    expected = noise if prediction_type == "epsilon" else schedule.get_velocity(latents, noise, timesteps)
    torch.testing.assert_close(target, expected)
    torch.testing.assert_close(diffusion.clean(noisy, target, timesteps), latents, rtol=1e-3, atol=1e-4)
    # The same error of the clean latents weighs the same: x0's error is noise's over SNR, velocity's over SNR + 1.
    per_clean = diffusion.weight(snr) * (snr if prediction_type == "epsilon" else snr + 1)
    torch.testing.assert_close(per_clean[snr < 4], (snr if prediction_type == "epsilon" else snr + 1)[snr < 4])
    torch.testing.assert_close(per_clean[snr > 6], torch.full_like(per_clean[snr > 6], 5.0))


def test_a_schedule_that_predicts_samples_is_refused(tmp_path: Path):
    assert read_noise_schedule(tmp_path).config == make_noise_schedule().config
    DDPMScheduler(prediction_type="sample").save_pretrained(str(tmp_path / "scheduler"))
    with pytest.raises(ValueError, match="sample"):
        read_noise_schedule(tmp_path)


def test_larger_portraits_show_the_same(
    portraits: Portraits, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("IDADAPTER_DATA", str(data))
    large = open_portraits(tmp_path, 512)
    assert large.size == 512 and large.key != portraits.key
    small = torch.tensor(portraits.photos[:4]).permute(0, 3, 1, 2).float()
    shrunk = torch.nn.functional.avg_pool2d(torch.tensor(large.photos[:4]).permute(0, 3, 1, 2).float(), 4)
    assert (small - shrunk).abs().mean() < 4
    pictures = torch.tensor(large.photos[:4]).permute(0, 3, 1, 2).float()
    chips = [FaceWarp(portrait_template(x.shape[-1]), TEMPLATE, 150)(x) for x in (small, pictures)]
    assert (chips[0] - chips[1]).abs().mean() < 5
