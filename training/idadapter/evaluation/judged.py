"""Which weights a report is about."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from ..service import Service


def judged_model(service: Service | None, parts: Path | None) -> dict[str, object]:
    """Name and version of the model that is served, and where its bundle is known the SHA-256 of its `bundle.json`.

    Args:
        service: what is judged; None where only ceilings are.
        parts: folder of the ceilings' autoencoder, which tells its own without a service, if it is a bundle.

    Raises:
        ValueError: `service.bundle` is not what the service serves.
    """
    if service is None:
        return _described(parts) if parts is not None and (parts / "bundle.json").exists() else {}
    model, version = service.model()
    if service.bundle is None:
        return {"model": model, "version": version}
    described = _described(service.bundle)
    if (described["model"], described["version"]) != (model, version):
        raise ValueError(f"the service serves {model} {version}, and {service.bundle} is another bundle: name its own")
    return described


def _described(bundle: Path) -> dict[str, object]:
    """As above; `bundle.json` holds the SHA-256 of every other file."""
    content = (bundle / "bundle.json").read_bytes()
    manifest = json.loads(content)
    return {
        "model": manifest["name"],
        "version": manifest["version"],
        "SHA-256 of bundle.json": hashlib.sha256(content).hexdigest(),
    }
