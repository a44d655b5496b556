"""A run's parts become a bundle (docs/bundle.md): `idadapter export --run ../runs/mini --bundle ../models/default`."""

from __future__ import annotations

import hashlib
import json
import shutil
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from onnxscript import ir, optimizer
from torch import Tensor

from .bundle_config import BundleConfig
from .calibration import record_denoising
from .data.captions import CLASS_NOUNS, DRAWING_WORDS, EMOTION_WORDS, HAT_WORDS, SIDED, VIEW_WORDS
from .data.templates import portrait_template
from .external_data import GRAPH_FILE, INLINE_BYTES, TENSORS_FILE, write_graph
from .faces.export import export_faces
from .faces.registry import fetch_package
from .fp16_graph import FP16_GRAPH_FILE, write_fp16_graph
from .graphs import GraphSpec, graph_specs
from .int8_graph import INT8_GRAPH_FILE, write_int8_graph
from .models.quiet_patches import PLACES
from .noise_schedule import SCHEDULER_FILE, make_noise_schedule
from .shallow_graph import shallow_name, write_shallow_graph
from .tokenizer import IDENTIFIER, load_tokenizer

OPSET = 20
TOLERANCE = 1e-4
"""Largest allowed difference between a graph and PyTorch in fp32, over the largest of what comes out where that is
above 1: features that nothing normalises may be large."""

ONNX_MESSAGE_BYTES = 2**31
"""What a protocol buffer can hold."""

PARTIAL_MANIFEST = "bundle.partial.json"
"""Where `bundle.json` is written first."""


def trace(spec: GraphSpec) -> onnx.ModelProto:
    """Traces a graph with torch's exporter."""
    batch, tokens = torch.export.Dim("batch", min=1, max=1024), torch.export.Dim("tokens", min=1, max=65536)
    shapes = tuple({0: batch, 1: tokens} if name in spec.free_tokens else {0: batch} for name in spec.inputs)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            spec.module,
            tuple(spec.inputs.values()),
            dynamo=True,
            optimize=False,
            opset_version=OPSET,
            input_names=list(spec.inputs),
            output_names=list(spec.outputs),
            dynamic_shapes=shapes,
            verbose=False,
        )
    assert program is not None
    # Folding weights (their transposes) would store them twice, and large folded constants (the text encoder's mask)
    # would stand among the module's parameters, which PyTorch then could not load: ONNX Runtime folds both.
    graph = program.model
    weights = {spec.prefix + name: tensor for name, tensor in spec.tensors.items()}
    optimizer.optimize_ir(
        graph,
        should_fold=lambda node: False if reads_weight(node, weights) else None,
        output_size_limit=INLINE_BYTES // 8 - 1,
    )
    leave_weights_out(graph, weights)
    proto = ir.to_proto(graph)
    for node in proto.graph.node:
        # Stack traces and paths of the machine that exported have no place in a published graph.
        node.ClearField("metadata_props")
        node.ClearField("doc_string")
    return proto


def leave_weights_out(graph: ir.Model, weights: Mapping[str, Tensor]) -> None:
    """Makes the initializers that are stored tensors external, before a graph becomes a message of gigabytes.

    Raises:
        ValueError: an initializer differs from its tensor.
    """
    for name, initializer in graph.graph.initializers.items():
        value = initializer.const_value
        if name not in weights or value is None:
            continue
        if not np.array_equal(value.numpy(), weights[name].numpy()):
            raise ValueError(f"{name} differs from the stored tensor")
        shape = ir.Shape(value.shape)
        initializer.const_value = ir.ExternalTensor(TENSORS_FILE, 0, 0, value.dtype, shape=shape, name=name)


def reads_weight(node: ir.Node, weights: Mapping[str, Tensor]) -> bool:
    """Whether a node reads one of the initializers named `weights`."""
    return any(value is not None and value.name in weights for value in node.inputs)


