"""The unmodified `openai` package of PyPI against the live service and the embedded model."""

import base64
import io
import struct

import openai
import pytest
from conftest import REPOSITORY, Service, start

FACE = REPOSITORY / "tests/fixtures/face.png"
FAST = {"num_inference_steps": 2, "seed": 11}


def client_of(service: Service, token: str) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{service.address}/v1", api_key=token, max_retries=0)


@pytest.fixture(scope="module")
def client(service: Service) -> openai.OpenAI:
    return client_of(service, service.token("--sub", "pypi"))


def size_of(image: str) -> tuple[str, int]:
    """Format and width of a base64 PNG or WebP, from its header."""
    data = base64.b64decode(image)
    if data[:4] == b"RIFF":
        return "webp", 0
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    return "png", struct.unpack(">I", data[16:20])[0]


def test_models(client: openai.OpenAI) -> None:
    [model] = client.models.list().data
    assert (model.object, model.owned_by) == ("model", "idadapter")
    assert model.id.startswith("idadapter")


def test_portraits(client: openai.OpenAI) -> None:
    answer = client.images.edit(
        image=FACE.open("rb"),
        prompt="a smiling woman",
        n=2,
        size="auto",
        quality=None,
        response_format="b64_json",
        extra_body={**FAST, "class_noun": "woman"},
    )
    assert answer.data is not None and len(answer.data) == 2
    formats = [size_of(image.b64_json or "") for image in answer.data]
    assert {answer.size} == {f"{width}x{width}" for _, width in formats}
    assert answer.data[0].b64_json != answer.data[1].b64_json


def test_a_list_of_photos_and_a_stream(client: openai.OpenAI) -> None:
    photo = FACE.read_bytes()
    stream = client.images.edit(
        image=[("a.png", photo), ("b.png", photo)],
        prompt="a smile",
        output_format="webp",
        stream=True,
        partial_images=1,
        extra_body={**FAST, "num_inference_steps": 4},
    )
    events = list(stream)
    assert [event.type for event in events] == ["image_edit.partial_image", "image_edit.completed"]
    completed = events[-1]
    assert size_of(completed.b64_json)[0] == "webp"
    assert completed.usage.total_tokens == 0


def test_a_key_makes_the_picture_once(client: openai.OpenAI) -> None:
    def ask() -> openai.types.ImagesResponse:
        return client.images.edit(
            image=FACE.open("rb"),
            prompt="a smile",
            extra_body={"num_inference_steps": 2},
            extra_headers={"Idempotency-Key": "once"},
        )

    assert ask() == ask()


@pytest.mark.parametrize(
    ("fields", "code", "param"),
    [
        ({"prompt": " "}, "prompt_empty", "prompt"),
        ({"n": 9}, "out_of_range", "n"),
        ({"size": "1024x1024"}, "invalid_value", "size"),
        ({"mask": b"\x89PNG"}, "unknown_field", "mask"),
        ({"model": "gpt-image-2"}, "model_unknown", "model"),
        ({"image": io.BytesIO(b"no picture")}, "image_not_decodable", None),
    ],
)
def test_bad_requests(client: openai.OpenAI, fields: dict, code: str, param: str | None) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.images.edit(**{"image": FACE.read_bytes(), "prompt": "a smile", **fields})
    assert (caught.value.code, caught.value.param) == (code, param)
    assert caught.value.request_id


def test_refused_tokens(service: Service) -> None:
    with pytest.raises(openai.AuthenticationError) as caught:
        client_of(service, "sk-nobody").models.list()
    assert caught.value.code == "token_malformed"
    reader = service.token("--scope", "models:read")
    with pytest.raises(openai.PermissionDeniedError) as refused:
        client_of(service, reader).images.edit(image=FACE.read_bytes(), prompt="a smile")
    assert refused.value.code == "scope_missing"


def test_out_of_credit_and_out_of_requests() -> None:
    poor = start({"INITIAL_CREDIT": "0", "REQUESTS_PER_MINUTE": "2"})
    service = next(poor)
    try:
        client = client_of(service, service.token("--sub", "poor"))
        with pytest.raises(openai.APIStatusError) as caught:
            client.images.edit(image=FACE.read_bytes(), prompt="a smile")
        assert (caught.value.status_code, caught.value.code) == (402, "insufficient_credits")
        client.models.list()
        with pytest.raises(openai.RateLimitError) as refused:
            client.models.list()
        assert refused.value.code == "rate_limit_exceeded"
        assert refused.value.response.headers["Retry-After"].isdigit()
    finally:
        poor.close()
