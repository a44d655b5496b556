"""The service's client: what it does when the service is busy, gone, or something else."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from idadapter import service as module
from idadapter.service import LONGEST_WAIT, RETRIES, RefusedError, Service, UnexpectedAnswerError, running_service

MODELS = httpx.Response(200, json={"data": [{"id": "mini", "version": "1.2.3"}]})


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The seconds waited for, none of which pass."""
    seconds: list[float] = []
    monkeypatch.setattr(module.time, "sleep", seconds.append)
    return seconds


def answering(*answers: httpx.Response | Exception) -> Service:
    """A client of a service that gives these answers, the last one for ever."""
    left = list(answers)

    def answer(_: httpx.Request) -> httpx.Response:
        given = left.pop(0) if len(left) > 1 else left[0]
        if isinstance(given, Exception):
            raise given
        return given

    service = Service("http://there", "token")
    service.http = httpx.Client(base_url="http://there", transport=httpx.MockTransport(answer))
    return service


def problem(status: int, code: str, **headers: str) -> httpx.Response:
    return httpx.Response(status, json={"title": "No", "detail": "not now", "code": code}, headers=headers)


def test_a_busy_service_is_asked_again_when_it_says(waits: list[float]):
    busy = [problem(429, "queue_full", **{"Retry-After": "7"}), problem(503, "not_ready", **{"Retry-After": "3600"})]
    service = answering(*busy, httpx.Response(503, text="<html>"), httpx.ConnectError("gone"), MODELS)
    assert service.model() == ("mini", "1.2.3")
    assert waits == [7, LONGEST_WAIT, 4, 8]


@pytest.mark.parametrize(
    ("last", "raised"),
    [
        (problem(429, "rate_limit_exceeded"), RefusedError),
        (httpx.ReadError("broken"), httpx.ReadError),
        (httpx.RemoteProtocolError("cut off"), httpx.RemoteProtocolError),
    ],
)
def test_a_service_that_stays_busy_is_given_up(
    last: httpx.Response | Exception, raised: type[Exception], waits: list[float]
):
    with pytest.raises(raised):
        answering(last).model()
    assert waits == [2**n for n in range(RETRIES)]


def test_a_refusal_is_told_by_its_code_and_not_asked_again(waits: list[float]):
    with pytest.raises(RefusedError, match="No: not now") as refusal:
        answering(problem(422, "prompt_empty")).model()
    assert refusal.value.code == "prompt_empty" and not waits


@pytest.mark.parametrize(
    "answer",
    [
        lambda: httpx.Response(502, text="<html>Bad Gateway" + "!" * 1000),
        lambda: httpx.Response(403, json={"error": "Bad Gateway"}),
        lambda: httpx.Response(400, json=["Bad Gateway"]),
        lambda: httpx.Response(200, text="Bad Gateway"),
    ],
)
def test_what_is_no_answer_of_the_service_is_quoted(answer: Callable[[], httpx.Response], waits: list[float]):
    with pytest.raises(UnexpectedAnswerError, match="Bad Gateway") as error:
        answering(answer()).model()
    assert str(answer().status_code) in str(error.value) and len(str(error.value)) < 300


def test_a_service_that_dies_at_once_tells_its_status(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    deno = tmp_path / "deno"
    deno.write_text("#!/bin/sh\nexit 3\n")
    deno.chmod(0o755)
    monkeypatch.setattr(module.shutil, "which", lambda _: str(deno))
    with pytest.raises(RuntimeError, match="ended with status 3"), running_service(tmp_path):
        pass


def test_a_process_that_does_not_end_is_killed():
    command = ["sh", "-c", "trap '' TERM; echo ready; while :; do sleep 1; done"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, start_new_session=True)
    process.stdout.readline()
    module._stop(process, seconds=0.2)
    assert process.returncode == -9
