"""Fetches face models that npm packages ship, and reads their weights."""

import base64
import hashlib
import json
import math
import os
import shutil
import subprocess
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from idadapter.quantized import Quantized, Stored


@dataclass(frozen=True)
class Package:
    """An npm package that ships models for TensorFlow.js.

    Attributes:
        name: with its version, as npm takes it.
        integrity: of its archive, `sha512-` + base64.
        models: folder of the archive that holds them.
        files: which of them are kept.
    """

    name: str
    integrity: str
    models: str
    files: tuple[str, ...]

    @property
    def folder(self) -> str:
        """Where it is kept below the folder for downloads."""
        return self.name.rpartition("/")[2].replace("@", "-")


FACE_API = Package(
    "@vladmandic/face-api@1.7.15",
    "sha512-WDMmK3CfNLo8jylWqMoQgf4nIst3M0fzx1dnac96wv/dvMTN4DxC/Pq1DGtduDk1lktCamQ3MIDXFnvrdHTXDw==",
    "model",
    tuple(
        f"{model}{ending}"
        for model in (
            "face_expression_model",
            "face_landmark_68_model",
            "face_recognition_model",
            "ssd_mobilenetv1_model",
            "tiny_face_detector_model",
        )
        for ending in (".bin", "-weights_manifest.json")
    ),
)
"""MIT. What bundles hold of it goes with its licence."""

HUMAN = Package(
    "@vladmandic/human@3.3.6",
    "sha512-Nr5mPfq1gQ+uKeXY5uM3Fj8UxvF5CEh2s6txM5wRThqaW0mF9huooOuZSrT8hhGho0hGaXLFdAwfD/2+teCv6A==",
    "models",
    ("emotion.bin", "emotion.json", "faceres.bin", "faceres.json"),
)
"""MIT. Serves training alone; no bundle holds any of it."""


def cache_folder() -> Path:
    """Where downloads are kept: ``$IDADAPTER_CACHE``, else ``~/.cache/idadapter``."""
    return Path(os.environ.get("IDADAPTER_CACHE") or Path.home() / ".cache" / "idadapter")


def fetch_package(cache: Path | None = None, package: Package = FACE_API) -> Path:
    """The folder with a package's ``LICENSE`` and model files, downloaded once by ``npm pack``.

    Args:
        cache: folder for downloads; :func:`cache_folder` by default.
        package: which.

    Raises:
        ValueError: the downloaded archive is not the one pinned by its ``integrity``.
        subprocess.CalledProcessError: npm could not fetch the package.
    """
    folder = (cache or cache_folder()) / package.folder
    wanted = {"LICENSE", *package.files}
    if all((folder / name).exists() for name in wanted):
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as work:
        subprocess.run(
            ["npm", "pack", "--silent", "--pack-destination", work, package.name],
            check=True,
            cwd=work,
            stdout=subprocess.DEVNULL,
        )
        archive = next(Path(work).glob("*.tgz"))
        check_integrity(archive.read_bytes(), package)
        unpacked = Path(work) / "unpacked"
        unpacked.mkdir()
        _unpack(archive, unpacked, package)
        # Every file appears whole or not at all, so that an interrupted download is never taken for a finished one.
        for name in wanted:
            (unpacked / name).replace(folder / name)
    return folder


def check_integrity(content: bytes, package: Package) -> None:
    """Raises ValueError unless ``content`` is a package's archive, by its subresource ``integrity``."""
    algorithm, _, expected = package.integrity.partition("-")
    found = base64.b64encode(hashlib.new(algorithm, content).digest()).decode()
    if found != expected:
        raise ValueError(f"{package.name}: the archive's {algorithm} is {found}, expected {expected}")


def _unpack(archive: Path, folder: Path, package: Package) -> None:
    wanted = {"package/LICENSE", *(f"package/{package.models}/{name}" for name in package.files)}
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
        raise ValueError(f"{package.name} lacks {sorted(wanted)}")


def load_weights(model: str, cache: Path | None = None, package: Package = FACE_API) -> dict[str, Stored]:
    """The weights of one model under TensorFlow's names and in its layout (filters are [h, w, in, out]).

    Args:
        model: of the package's ``files``, without what comes after its name.
        cache: folder for downloads; :func:`cache_folder` by default.
        package: that ships it.

    Returns:
        A :class:`Quantized` for each float tensor stored as bytes, an array for the others.

    Raises:
        ValueError: the manifest and the file with the weights do not fit.
    """
    folder = fetch_package(cache, package)
    layers = folder / f"{model}-weights_manifest.json"
    # A graph model has its manifest beside its graph.
    manifest = (
        json.loads(layers.read_text())
        if layers.exists()
        else json.loads((folder / f"{model}.json").read_text())["weightsManifest"]
    )
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
    if stored_type.kind == "f":
        return values.astype(np.float32), end
    if entry["dtype"] == "int32":
        return (values.astype(np.int32) * int(quantization["scale"]) + int(quantization["min"])), end
    return Quantized(values, np.float32(quantization["scale"]), np.float32(quantization["min"])), end
