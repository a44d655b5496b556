"""PYTHONPATH=sdk/generated/python python sdk/examples/python/main.py PHOTO PROMPT CLASS_NOUN FOLDER

With the service's address in IDADAPTER_URL and a token in IDADAPTER_TOKEN. With `pip install
./sdk/generated/python` it needs no PYTHONPATH.
"""

import base64
import os
import sys
import uuid
from pathlib import Path

import httpx
from idadapter_client import AuthenticatedClient
from idadapter_client.models import GenerationRequest
from portraits import check_photo, fetch_images, follow_generation, scale_photo, start_generation


def main() -> None:
    if len(sys.argv) != 5:
        sys.exit("main.py PHOTO PROMPT CLASS_NOUN FOLDER, with IDADAPTER_URL and IDADAPTER_TOKEN")
    path, prompt, class_noun, folder = sys.argv[1:]
    Path(folder).mkdir(parents=True, exist_ok=True)
    client = AuthenticatedClient(
        base_url=os.environ["IDADAPTER_URL"],
        token=os.environ["IDADAPTER_TOKEN"],
        # a stream that lives sends something every few seconds
        timeout=httpx.Timeout(30),
    )
    photo = scale_photo(Path(path))
    report = check_photo(client, photo)
    for problem in report.problems:
        print(problem.message)
    if any(problem.blocking for problem in report.problems):
        sys.exit(1)

    request = GenerationRequest(
        reference_images=[base64.b64encode(photo).decode()], prompt=prompt, class_noun=class_noun
    )
    # an app keeps the key until it has the portraits
    generation_id = start_generation(client, request, key=str(uuid.uuid4()))
    print(generation_id, file=sys.stderr)
    generation = follow_generation(
        client,
        generation_id,
        lambda progress: print(progress.stage, progress.step, progress.steps, flush=True),
    )
    for image, file in zip(generation.images, fetch_images(client, generation), strict=True):
        target = Path(folder) / f"portrait_{image.seed}.png"
        target.write_bytes(file)
        print(target)


if __name__ == "__main__":
    main()
