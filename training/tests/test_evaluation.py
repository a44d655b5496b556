"""The evaluation: what is asked, how figures follow from verdicts, and the whole on a few people."""

from __future__ import annotations

import hashlib
import json
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from drawn_faces import PEOPLE, PHOTOS_EACH

from idadapter import evaluate as command
from idadapter.data.facts import Facts, read_facts
from idadapter.data.records import HELD_OUT_BY_ANOTHER_NAME, data_folder, read_records
from idadapter.evaluate_references import PHOTOS, Portrayed, reference_figures, usable_people
from idadapter.evaluate_references import to_markdown as references_table
from idadapter.evaluation.asks import EMOTIONS_SEEN, EXPRESSION_WORDS, RENDITION_KINDS, plan_asks
from idadapter.evaluation.ceilings import pixel_figures
from idadapter.evaluation.columns import References, group_figures, photo_column, portrait_column
from idadapter.evaluation.figures import (
    Figure,
    colour_figures,
    diversity_figures,
    identity_figures,
    mean_figure,
    reached,
)
from idadapter.evaluation.judged import judged_model
from idadapter.evaluation.people import Photo, held_out_people, open_photos, training_photos
from idadapter.evaluation.portraits import Served, most_alike
from idadapter.evaluation.report import ROWS, Evaluation, to_json, to_markdown
from idadapter.evaluation.sheet import contact_sheet
from idadapter.judges.panel import Face, Verdict
from idadapter.service import DEFAULT_BUNDLE, REPOSITORY, Portrait, Service, running_service

needs_service = pytest.mark.skipif(
    not (REPOSITORY / "models" / "default" / "bundle.json").exists() or not (data_folder() / "evaluators").exists(),
    reason="needs models/default and the data folder's photos and evaluators",
)


def face(axis: int, **changes: object) -> Face:
    """A face whose embedding points along one axis."""
    skin, hair = np.array([70.0, 10.0, 15.0]), np.array([20.0, 5.0, 8.0])
    plain = Face(np.eye(8)[axis], np.full(640, float(axis)), 0.0, 0.0, "neutral", False, skin, hair)
    return replace(plain, **changes)


def verdict(found: Face | None, **changes: object) -> Verdict:
    return replace(Verdict(found, glasses=False, hat=False, style="photo"), **changes)


@pytest.fixture(scope="module")
def photos(data: Path) -> list[Photo]:
    """The first photo of each of four drawn people."""
    records = read_records(data)
    rows = list({record.identity: row for row, record in reversed(list(enumerate(records)))}.values())[:4]
    opened = open_photos(data, records, read_facts(records), sorted(rows))
    return [opened[row] for row in sorted(rows)]


def test_the_plan_is_the_same_every_time_and_asks_what_suits(photos: list[Photo]):
    facts: list[Facts] = [replace(photos[0].facts, glasses=i % 4 == 0, hat=False) for i in range(200)]
    asks = plan_asks(facts)
    assert asks == plan_asks(facts)
    assert len({ask.seed for ask in asks}) == len(asks) == 556
    of = {kind: [ask for ask in asks if ask.kind == kind] for kind in {ask.kind for ask in asks}}
    assert [ask.person for ask in of["noun"]] == list(range(200))
    assert {ask.prompt for ask in of["noun"]} == {facts[0].noun}
    words = [ask.prompt.split()[-1] for ask in of["expression"]]
    assert {word: words.count(word) for word in EXPRESSION_WORDS} == dict.fromkeys(EXPRESSION_WORDS, 20)
    assert len(of["glasses"]) == 24 and all(ask.person % 4 for ask in of["glasses"])
    for kind in of.values():
        assert len({ask.person for ask in kind}) == len(kind)
    # A share of the people, not the first few.
    assert max(ask.person for ask in of["smiling"]) > 150


def test_portraits_of_which_one_is_picked_have_no_seed_in_common(photos: list[Photo]):
    facts = [photos[0].facts] * 200
    asks, single = plan_asks(facts, best_of=4), plan_asks(facts)
    assert [replace(ask, seed=0) for ask in asks] == [replace(ask, seed=0) for ask in single]
    assert len({ask.seed + image for ask in asks for image in range(4)}) == 4 * len(asks)
    # Figures of all versions are compared by these.
    assert [ask.seed for ask in single if ask.kind == "expression"][:3] == [1000, 1001, 1002]


def test_a_small_plan_still_asks_everything_once(photos: list[Photo]):
    asks = plan_asks([replace(photo.facts, glasses=False, hat=False) for photo in photos])
    assert len({ask.kind for ask in asks}) == 12
    assert not any(ask.kind == "glasses" for ask in plan_asks([replace(photos[0].facts, glasses=None)]))


