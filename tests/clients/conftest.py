"""The real service, its embedded model and all, for clients that are not written in TypeScript."""

import json
import os
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
DENO = ["npx", "--yes", "deno@2.9.6", "task", "--quiet"]


@dataclass(frozen=True)
class Service:
    """A running service.

    address: `http://127.0.0.1:<port>`
    """

    address: str
    environment: dict[str, str]

    def token(self, *options: str) -> str:
        """A development token; `options` as `deno task token --help` tells them."""
        done = subprocess.run(
            [*DENO, "token", *options],
            cwd=REPOSITORY,
            env=self.environment,
            check=True,
            capture_output=True,
            text=True,
        )
        return done.stdout.strip()


def start(environment: dict[str, str]) -> Iterator[Service]:
    """Starts `deno task start` on a free port, waits until it is ready, and stops it afterwards."""
    with tempfile.TemporaryDirectory() as state:
        variables = {**os.environ, "PORT": "0", "STATE_DIR": state, **environment}
        process = subprocess.Popen(
            [*DENO, "start"],
            cwd=REPOSITORY,
            env=variables,
            stderr=subprocess.PIPE,
            text=True,
            # npx, deno task and deno: a group of their own ends together
            start_new_session=True,
        )
        assert process.stderr is not None
        drain = None
        try:
            port, lines = None, []
            for line in process.stderr:
                lines.append(line)
                entry = json.loads(line) if line.startswith("{") else {}
                port = entry.get("port", port)
                if entry.get("message") == "ready":
                    break
            else:
                pytest.fail(f"the service did not start:\n{''.join(lines)}")
            # whatever else it logs must not fill the pipe
            drain = subprocess.Popen(["cat"], stdin=process.stderr, stdout=subprocess.DEVNULL)
            yield Service(f"http://127.0.0.1:{port}", variables)
        finally:
            os.killpg(process.pid, signal.SIGTERM)
            process.wait(timeout=60)
            if drain is not None:
                drain.wait(timeout=60)


@pytest.fixture(scope="session")
def service() -> Iterator[Service]:
    """The service as it starts with nothing configured, but for limits that tests would reach."""
    yield from start({"REQUESTS_PER_MINUTE": "100000", "LOG_LEVEL": "info"})
