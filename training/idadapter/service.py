"""The running service, as its evaluation sees it: what is judged is what is served."""

from __future__ import annotations

import base64
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import cv2
import httpx
import numpy as np

REPOSITORY = Path(__file__).resolve().parents[2]
DEFAULT_BUNDLE = REPOSITORY / "models" / "default"
DENO = "deno@2.9.6"

BUSY = (429, 503)
RETRIES, LONGEST_WAIT = 5, 60.0
"""How often a request is sent again, and at most how many seconds lie before it."""


@dataclass(frozen=True)
class Portrait:
    """One portrait the service made: [h, w, 3] uint8 RGB, its seed, and the service's own identity similarity."""

    picture: np.ndarray
    seed: int
    identity_similarity: float | None


class RefusedError(Exception):
    """The service answered with a problem (RFC 9457); `code` is its stable reason."""

    def __init__(self, problem: dict) -> None:
        """Keeps the code; the message is the problem's own."""
        super().__init__(f"{problem.get('title')}: {problem.get('detail')}")
        self.code: str = problem["code"]


class UnexpectedAnswerError(Exception):
    """What answered is not the service, or not as it should: a gateway's page, say."""

    def __init__(self, answer: httpx.Response) -> None:
        """Quotes the status and how the text begins."""
        super().__init__(f"{answer.url} answered with status {answer.status_code} and: {answer.text[:200]!r}")


class Service:
    """A client of one running service."""

    def __init__(self, url: str, token: str, bundle: Path | None = None) -> None:
        """Keeps the address, a token with every scope, and the folder that is served, where it is known."""
        self.bundle = bundle
        self.http = httpx.Client(base_url=url, headers={"Authorization": f"Bearer {token}"}, timeout=600)

    def generate(
        self, photo: np.ndarray | list[np.ndarray], prompt: str, class_noun: str, **fields: object
    ) -> list[Portrait]:
        """Makes portraits.

        Args:
            photo: reference, [h, w, 3] uint8 RGB, or several of the person.
            prompt: what to show.
            class_noun: what the person is.
            fields: any other field of a generation (docs/api.md).

        Raises:
            RefusedError: the service answered with a problem.
            UnexpectedAnswerError: it answered with something else.
        """
        photos = photo if isinstance(photo, list) else [photo]
        body = {
            "reference_images": [_encode(one) for one in photos],
            "prompt": prompt,
            "class_noun": class_noun,
            **fields,
        }
        return [
            Portrait(_decode(image["data"]), image["seed"], image["identity_similarity"])
            for image in self._send("POST", "/v1/generations", body)["images"]
        ]

    def refusal_of_photo(self, photo: np.ndarray) -> str | None:
        """Why the service would refuse a photo [h, w, 3] uint8 RGB as a reference (a problem's code), or None."""
        problems = self._send("POST", "/v1/faces", {"image": _encode(photo)})["problems"]
        blocking = [problem["code"] for problem in problems if problem["blocking"]]
        return blocking[0] if blocking else None

    def model(self) -> tuple[str, str]:
        """Name and version of the model that is served."""
        model = self._send("GET", "/v1/models")["data"][0]
        return model["id"], model["version"]

    def _send(self, method: str, path: str, body: dict[str, object] | None = None) -> dict:
        """The answer to a request, sent again while the service is busy or cannot be reached.

        That is safe: hanging up cancels what was asked for, and the same seed makes the same portrait.
        """
        waits = [2.0**retry for retry in range(RETRIES)]
        while True:
            told = ""
            try:
                answer = self.http.request(method, path, json=body)
                if not waits or answer.status_code not in BUSY:
                    return _content(answer)
                told = answer.headers.get("Retry-After", "")
            except (httpx.NetworkError, httpx.RemoteProtocolError):
                if not waits:
                    raise
            time.sleep(min(max(waits.pop(0), float(told) if told.isdecimal() else 0.0), LONGEST_WAIT))


def _content(answer: httpx.Response) -> dict:
    try:
        content = answer.json()
    except ValueError:
        content = None
    if answer.status_code == 200 and isinstance(content, dict):
        return content
    if isinstance(content, dict) and "code" in content:
        raise RefusedError(content)
    raise UnexpectedAnswerError(answer)


def _encode(photo: np.ndarray) -> str:
    ok, encoded = cv2.imencode(".png", cv2.cvtColor(photo, cv2.COLOR_RGB2BGR))
    assert ok
    return base64.b64encode(encoded.tobytes()).decode()


def _decode(data: str) -> np.ndarray:
    content = np.frombuffer(base64.b64decode(data), np.uint8)
    return cv2.cvtColor(cv2.imdecode(content, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)


@contextmanager
def running_service(bundle: Path | None = None, seconds: float = 180) -> Iterator[Service]:
    """Starts the service on a free port and stops it at the end.

    Args:
        bundle: folder to serve; the embedded one by default.
        seconds: how long it may take to be ready (the first start fetches npm packages).

    Yields:
        a client with a development token.

    Raises:
        RuntimeError: it did not get ready.
    """
    deno = [shutil.which("deno")] if shutil.which("deno") else ["npx", "--yes", DENO]
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with tempfile.TemporaryDirectory() as state:
        environment = {**os.environ, "PORT": str(port), "STATE_DIR": state, "LOG_LEVEL": "error"}
        if bundle is not None:
            environment["BUNDLE"] = str(bundle.resolve())
        elif "BUNDLE" not in environment:
            bundle = DEFAULT_BUNDLE
        command = [*deno, "task", "--quiet"]
        process = subprocess.Popen([*command, "start"], cwd=REPOSITORY, env=environment, start_new_session=True)
        try:
            url = f"http://127.0.0.1:{port}"
            _wait(url, process, seconds)
            token = subprocess.run(
                [*command, "token", "--expires-in", "1d"],
                cwd=REPOSITORY, env=environment, check=True, capture_output=True, text=True,
            ).stdout.strip()  # fmt: skip
            yield Service(url, token, bundle)
        finally:
            _stop(process)


def _wait(url: str, process: subprocess.Popen, seconds: float) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if process.poll() is not None:
            raise RuntimeError(f"the service ended with status {process.returncode} before it was ready")
        try:
            if httpx.get(f"{url}/readyz", timeout=5).status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.3)
    raise RuntimeError(f"the service was not ready after {seconds:g} s")


def _stop(process: subprocess.Popen, seconds: float = 30) -> None:
    """Ends a process and those it started; one that has died already, too."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