def test_people_are_the_held_out_ones_and_photos_of_realism_are_not(data: Path):
    records = read_records(data)
    people = held_out_people(records)
    assert sum(len(rows) for rows in people) == sum(PHOTOS_EACH[p % 3] for p in range(PEOPLE)) - len(
        training_photos(records, 10**6)
    )
    held_out = {records[row].identity for rows in people for row in rows}
    assert len(held_out) == len(people) == 2
    assert held_out.isdisjoint(records[row].identity for row in training_photos(records, 20))
    assert training_photos(records, 5) == training_photos(records, 5)


def test_a_held_out_person_by_another_name_is_no_photo_of_realism(data: Path, monkeypatch: pytest.MonkeyPatch):
    records = read_records(data)
    before = training_photos(records, 20)
    another = records[before[0]].identity
    monkeypatch.setitem(HELD_OUT_BY_ANOTHER_NAME, another, "somebody held out")
    assert training_photos(records, 20) == [row for row in before if records[row].identity != another] != before


def test_identity_counts_a_missing_face_as_a_miss():
    gallery = [face(0), face(1), face(2)]
    towards = face(0, embedding=np.array([0.6, 0, 0, 0.8, 0, 0, 0, 0]))
    pairs = [(gallery[0], verdict(towards)), (gallery[1], verdict(towards)), (gallery[2], verdict(None))]
    figures = identity_figures(pairs, gallery)
    assert figures["id_sim"].value == pytest.approx(0.3) and figures["id_sim"].count == 2
    assert figures["id_sim_strangers"].value == pytest.approx(0.15)
    assert figures["top1"].value == pytest.approx(1 / 3) and figures["top1"].count == 3


def test_diversity_is_the_papers():
    pairs = [
        (face(0, yaw=-10.0, pitch=3.0), verdict(face(0, yaw=20.0, pitch=-1.0, expression="happy"))),
        (face(1), verdict(face(1))),
        (face(2), verdict(None)),
    ]
    figures = diversity_figures(pairs)
    assert [figures[name].value for name in ("expr_div", "pose_div_pitch", "pose_div_yaw")] == [0.5, 2.0, 15.0]


def test_colours_are_compared_with_the_references():
    pairs = [
        (face(0), verdict(face(0, skin=np.array([70.0, 13.0, 19.0]), hair=np.array([32.0, 5.0, 13.0])))),
        (face(1), verdict(face(1))),
        (face(2), verdict(None)),
    ]
    gallery = [reference for reference, _ in pairs]
    gallery[1] = replace(gallery[1], skin=np.array([70.0, 10.0, 35.0]))
    pairs[1] = (gallery[1], pairs[1][1])
    figures = colour_figures(pairs, gallery)
    assert [figures[name].value for name in ("skin_difference", "hair_difference")] == [12.5, 6.5]
    # The first is 5 from the third and hypot(3, 16) from the second's, the second 0 from both others'.
    strangers = (5 + np.hypot(3, 16)) / 4
    assert figures["skin_difference_strangers"].value == pytest.approx(strangers)
    assert figures["hair_difference_strangers"].value == 6.5


def test_what_was_reached():
    assert reached("left", verdict(face(0, yaw=-8.5))) and not reached("left", verdict(face(0, yaw=-7.5)))
    assert reached("right", verdict(face(0, yaw=8.5))) and not reached("right", verdict(face(0, yaw=-8.5)))
    assert reached("smiling", verdict(face(0, smiling=True))) and reached("not_smiling", verdict(face(0)))
    assert not any(reached(kind, verdict(None)) for kind in ("left", "right", "smiling", "not_smiling"))
    assert reached("hat", verdict(None, hat=True)) and not reached("glasses", verdict(face(0), hat=True))
    assert reached("cartoon", verdict(None, style="cartoon")) and reached("photo", verdict(face(0)))


def test_intervals_hold_the_mean_and_are_the_same_every_time():
    values = np.random.default_rng(3).normal(0.4, 0.2, 200)
    figure = mean_figure(values)
    assert figure == mean_figure(values)
    low, high = figure.interval
    assert low < values.mean() < high
    # The mean's standard error is 0.2 / sqrt(200).
    assert high - low == pytest.approx(2 * 1.96 * 0.0141, rel=0.2)
    # Wilson's interval of 10 out of 10.
    assert mean_figure([1.0] * 10).interval == (pytest.approx(0.7225, abs=1e-3), 1.0)
    assert mean_figure([]) is None


