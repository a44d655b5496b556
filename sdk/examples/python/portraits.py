"""Portraits over a network that fails: each is made and paid for once, whatever happens to the connection.

On the client that `deno task sdk` generates; `httpx-sse` reads its event streams, Pillow scales photos.
"""

import base64
import io
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import httpx
from httpx_sse import connect_sse
from idadapter_client import AuthenticatedClient
from idadapter_client.api.faces import check_face
from idadapter_client.api.generations import create_generation, get_generation, get_generation_image
from idadapter_client.models import (
    FaceReport,
    FaceRequest,
    FailedGeneration,
    Generation,
    GenerationProgress,
    GenerationRequest,
    PendingGeneration,
    Problem,
)
from idadapter_client.types import File, Response
from PIL import Image, ImageOps

T = TypeVar("T")

# How often a call whose answer got lost is sent again, each time after twice as long.
ATTEMPTS = 6
FIRST_DELAY = 0.25
# Refusals that pass by themselves; `Retry-After` says when, and is believed up to so many seconds.
PASSING = (429, 503)
LONGEST_RETRY_AFTER = 300


class Refused(Exception):
    """The service refused. `problem.code` is for programs, `detail` and `remedy` are for people."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(f"{problem.detail} {problem.remedy}")
        self.problem = problem


def _insist(call: Callable[[], Response[T]]) -> T:
    """Calls until somebody answers; safe for whatever may be sent twice."""
    for attempt in range(ATTEMPTS):
        last = attempt + 1 == ATTEMPTS
        wait = FIRST_DELAY * 2**attempt
        try:
            response = call()
        # the last three: what stands in front of the service answered, and not with what the contract has
        except (httpx.TransportError, ValueError, KeyError, TypeError):
            if last:
                raise
            time.sleep(wait)
            continue
        if response.status_code in PASSING and not last:
            asked = response.headers.get("Retry-After", "")
            # a proxy may say a day
            time.sleep(max(wait, min(int(asked), LONGEST_RETRY_AFTER) if asked.isdecimal() else 0))
            continue
        if isinstance(response.parsed, Problem):
            raise Refused(response.parsed)
        if response.parsed is not None:
            return response.parsed
        # a proxy's 502: the service may have taken the request on
        if response.status_code < 500 or last:
            raise RuntimeError(f"an answer the contract does not know: {response.status_code}")
        time.sleep(wait)
    raise AssertionError("unreachable")


def scale_photo(path: Path, longest_side: int = 1024) -> bytes:
    """Scales a photo down, upright, without its metadata (place, time, device); returns a JPEG file."""
    with Image.open(path) as photo:
        upright = ImageOps.exif_transpose(photo).convert("RGB")
    upright.thumbnail((longest_side, longest_side))
    file = io.BytesIO()
    upright.save(file, "JPEG", quality=90)
    return file.getvalue()


def check_photo(client: AuthenticatedClient, photo: bytes) -> FaceReport:
    """Tells whether a photo will do, and in `problems` what to improve; `blocking` ones would be refused."""
    body = FaceRequest(image=base64.b64encode(photo).decode())
    report = _insist(lambda: check_face.sync_detailed(client=client, body=body))
    assert isinstance(report, FaceReport)
    return report


def start_generation(client: AuthenticatedClient, request: GenerationRequest, key: str) -> str:
    """Asks for portraits without waiting for them; returns the generation's id.

    `key` names this wish: a new UUID, kept until the portraits are there. Asking again with it, even after
    a restart, gives the same generation and costs nothing.
    """
    answer = _insist(
        lambda: create_generation.sync_detailed(
            client=client, body=request, idempotency_key=key, prefer="respond-async"
        )
    )
    assert isinstance(answer, (Generation, PendingGeneration))
    return answer.id


def follow_generation(
    client: AuthenticatedClient, generation_id: str, on_progress: Callable[[GenerationProgress], None]
) -> Generation:
    """Follows a generation to its end; a stream that broke off is taken up again after its last event."""
    http = client.get_httpx_client()
    last_event_id: str | None = None
    lost = 0
    while True:
        headers = {} if last_event_id is None else {"Last-Event-ID": last_event_id}
        try:
            with connect_sse(
                http, "GET", f"/v1/generations/{generation_id}/events", headers=headers
            ) as source:
                # 204: there is nothing after that event; a refusal is told by the request below
                if source.response.status_code == httpx.codes.OK:
                    for event in source.iter_sse():
                        last_event_id = event.id
                        lost = 0
                        if event.event == "progress":
                            on_progress(GenerationProgress.from_dict(event.json()))
        except httpx.TransportError:
            lost += 1
            if lost == ATTEMPTS:
                raise
            time.sleep(FIRST_DELAY * 2 ** (lost - 1))
            continue
        # a stream may end early, for instance when the service is replaced: the generation says how it is
        state = _insist(lambda: get_generation.sync_detailed(generation_id, client=client))
        if isinstance(state, Generation):
            return state
        if isinstance(state, FailedGeneration):
            raise Refused(state.error)
        time.sleep(FIRST_DELAY)


def fetch_images(client: AuthenticatedClient, generation: Generation) -> list[bytes]:
    """Gets the image files of a finished generation, in order."""

    def fetch(index: int) -> bytes:
        file = _insist(lambda: get_generation_image.sync_detailed(generation.id, str(index), client=client))
        assert isinstance(file, File)
        return file.payload.read()

    return [fetch(image.index) for image in generation.images]
