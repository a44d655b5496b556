"""Judges what the running service serves, on held-out people, with judges it never saw: one table.

`python -m idadapter.evaluate` starts the service on the embedded bundle, asks it for portraits of 200 held-out people,
and prints the table, ceilings beside it; the same as JSON and markdown lie in `--out`. With `--people 0` only the
ceilings are measured (with `--parts`, of any autoencoder), and no service is needed.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections import Counter
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from .data.facts import read_facts
from .data.records import data_folder, read_records
from .data.templates import PORTRAIT_SIZE
from .evaluation.asks import plan_asks
from .evaluation.ceilings import PHOTOS_A_PERSON, measure_ceilings, real_features
from .evaluation.columns import Column, References, group_figures, portrait_column
from .evaluation.judged import judged_model
from .evaluation.people import held_out_people, open_photos
from .evaluation.portraits import ask_for_portraits, usable_references
from .evaluation.report import Evaluation, to_json, to_markdown
from .evaluation.sheet import contact_sheet
from .judges.panel import Panel
from .loop import save_png
from .service import DEFAULT_BUNDLE, REPOSITORY, Service, running_service

CEILING_PEOPLE = 200
"""People whose photos make the ceilings when no portraits are asked for."""


def evaluate(
    service: Service | None,
    parts: Path | None,
    cache: Path,
    people: int,
    fields: dict[str, object],
    sheet: Path | None = None,
    kinds: tuple[str, ...] | None = None,
    best_of: int = 1,
) -> Evaluation:
    """Asks for portraits, judges them, and measures the ceilings.

    Args:
        service: what is judged; None measures the ceilings alone.
        parts: folder that holds the autoencoder; None leaves the ceilings out.
        cache: folder of derived data.
        people: how many held-out people.
        fields: further fields of a generation (docs/api.md).
        sheet: where to write the contact sheet.
        kinds: the only kinds of prompts to ask for (`evaluation/asks.py`).
        best_of: portraits made for every one that is judged: the one the service finds most like the person.
    """
    settings = judged_model(service, parts)
    if parts is not None:
        settings["autoencoder of the ceilings"] = str(parts)
    settings |= fields
    data = data_folder()
    records = read_records(data)
    facts = read_facts(records)
    panel = Panel(data, cache, records)
    order = held_out_people(records)
    photos = open_photos(data, records, facts, sorted(row for rows in order for row in rows[: 1 + PHOTOS_A_PERSON]))
    firsts = [photos[rows[0]] for rows in order]
    if service is None:
        taken, served, size = firsts[:people], [], PORTRAIT_SIZE
    else:
        taken, refusals = usable_references(service, firsts, people)
        started = time.monotonic()
        asks = plan_asks([photo.facts for photo in taken], kinds, best_of)
        served = ask_for_portraits(service, taken, asks, best_of, **fields)
        size = served[0].portrait.picture.shape[0]
        settings |= {
            **({"best of": best_of} if best_of > 1 else {}),
            "portraits": len(served),
            "seconds a portrait": round((time.monotonic() - started) / len(served), 2),
            "photos refused as reference": dict(Counter(refusals)) or "none",
        }
    references = References(taken, [panel.judge(photo.portrait(size)) for photo in taken])
    real = real_features(panel, data, records, facts, size)
    columns: dict[str, Column] = {}
    groups, judges = [], panel.attributes.accuracy
    if parts is not None:
        identities = {photo.record.identity for photo in taken}
        further = [
            row for rows in order for row in rows[1 : 1 + PHOTOS_A_PERSON] if records[row].identity in identities
        ]
        columns, steady = measure_ceilings(panel, references, [photos[row] for row in further], real, parts, size)
        judges = judges | steady
    if served:
        verdicts = [panel.judge(one.portrait.picture) for one in served]
        columns["portraits"] = portrait_column(references, served, verdicts, real)
        groups = group_figures(references, served, verdicts)
        if sheet is not None:
            save_png(sheet, contact_sheet(taken, served, size))
    return Evaluation({"people": len(taken), **settings}, columns, groups, judges)


def main() -> None:
    """Prints the table, and writes it."""
    parser = argparse.ArgumentParser(
        prog="idadapter.evaluate", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--people", type=int, default=200, help="0: the ceilings alone")
    parser.add_argument("--bundle", type=Path, help="what to serve; default: the embedded bundle")
    parser.add_argument(
        "--url",
        help="a service that runs already, its token in IDADAPTER_TOKEN; --bundle is its bundle, and without it and "
        "--parts there are no ceilings",
    )
    parser.add_argument("--parts", type=Path, help="autoencoder of the ceilings; default: the bundle's")
    parser.add_argument("--cache", type=Path, default=REPOSITORY / "runs" / "cache", help="derived data (the judges)")
    parser.add_argument("--out", type=Path, default=REPOSITORY / "out" / "evaluation", help="evaluation.json and .md")
    parser.add_argument("--sheet", type=Path, help="24 references beside their portraits (never commit it)")
    parser.add_argument("--negative-prompt", help="of drawings too; without it the bundle's, which is for photos")
    parser.add_argument("--guidance-scale", type=float)
    parser.add_argument("--identity-guidance-scale", type=float)
    parser.add_argument("--early-guidance-scale", type=float)
    parser.add_argument("--early-identity-guidance-scale", type=float)
    parser.add_argument("--early-guidance-until", type=float)
    parser.add_argument("--guidance-rescale", type=float)
    parser.add_argument("--identity-strength", type=float)
    parser.add_argument("--pose-variation", type=float)
    parser.add_argument("--num-inference-steps", type=int)
    parser.add_argument("--scheduler")
    parser.add_argument("--cache-interval", type=int)
    parser.add_argument(
        "--best-of", type=int, default=1, help="portraits made for each one judged, as a caller would pick"
    )
    arguments = parser.parse_args()
    names = (
        "negative_prompt",
        "guidance_scale",
        "identity_guidance_scale",
        "early_guidance_scale",
        "early_identity_guidance_scale",
        "early_guidance_until",
        "guidance_rescale",
        "identity_strength",
        "pose_variation",
        "num_inference_steps",
        "scheduler",
        "cache_interval",
    )
    fields = {name: getattr(arguments, name) for name in names if getattr(arguments, name) is not None}
    arguments.out.mkdir(parents=True, exist_ok=True)
    bundle = arguments.bundle
    source: AbstractContextManager[Service | None] = nullcontext()
    if arguments.people and arguments.url:
        source = nullcontext(Service(arguments.url, os.environ["IDADAPTER_TOKEN"], bundle))
    else:
        bundle = bundle or DEFAULT_BUNDLE
        if arguments.people:
            source = running_service(bundle)
    with source as service:
        evaluation = evaluate(
            service,
            arguments.parts or bundle,
            arguments.cache,
            arguments.people or CEILING_PEOPLE,
            fields,
            arguments.sheet,
            best_of=arguments.best_of,
        )
    table = to_markdown(evaluation)
    (arguments.out / "evaluation.md").write_text(table)
    (arguments.out / "evaluation.json").write_text(json.dumps(to_json(evaluation), indent=2) + "\n")
    print(table)


if __name__ == "__main__":
    main()