def export_graph(spec: GraphSpec, bundle: Path) -> float:
    """Writes one graph with half-precision weights and compares it with PyTorch.

    Returns:
        the largest difference over the batch and over its first row alone, as `TOLERANCE` counts it.

    Raises:
        ValueError: it is above `TOLERANCE`, or not a number.
    """
    proto = trace(spec)
    used = {initializer.name for initializer in proto.graph.initializer}
    stored = {name: value.numpy() for name, value in spec.tensors.items()}
    stored = {name: v.astype(np.float16) if v.dtype == np.float32 else v for name, v in stored.items()}
    names = {spec.prefix + name: name for name in stored if spec.prefix + name in used}
    write_graph(proto, stored, bundle / spec.name, names)
    del proto, stored
    session = onnxruntime.InferenceSession(bundle / spec.name / GRAPH_FILE, providers=["CPUExecutionProvider"])
    largest = 0.0
    for rows in (slice(None), slice(0, 1)):
        inputs = {name: value[rows] for name, value in spec.inputs.items()}
        with torch.no_grad():
            expected = spec.module(*inputs.values())
        expected = expected if isinstance(expected, tuple) else (expected,)
        found = session.run(list(spec.outputs), {name: value.numpy() for name, value in inputs.items()})
        largest = np.max([largest, *(difference(a.numpy(), b) for a, b in zip(expected, found, strict=True))])
    size = sum(path.stat().st_size for path in (bundle / spec.name).iterdir()) / 1e6
    print(f"{spec.name}: largest difference to PyTorch {largest:.1e}, {size:.1f} MB", flush=True)
    if not largest <= TOLERANCE:
        raise ValueError(f"{spec.name}: the graph differs from PyTorch by {largest:g}, more than {TOLERANCE:g}")
    return float(largest)


def difference(expected: np.ndarray, found: np.ndarray) -> float:
    """The largest between two outputs of a shape, over the largest of the first where that is above 1; not a number
    where one of them has something that is none."""
    return float(np.abs(expected - found).max() / np.maximum(1, np.abs(expected).max()))


def replace_model_card(bundle: Path, model_card: Path, settings: BundleConfig | None = None) -> None:
    """Gives a bundle another model card (figures are known only after it was served) and notes its digest.

    Args:
        bundle: changed in place; its weights and graphs stay as they are.
        model_card: becomes its README.md.
        settings: give it their version, description, defaults, quiet patches and words for views and drawings too,
            which are chosen by what is served as well.

    Raises:
        FileNotFoundError: there is no such model card, or no such bundle.
    """
    card = model_card.read_bytes()
    before = json.loads((bundle / "bundle.json").read_text())
    manifest = before
    if settings is not None:
        manifest = manifest | {name: getattr(settings, name) for name in ("version", "description")}
        manifest |= {"defaults": settings.defaults.to_json()}
        manifest |= {"quiet_patches": quiet_patches(bundle, settings), "drawing_words": list(DRAWING_WORDS)}
        words = view_words(settings)
        manifest = {name: value for name, value in manifest.items() if name != "view_words" or words} | words
    # Where it is stopped in between, the old manifest stays, and says nothing of a card that it would not fit.
    listed = {name: entry for name, entry in before["files"].items() if name != "README.md"}
    write_manifest(bundle, {**before, "files": listed})
    (bundle / "README.md").write_bytes(card)
    write_manifest(bundle, {**manifest, "files": describe_files(bundle)})