def test_pictures_of_one_person_do_not_count_as_so_many_people():
    random = np.random.default_rng(5)
    own = random.normal(0.4, 0.2, 200)
    people = np.repeat(np.arange(200), 4)

    def width(figure: Figure) -> float:
        return figure.interval[1] - figure.interval[0]

    # Four pictures of a person that are all the same tell what one does.
    assert width(mean_figure(own[people], people)) == pytest.approx(width(mean_figure(own)), rel=0.1)
    assert width(mean_figure(own[people], people)) == pytest.approx(2 * width(mean_figure(own[people])), rel=0.1)
    figure = mean_figure(own[people], people)
    assert figure.count == 800 and figure.value == pytest.approx(own.mean())
    # Four that have nothing in common tell as much as four people's.
    apart = random.normal(0.4, 0.2, 800)
    assert width(mean_figure(apart, people)) == pytest.approx(width(mean_figure(apart)), rel=0.15)
    shares = (own > 0.5).astype(float)
    assert width(mean_figure(shares[people], people)) == pytest.approx(width(mean_figure(shares)), rel=0.02)
    assert width(mean_figure(apart > 0.5, people)) == pytest.approx(width(mean_figure(apart > 0.5)), rel=0.15)
    # Nothing but ones: as many as there are people.
    assert mean_figure([1.0] * 40, [*range(10)] * 4).interval == mean_figure([1.0] * 10).interval
    # Who has a single picture changes nothing.
    for values in (own, shares):
        assert mean_figure(values, [f"person {i}" for i in random.permutation(200)]) == mean_figure(values)


def served(photos: list[Photo]) -> list[Served]:
    asks = plan_asks([replace(photo.facts, glasses=False, hat=False) for photo in photos])
    return [Served(ask, Portrait(np.full((128, 128, 3), 90, np.uint8), ask.seed, 0.5)) for ask in asks]


def test_the_table_holds_every_figure(photos: list[Photo]):
    photos = [replace(photo, facts=replace(photo.facts, glasses=False, hat=False)) for photo in photos]
    references = References(photos, [verdict(face(i)) for i in range(len(photos))])
    portraits = served(photos)
    verdicts = [
        verdict(
            face(
                one.ask.person,
                smiling=one.ask.kind == "smiling",
                yaw=-20.0 if one.ask.kind == "left" else 0.0,
                expression="happy" if one.ask.kind == "expression" else "neutral",
            ),
            style=one.ask.kind if one.ask.kind in RENDITION_KINDS else "photo",
            glasses=one.ask.kind == "glasses",
        )
        for one in portraits
    ]
    real = np.random.default_rng(0).normal(size=(50, 640))
    columns = {
        "portraits": portrait_column(references, portraits, verdicts, real),
        "photos": photo_column(references, photos, references.verdicts, real, itself=False),
        "decoded": {
            **photo_column(references, photos, references.verdicts, real, itself=True),
            **pixel_figures(np.zeros((2, 8, 8, 3), np.uint8), np.full((2, 8, 8, 3), 9, np.uint8)),
        },
    }
    made = columns["portraits"]
    assert {key for key, *_ in ROWS} == made.keys() | columns["decoded"].keys()
    ones = (
        "id_sim",
        "top1",
        "top1_prompts",
        "id_sim_renditions",
        "top1_renditions",
        "expression_reached",
        "glasses_reached",
        "glasses_absent",
        "face_found",
    )
    assert all(made[name].value == 1 for name in (*ones, "rendition_reached", "left_reached"))
    assert made["right_reached"].value == made["hat_reached"].value == 0 and made["view_reached"].value == 0.5
    assert made["happy_reached"].value == 1 and made["furious_reached"].value == 0
    assert 0 < made["emotion_reached"].value < 1
    # Nobody here has a second photo, so only what went through the autoencoder can be compared.
    assert columns["photos"]["id_sim"] is None and columns["decoded"]["id_sim"].value == 1
    strangers = [verdict(face(one.ask.person + (one.ask.kind == "cartoon"))) for one in portraits]
    told = portrait_column(references, portraits, strangers, real)
    assert told["top1_renditions"].value == 0.75 and told["top1_prompts"].value == 1
    groups = group_figures(references, portraits, verdicts)
    assert sum(group.people for group in groups if group.name in ("man", "woman")) == len(photos)
    assert [group.people for group in groups if group.name == "light skin as lit"] == [len(photos)]
    evaluation = Evaluation({"people": len(photos)}, columns, groups, {"hat_seen": (0.5, 4)})
    plain = json.loads(json.dumps(to_json(evaluation)))
    assert plain["figures"]["portraits"]["top1"]["value"] == 1
    assert plain["figures"]["photos"]["id_sim"] is None
    table = to_markdown(evaluation)
    known = {key for column in columns.values() for key, figure in column.items() if figure is not None}
    # Four people are not told all words for emotions.
    assert {key for key, *_ in ROWS} - known < {f"{word}_reached" for word in EMOTIONS_SEEN}
    for key, label, _, target in ROWS:
        assert (f"| {label} |" in table) == (key in known)
        assert target in table
    assert "50.0 % of 4" in table


def test_columns_know_whose_pictures_are_alike(photos: list[Photo]):
    photos = [replace(photo, facts=replace(photo.facts, glasses=False, hat=False)) for photo in photos]
    references = References(photos, [verdict(face(i)) for i in range(len(photos))])
    portraits, real = served(photos), np.random.default_rng(0).normal(size=(50, 640))

    def judged(person: int) -> Verdict:
        # Half of the people never have a face, and always glasses.
        return verdict(face(person) if person % 2 else None, glasses=person % 2 == 0)

    verdicts = [judged(one.ask.person) for one in portraits]
    made = portrait_column(references, portraits, verdicts, real)
    shown = photo_column(references, photos * 3, [judged(i) for i in range(len(photos))] * 3, real, itself=True)
    found = [found for group in group_figures(references, portraits, verdicts) if (found := group.face_found)]
    for figure in (made["face_found"], made["top1_prompts"], made["glasses_absent"], shown["face_found"], found[-1]):
        ones = round(figure.value * figure.count)
        low, high = mean_figure([1.0] * ones + [0.0] * (figure.count - ones)).interval
        assert figure.interval[0] < low and high < figure.interval[1]


def test_the_sheet_shows_references_beside_portraits(photos: list[Photo]):
    sheet = contact_sheet(photos, served(photos), 128)
    assert sheet.dtype == np.uint8 and sheet.shape[1] == 4 * (3 * 128 + 6)
    assert np.array_equal(sheet[:128, :128], photos[0].portrait(128))
    assert (sheet[:128, 128:256] == 90).all()


@needs_service
def test_a_few_people_are_evaluated_through_the_service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # A tenth of the people teaches the attribute judge in seconds.
    records = read_records(data_folder())
    some = set(sorted({record.identity for record in records})[::10])
    monkeypatch.setattr(command, "read_records", lambda _: [r for r in records if r.identity in some])
    with running_service() as service:
        evaluation = command.evaluate(
            service, REPOSITORY / "models" / "default", tmp_path / "cache", 2, {}, tmp_path / "sheet.png"
        )
    assert (tmp_path / "sheet.png").stat().st_size > 10_000
    figures = to_json(evaluation)["figures"]
    assert figures["decoded"]["id_sim"]["value"] > 0.85 and figures["decoded"]["top1"]["value"] == 1
    assert abs(figures["photos"]["face_found"]["value"] - 1) < 1e-9
    assert figures["photos"]["id_sim_renditions"]["value"] > 0.4
    for name in ("face_found", "id_sim", "top1", "expr_div", "pose_div_yaw", "expression_reached", "rendition_reached"):
        assert figures["portraits"][name]["count"] > 0, name
    assert evaluation.judges["glasses_absent"][0] > 0.9
    manifest = (REPOSITORY / "models" / "default" / "bundle.json").read_bytes()
    assert evaluation.settings["SHA-256 of bundle.json"] == hashlib.sha256(manifest).hexdigest()


def test_a_decoder_that_loses_green_is_told_from_one_that_keeps_it():
    random = np.random.default_rng(0)
    # Flat squares, so that blurring them away is no part of it.
    photos = random.integers(0, 256, (4, 8, 8, 3), np.uint8).repeat(4, 1).repeat(4, 2)
    same = pixel_figures(photos, photos)
    assert same["green"].value == pytest.approx(1) and same["psnr"].value > 90
    grey = photos.copy()
    grey[..., 1] = photos[..., [0, 2]].mean(-1)
    lost = pixel_figures(photos, grey)
    # Without green against both it is told no better than by its mean.
    assert lost["green"].value < 0.1 and 5 < lost["psnr"].value < 20
    assert lost["green"].count == 4


def test_of_several_portraits_the_most_alike_counts_and_one_without_a_face_least():
    picture = np.zeros((8, 8, 3), np.uint8)
    faceless, other, alike = (Portrait(picture, seed, value) for seed, value in enumerate((None, -0.2, 0.6)))
    assert most_alike([faceless, other, alike]) is alike
    assert most_alike([faceless, other]) is other and most_alike([faceless]) is faceless


def test_several_references_are_judged_by_a_photo_that_was_not_sent():
    first, unseen = face(0, yaw=10.0), face(1, expression="happy")
    half = np.sqrt(0.5) * (np.eye(8)[1] + np.eye(8)[2])
    portraits = [
        Portrayed(verdict(face(1, yaw=-4.0)), first, unseen),
        Portrayed(verdict(face(2, embedding=half, yaw=10.0, expression="happy")), first, unseen),
        Portrayed(verdict(None), first, unseen),
    ]
    figures = reference_figures(portraits)
    assert figures["id_sim_unseen"].value == pytest.approx((1 + np.sqrt(0.5)) / 2)
    assert figures["id_sim_first"].value == 0
    assert figures["pose_div_yaw"].value == 7 and figures["expr_div"].value == 0.5
    table = references_table({"noun": {count: figures for count in PHOTOS}}, people=3, asked=3)
    assert table.startswith("| prompt | figure | 1 photo | 2 photos | 4 photos |")
    assert table.count("0.854 (") == 3 and "50.0 %" in table
    assert "held-out people" not in table
    fewer = references_table({"noun": {count: figures for count in PHOTOS}}, people=3, asked=60)
    assert "3 held-out people, not 60," in fewer


class Taken:
    """A photo, judge and service of faces: what is judged is the face itself."""

    def __init__(self, found: Face) -> None:
        self.picture = found

    def portrait(self, size: int) -> Face:
        return self.picture


def test_people_with_a_photo_of_somebody_else_are_left_out():
    panel = SimpleNamespace(judge=verdict)
    service = SimpleNamespace(refusal_of_photo=lambda picture: "blurred" if picture.yaw else None)
    own, other = [Taken(face(0)) for _ in range(4)], Taken(face(1))
    people = [[*own, Taken(face(0))], [*own, other], [other, *own], [*own[:2], other, *own[:2]], [*own, *own]]
    usable = usable_people(service, panel, people, 5)
    assert [sent for sent, _, _ in usable] == [people[0][:-1], people[4][:-1]]
    refused = [*own[:3], Taken(face(0, yaw=1.0)), own[0]]
    assert usable_people(service, panel, [refused, people[0]], 1) == usable[:1]


def test_a_report_tells_which_weights_it_is_about(tmp_path: Path):
    (tmp_path / "bundle.json").write_text('{"name": "mini", "version": "1.2.3"}')
    digest = hashlib.sha256((tmp_path / "bundle.json").read_bytes()).hexdigest()
    known = {"model": "mini", "version": "1.2.3", "SHA-256 of bundle.json": digest}
    service = SimpleNamespace(bundle=tmp_path, model=lambda: ("mini", "1.2.3"))
    assert judged_model(service, None) == judged_model(None, tmp_path) == known
    assert judged_model(None, tmp_path / "parts") == judged_model(None, None) == {}
    far = SimpleNamespace(bundle=None, model=lambda: ("mini", "1.2.4"))
    assert judged_model(far, tmp_path) == {"model": "mini", "version": "1.2.4"}
    far.bundle = tmp_path
    with pytest.raises(ValueError, match=r"serves mini 1\.2\.4"):
        judged_model(far, None)


@pytest.mark.parametrize(
    ("options", "served", "parts"),
    [
        (["--url", "http://there"], None, None),
        (["--url", "http://there", "--bundle", "b"], Path("b"), Path("b")),
        (["--url", "http://there", "--parts", "p"], None, Path("p")),
        (["--bundle", "b", "--parts", "p"], Path("b"), Path("p")),
        ([], DEFAULT_BUNDLE, DEFAULT_BUNDLE),
    ],
)
def test_ceilings_are_measured_with_no_other_bundles_autoencoder(
    options: list[str], served: Path | None, parts: Path | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    out = tmp_path / "deep" / "out"
    asked: list[tuple[Path | None, Path | None]] = []

    def noted(service: Service, parts: Path | None, *_: object, **__: object) -> Evaluation:
        # A folder that cannot be made is told before the portraits are.
        assert out.is_dir()
        asked.append((service.bundle, parts))
        return Evaluation({"model": "mini"}, {}, [], {})

    monkeypatch.setattr(command, "evaluate", noted)
    monkeypatch.setattr(command, "running_service", lambda bundle: nullcontext(Service("http://here", "", bundle)))
    monkeypatch.setenv("IDADAPTER_TOKEN", "token")
    monkeypatch.setattr("sys.argv", ["evaluate", *options, "--out", str(out)])
    command.main()
    assert asked == [(served, parts)]
    assert "model mini" in (out / "evaluation.md").read_text()
    assert json.loads((out / "evaluation.json").read_text())["settings"] == {"model": "mini"}
