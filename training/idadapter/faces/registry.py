"""Fetches the face models of the npm package ``@vladmandic/face-api`` (MIT) and reads their weights."""

import base64
import hashlib
import json
import math
import os
import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path

import numpy as np

from idadapter.quantized import Quantized, Stored

PACKAGE = "@vladmandic/face-api@1.7.15"
INTEGRITY = "sha512-WDMmK3CfNLo8jylWqMoQgf4nIst3M0fzx1dnac96wv/dvMTN4DxC/Pq1DGtduDk1lktCamQ3MIDXFnvrdHTXDw=="
MODELS = (
    "face_expression_model",
    "face_landmark_68_model",
    "face_recognition_model",
    "ssd_mobilenetv1_model",
    "tiny_face_detector_model",
)


def cache_folder() -> Path:
    """Where downloads are kept: ``$IDADAPTER_CACHE``, else ``~/.cache/idadapter``."""
    return Path(os.environ.get("IDADAPTER_CACHE") or Path.home() / ".cache" / "idadapter")


def fetch_package(cache: Path | None = None) -> Path:
    """The folder with the package's ``LICENSE`` and model files, downloaded once by ``npm pack``.

    Args:
        cache: folder for downloads; :func:`cache_folder` by default.

    Raises:
        ValueError: the downloaded archive is not the one pinned by ``INTEGRITY``.
        subprocess.CalledProcessError: npm could not fetch the package.
    """
    folder = (cache or cache_folder()) / "face-api-1.7.15"
    if all((folder / name).exists() for name in _files()):
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as work:
        subprocess.run(
            ["npm", "pack", "--silent", "--pack-destination", work, PACKAGE],
            check=True,
            cwd=work,
            stdout=subprocess.DEVNULL,
        )
        archive = next(Path(work).glob("*.tgz"))
        check_integrity(archive.read_bytes(), INTEGRITY)
        unpacked = Path(work) / "unpacked"
        unpacked.mkdir()
        _unpack(archive, unpacked)
        # Every file appears whole or not at all, so that an interrupted download is never taken for a finished one.
        for name in _files():
            (unpacked / name).replace(folder / name)
    return folder


def _files() -> set[str]:
    return {"LICENSE"} | {f"{model}{ending}" for model in MODELS for ending in (".bin", "-weights_manifest.json")}


def check_integrity(content: bytes, integrity: str) -> None:
    """Raises ValueError unless ``content`` has the subresource ``integrity`` (``sha512-`` + base64)."""
    algorithm, _, expected = integrity.partition("-")
    found = base64.b64encode(hashlib.new(algorithm, content).digest()).decode()
    if found != expected:
        raise ValueError(f"{PACKAGE}: the archive's {algorithm} is {found}, expected {expected}")


def _unpack(archive: Path, folder: Path) -> None:
    wanted = {f"package/{'' if name == 'LICENSE' else 'model/'}{name}" for name in _files()}
    with tarfile.open(archive) as tar:
        for member in tar:
            if member.name not in wanted or not member.isfile():
                continue
            source = tar.extractfile(member)
            assert source is not None
            with source, (folder / Path(member.name).name).open("wb") as target:
                shutil.copyfileobj(source, target)
            wanted.remove(member.name)
    if wanted:
        raise ValueError(f"{PACKAGE} lacks {sorted(wanted)}")


def load_weights(model: str, cache: Path | None = None) -> dict[str, Stored]:
    """The weights of one model under TensorFlow's names and in its layout (filters are [h, w, in, out]).

    Args:
        model: one of ``MODELS``.
        cache: folder for downloads; :func:`cache_folder` by default.

    Returns:
        A :class:`Quantized` for each float tensor stored as bytes, an array for the others.

    Raises:
        ValueError: the manifest and the file with the weights do not fit.
    """
    folder = fetch_package(cache)
    manifest = json.loads((folder / f"{model}-weights_manifest.json").read_text())
    weights: dict[str, Stored] = {}
    for group in manifest:
        content = b"".join((folder / path).read_bytes() for path in group["paths"])
        offset = 0
        for entry in group["weights"]:
            stored, offset = _read_entry(entry, content, offset)
            weights[entry["name"]] = stored
        if offset != len(content):
            raise ValueError(f"{model}: {len(content) - offset} bytes are left over")
    return weights


def _read_entry(entry: dict, content: bytes, offset: int) -> tuple[Stored, int]:
    quantization = entry.get("quantization")
    stored_type = np.dtype((quantization or entry)["dtype"]).newbyteorder("<")
    count = math.prod(entry["shape"])
    end = offset + count * stored_type.itemsize
    if end > len(content):
        raise ValueError(f"{entry['name']} ends at byte {end} of {len(content)}")
    values = np.frombuffer(content, stored_type, count, offset).reshape(entry["shape"])
    if quantization is None:
        return values, end
    if entry["dtype"] == "int32":
        return (values.astype(np.int32) * int(quantization["scale"]) + int(quantization["min"])), end
    return Quantized(values, np.float32(quantization["scale"]), np.float32(quantization["min"])), end