def quiet_patches(bundle: Path, settings: BundleConfig) -> list[dict[str, Any]]:
    """What a manifest says of places that count less where words tell what is there; none that has no bias."""
    encoder = json.loads((bundle / "image_encoder" / "config.json").read_text())
    patches = (encoder["image_size"] // encoder["patch_size"]) ** 2
    told = {"mouth": (EMOTION_WORDS, settings.mouth_bias), "hat": (HAT_WORDS, settings.hat_bias)}
    return [
        {"words": list(words), "patches": PLACES[place](patches).tolist(), "bias": bias}
        for place, (words, bias) in told.items()
        if bias
    ]


def view_words(settings: BundleConfig) -> dict[str, Any]:
    """What a manifest says of words for views: nothing where poses do not vary, for such a model was not trained with
    turned references, and words turn none there either."""
    if not settings.defaults.pose_variation:
        return {}
    return {"view_words": {**{view: list(words) for view, words in VIEW_WORDS.items()}, "sided": list(SIDED)}}


def write_manifest(bundle: Path, manifest: dict[str, Any]) -> None:
    """Writes `bundle.json`; the old one stays until the new one is whole."""
    partial = bundle / PARTIAL_MANIFEST
    partial.write_text(json.dumps(manifest, indent=2) + "\n")
    partial.rename(bundle / "bundle.json")


def of_unet(graph_file: str) -> dict[str, str]:
    """What a manifest says of a graph of the UNet and of its shallow part."""
    return {"unet": f"unet/{graph_file}", "unet_shallow": f"unet/{shallow_name(graph_file)}"}


def describe_files(bundle: Path) -> dict[str, dict[str, str | int]]:
    """sha256 and size of every file of a bundle but `bundle.json`."""
    manifests = ("bundle.json", PARTIAL_MANIFEST)
    files = sorted(path for path in bundle.rglob("*") if path.is_file() and path.name not in manifests)
    return {
        path.relative_to(bundle).as_posix(): {
            "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
            "size": path.stat().st_size,
        }
        for path in files
    }


def check_target(bundle: Path, parts: Path) -> None:
    """Refuses a folder that is not to be replaced by a bundle.

    Raises:
        ValueError: it is a link or a file, holds the parts that are exported, or holds something that is no bundle.
    """
    if bundle.is_symlink() or (bundle.exists() and not bundle.is_dir()):
        raise ValueError(f"{bundle} is no folder, but a link or a file: name the bundle's own folder")
    if parts.resolve().is_relative_to(bundle.resolve()):
        raise ValueError(f"{bundle} holds the parts {parts} and would be replaced: name another folder for the bundle")
    if bundle.exists() and any(bundle.iterdir()) and not (bundle / "bundle.json").is_file():
        raise ValueError(
            f"{bundle} holds something else than a bundle (it has no bundle.json) and would be replaced: "
            "name a new folder, an empty one or a bundle's"
        )


def replace_folder(old: Path, new: Path) -> None:
    """Puts a folder in another's place, if there is another; whoever stops it leaves one of both whole.

    Args:
        old: where to; a folder that an earlier call left beside it, stopped in between, is removed too.
        new: on the same file system; is gone afterwards.
    """
    aside = old.with_name(f"{old.name}.replaced")
    if old.exists():
        if aside.exists():
            shutil.rmtree(aside)
        old.rename(aside)
    new.rename(old)
    if aside.exists():
        shutil.rmtree(aside)


def export_bundle(
    parts: Path,
    bundle: Path,
    settings: BundleConfig,
    references: int,
    model_card: Path | None = None,
    photo: np.ndarray | None = None,
    fp16: bool = False,
) -> None:
    """Writes a whole bundle.

    Args:
        parts: a run's parts.
        bundle: the bundle's folder; it is made anew, and replaced only when everything was written and checked.
        settings: what the manifest says.
        references: N.
        model_card: becomes the bundle's README.md.
        photo: [H, W, 3] uint8 RGB with one face; the UNet's 8-bit graph is calibrated on it, and left out without it,
            or where the UNet is larger than what ONNX Runtime's quantiser can hold.
        fp16: whether the UNet gets a graph in half precision too, for CUDA.

    Raises:
        ValueError: a graph differs from PyTorch, the photo shows no face, or the bundle's folder holds something else.
        FileNotFoundError: a part is missing.
    """
    check_target(bundle, parts)
    building = bundle.with_name(bundle.name + ".building")
    shutil.rmtree(building, ignore_errors=True)
    building.mkdir(parents=True)
    faces = export_faces(building)
    shutil.copy(fetch_package() / "LICENSE", building / "LICENSE-face-api")
    shapes: dict[str, torch.Size] = {}
    names = []
    for spec in graph_specs(parts, references):
        export_graph(spec, building)
        config = parts / spec.name / "config.json"
        shutil.copy(config, building / spec.name / "config.json")
        names.append(spec.name)
        shapes |= {name: value.shape for name, value in spec.inputs.items()}
    write_shallow_graph(building / "unet", GRAPH_FILE)
    load_tokenizer(parts / "tokenizer").save_pretrained(str(building / "tokenizer"))
    if (parts / SCHEDULER_FILE).exists():
        (building / SCHEDULER_FILE).parent.mkdir()
        shutil.copy(parts / SCHEDULER_FILE, building / SCHEDULER_FILE)
    else:
        make_noise_schedule().save_config(str(building / "scheduler"))
    if model_card is not None:
        shutil.copy(model_card, building / "README.md")
    latent, image_size, crop_size = shapes["sample"], shapes["image"][-1], shapes["faces"][-1]
    manifest = {
        "schema_version": 1,
        "name": settings.name,
        "version": settings.version,
        "description": settings.description,
        "license": settings.license,
        "parts": [
            *faces["parts"],
            *({"name": name, "origin": settings.origin, "license": settings.license} for name in names),
        ],
        "image_size": image_size,
        "latent": {"channels": latent[1], "size": latent[2]},
        "max_reference_images": references,
        "class_nouns": list(CLASS_NOUNS),
        **view_words(settings),
        "quiet_patches": quiet_patches(building, settings),
        "drawing_words": list(DRAWING_WORDS),
        "identifier": IDENTIFIER,
        "identity_token_count": shapes["identity_tokens"][1],
        "precision": "fp16",
        "defaults": settings.defaults.to_json(),
        "unconditional_identity": settings.unconditional_identity,
        "faces": {
            **faces["faces"],
            "image_encoder": {
                "input_size": crop_size,
                "template": portrait_template(crop_size).round(4).tolist(),
            },
            "portrait": {"input_size": image_size, "template": portrait_template(image_size).round(4).tolist()},
        },
        "scheduler": "scheduler/scheduler_config.json",
        "tokenizer": "tokenizer",
        "graphs": {
            **faces["graphs"],
            **{name: f"{name}/{GRAPH_FILE}" for name in names},
            **of_unet(GRAPH_FILE),
        },
        "variants": {},
        "files": describe_files(building),
    }
    write_manifest(building, manifest)
    variants: dict[str, dict[str, str]] = {}
    # The quantiser makes one message of the graph in full precision.
    fits = 2 * (building / "unet" / TENSORS_FILE).stat().st_size < ONNX_MESSAGE_BYTES
    if photo is not None and not fits:
        print("unet: no 8-bit graph, it is too large for one ONNX message")
    if photo is not None and fits:
        write_int8_graph(building / "unet", record_denoising(building, photo)[::2])
        write_shallow_graph(building / "unet", INT8_GRAPH_FILE)
        variants["int8"] = of_unet(INT8_GRAPH_FILE)
    if fp16:
        write_fp16_graph(building / "unet")
        write_fp16_graph(building / "unet", shallow_name(GRAPH_FILE), shallow_name(FP16_GRAPH_FILE))
        variants["fp16"] = of_unet(FP16_GRAPH_FILE)
    write_manifest(building, {**manifest, "variants": variants, "files": describe_files(building)})
    replace_folder(bundle, building)
    total = sum(path.stat().st_size for path in bundle.rglob("*") if path.is_file()) / 1e6
    print(f"{bundle}: {total:.1f} MB")
