"""The contract against the live service: schemathesis with all its checks, authenticated, in bounded time."""

import subprocess
import sys
from pathlib import Path

from conftest import Service

SECONDS = 60


def test_the_service_keeps_its_contract(service: Service, tmp_path: Path) -> None:
    """Whatever is sent, the answer is one that openapi.json tells of, and no fault of the service."""
    command = [
        str(Path(sys.executable).with_name("st")),
        "--config-file",
        str(Path(__file__).with_name("schemathesis.toml")),
        "run",
        f"{service.address}/openapi.json",
        "--header",
        f"Authorization: Bearer {service.token('--sub', 'contract')}",
        "--checks=all",
        "--max-examples=6",
        "--seed=1",
        f"--max-time={SECONDS}",
        "--continue-on-failure",
        "--generation-database=none",
        "--no-color",
    ]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=4 * SECONDS, check=False)
    print(done.stdout)
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr
