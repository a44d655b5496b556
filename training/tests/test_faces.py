"""The frozen face models: against photos, and their graphs against PyTorch."""

import os
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import onnxruntime
import pytest
import torch

from idadapter.data.alignment import align_face
from idadapter.data.records import FaceRecord, data_folder, read_photos, read_records
from idadapter.data.templates import PORTRAIT_TEMPLATE
from idadapter.data.vision_crops import to_tensor
from idadapter.faces.detector import FaceDetector
from idadapter.faces.emotion import CLASSES, WINDOW, EmotionClassifier
from idadapter.faces.export import export_faces
from idadapter.faces.face_res import TEMPLATE as FACE_RES_TEMPLATE
from idadapter.faces.face_res import FaceRes
from idadapter.faces.landmarks import mirror_order
from idadapter.faces.locate import FaceLocator, suppress
from idadapter.faces.mean_embedding import mean_embedding
from idadapter.faces.recognizer import TEMPLATE, FaceRecognizer
from idadapter.faces.registry import FACE_API, HUMAN, check_integrity, load_weights
from idadapter.quantized import Quantized

needs_photos = pytest.mark.skipif(
    not (data_folder() / "faces" / "faces.csv.gz").exists(), reason="no photos: IDADAPTER_DATA names no data folder"
)
PAIRS = 40


@dataclass(frozen=True)
class PhotoPairs:
    """Photos 2k and 2k + 1 show one person, and no two pairs the same one."""

    records: list[FaceRecord]
    photos: list[np.ndarray]


@pytest.fixture(scope="module")
def pairs() -> PhotoPairs:
    by_identity = defaultdict(list)
    for record in read_records(data_folder()):
        if record.file.startswith("lfw"):
            by_identity[record.identity].append(record)
    several = [identity for identity in sorted(by_identity) if len(by_identity[identity]) > 1]
    chosen = np.random.default_rng(4).permutation(several)[:PAIRS]
    records = [record for identity in chosen for record in by_identity[identity][:2]]
    photos = dict(read_photos(data_folder(), records))
    return PhotoPairs(records, [photos[index] for index in range(len(records))])


@pytest.fixture(scope="module")
def recognizer() -> FaceRecognizer:
    return FaceRecognizer.from_package()


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bundle")
    export_faces(folder)
    return folder


def as_input(images: list[np.ndarray]) -> torch.Tensor:
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float() / 255


def aligned(pairs: PhotoPairs, template: np.ndarray, size: int) -> torch.Tensor:
    faces = zip(pairs.photos, pairs.records, strict=True)
    return as_input([align_face(photo, record.landmarks, template, size) for photo, record in faces])


def run_graph(folder: Path, name: str, value: torch.Tensor) -> list[np.ndarray]:
    session = onnxruntime.InferenceSession(folder / "model.onnx", providers=["CPUExecutionProvider"])
    return session.run(None, {name: value.numpy()})


def test_an_archive_with_other_bytes_is_refused():
    with pytest.raises(ValueError, match="sha512"):
        check_integrity(b"something else", FACE_API)


def test_weights_keep_their_bytes():
    weights = load_weights("face_recognition_model")
    filters = weights["conv32_down/conv/filters"]
    assert isinstance(filters, Quantized)
    assert filters.values.shape == (7, 7, 3, 32)
    # The manifest's scale and minimum; a kernel's weights spread about zero.
    assert filters.dequantize().min() == pytest.approx(-0.07101876902229645)
    assert abs(filters.dequantize().mean()) < 0.01
    assert load_weights("ssd_mobilenetv1_model")["Postprocessor/stack/1"] == 5118


def test_weights_in_half_precision_are_read():
    weights = load_weights("faceres", package=HUMAN)
    filters = weights["conv1/convolution/merged_input"]
    assert isinstance(filters, np.ndarray) and filters.dtype == np.float32 and filters.shape == (3, 3, 3, 32)
    assert (weights["conv1_relu/Cast"], weights["conv1_relu/Const_1"]) == (6, 0)


def test_recognizer_is_frozen_and_differentiable_in_the_face(recognizer: FaceRecognizer):
    faces = torch.rand(2, 3, 150, 150, generator=torch.Generator().manual_seed(0), requires_grad=True)
    features = recognizer.features(faces)
    embedding = recognizer.embed(features)
    assert [tuple(f.shape[1:]) for f in features] == [(32, 35, 35), (64, 17, 17), (128, 8, 8), (256, 4, 4)]
    torch.testing.assert_close(embedding.norm(dim=1), torch.ones(2))
    embedding[:, 0].sum().backward()
    assert faces.grad is not None and faces.grad.abs().amax(dim=(1, 2, 3)).min() > 0
    assert not any(p.requires_grad for p in recognizer.parameters())
    assert not recognizer.train().training


@needs_photos
def test_recognizer_tells_people_apart(pairs: PhotoPairs, recognizer: FaceRecognizer):
    with torch.no_grad():
        embeddings = recognizer(aligned(pairs, TEMPLATE, 150))
    same = (embeddings[0::2] * embeddings[1::2]).sum(1)
    different = (embeddings[0::2] * embeddings[1::2].roll(1, 0)).sum(1)
    assert same.mean() > 0.65
    assert abs(different.mean()) < 0.08
    assert ((same > 0.38).sum() + (different < 0.38).sum()) / (2 * PAIRS) >= 0.96


@needs_photos
def test_the_second_recognizer_tells_people_apart_by_itself(pairs: PhotoPairs, recognizer: FaceRecognizer):
    second = FaceRes.from_package()
    with torch.no_grad():
        embeddings = second(aligned(pairs, FACE_RES_TEMPLATE, second.input_size))
        first = recognizer(aligned(pairs, TEMPLATE, 150))
    centred = torch.nn.functional.normalize(embeddings - embeddings.mean(0), dim=1)
    cosines = centred[0::2] @ centred[1::2].T
    same, others = cosines.diagonal(), cosines[~torch.eye(PAIRS, dtype=torch.bool)]
    # Area under the curve, and how alike photos of strangers look by chance.
    assert (same[:, None] > others[None]).float().mean() > 0.985
    assert same.mean() > 0.45 and others.std() < 0.2
    # It is another's opinion: of strangers the two agree only in part.
    its = (first[0::2] @ first[1::2].T)[~torch.eye(PAIRS, dtype=torch.bool)]
    assert torch.corrcoef(torch.stack([its, others]))[0, 1] < 0.85


def test_the_second_recognizer_is_frozen_and_differentiable_in_the_face():
    faces = torch.rand(2, 3, 160, 160, generator=torch.Generator().manual_seed(0), requires_grad=True)
    second = FaceRes.from_package()
    embeddings = second(faces)
    assert embeddings.shape == (2, 1024) and embeddings.min() >= 0
    embeddings[0].sum().backward()
    # Stride 2 in the first convolution: all but the last row and column count.
    assert (faces.grad[0].abs().sum(0) > 0).float().mean() > 0.95 and not faces.grad[1].any()
    assert not any(p.requires_grad for p in second.parameters()) and not second.train().training


@needs_photos
def test_recognizer_keeps_its_precision_under_bfloat16(pairs: PhotoPairs, recognizer: FaceRecognizer):
    faces = aligned(pairs, TEMPLATE, 150)[:8]
    with torch.no_grad():
        exact = recognizer(faces)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            rough = recognizer(faces)
    assert rough.dtype == torch.float32
    assert (exact * rough).sum(1).min() > 0.998


@needs_photos
def test_subtracted_mean_is_that_of_faces(pairs: PhotoPairs, recognizer: FaceRecognizer):
    faces = zip(pairs.photos, pairs.records, strict=True)
    mean = mean_embedding(align_face(photo, record.landmarks, TEMPLATE, 150) for photo, record in faces)
    # Single outputs lie 0.57 away from the mean of all, so that of 80 faces about 0.06.
    assert np.linalg.norm(mean - recognizer.mean_embedding.numpy()) < 0.15


@needs_photos
def test_detector_and_landmarks_find_the_face(pairs: PhotoPairs):
    locator = FaceLocator()
    errors, single = [], 0
    for photo, record in list(zip(pairs.photos, pairs.records, strict=True))[:30]:
        faces = locator.locate(photo)
        single += len(faces) == 1
        eyes = np.linalg.norm(record.landmarks[0] - record.landmarks[1])
        nearest = min((np.linalg.norm(f.points - record.landmarks, axis=1).mean() / eyes for f in faces), default=9)
        errors.append(nearest)
    # Some photos truly show a second face.
    assert single >= 27
    assert max(errors) < 1
    assert np.mean(errors) < 0.11


@needs_photos
def test_the_gate_passes_portraits_and_nothing_else(pairs: PhotoPairs):
    detector = FaceDetector.from_package()
    portraits = aligned(pairs, PORTRAIT_TEMPLATE, 128)
    smeared = [cv2.GaussianBlur(p, (0, 0), 8) for p in (portraits.permute(0, 2, 3, 1) * 255).byte().numpy()]
    noise = torch.rand(8, 3, 128, 128, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert (detector.portrait_scores(portraits) > 0.5).float().mean() >= 0.97
        assert (detector.portrait_scores(as_input(smeared)) > 0.5).float().mean() <= 0.05
        assert detector.portrait_scores(noise).max() < 0.2


def test_mirroring_twice_changes_no_point():
    order = mirror_order()
    assert sorted(order) == list(range(68))
    assert [order[i] for i in order] == list(range(68))
    assert (order[36], order[48], order[30], order[8]) == (45, 54, 30, 8)


def test_suppression_keeps_the_surest_of_overlapping_boxes():
    boxes = np.array([[0, 0, 10, 10], [1, 1, 11, 11], [20, 20, 30, 30], [0, 0, 10, 10]], np.float64)
    assert suppress(boxes, np.array([0.6, 0.9, 0.7, 0.4]), 0.5, 0.3) == [1, 2]
    assert suppress(boxes, np.array([0.6, 0.9, 0.7, 0.4]), 0.5, 0.9) == [1, 2, 0]


def test_graphs_agree_with_pytorch(bundle: Path, recognizer: FaceRecognizer):
    # export_faces fails by itself above 1e-4; here the weights come back out of the bundle, at another batch size.
    faces = torch.rand(5, 3, 150, 150, generator=torch.Generator().manual_seed(1))
    from_bundle = FaceRecognizer.from_folder(bundle / "face_recognizer")
    with torch.no_grad():
        expected = recognizer(faces)
        torch.testing.assert_close(from_bundle(faces), expected, rtol=0, atol=0)
    np.testing.assert_allclose(run_graph(bundle / "face_recognizer", "faces", faces)[0], expected, atol=1e-4)


@needs_photos
def test_graphs_agree_with_pytorch_on_photos(bundle: Path, pairs: PhotoPairs, recognizer: FaceRecognizer):
    faces = aligned(pairs, TEMPLATE, 150)[:6]
    image = as_input([cv2.resize(pairs.photos[0], (416, 416))])
    detector = FaceDetector.from_folder(bundle / "face_detector")
    with torch.no_grad():
        embedding, (boxes, scores) = recognizer(faces), detector(image)
    found = run_graph(bundle / "face_detector", "image", image)
    assert scores.max() > 0.5
    np.testing.assert_allclose(found[0], boxes[0], atol=1e-4)
    np.testing.assert_allclose(found[1], scores[0], atol=1e-4)
    np.testing.assert_allclose(run_graph(bundle / "face_recognizer", "faces", faces)[0], embedding, atol=1e-4)


def test_parts_are_small(bundle: Path):
    sizes = {p.name: sum(f.stat().st_size for f in p.iterdir()) for p in bundle.iterdir()}
    assert sizes.keys() == {"face_detector", "face_landmarks", "face_recognizer"}
    assert sum(sizes.values()) < 7e6
    assert all(len(os.listdir(bundle / name)) == 2 for name in sizes)


@needs_photos
def test_the_emotion_classifier_tells_who_smiles(pairs: PhotoPairs):
    classifier = EmotionClassifier.from_package()
    chips = [
        align_face(photo, record.landmarks, TEMPLATE, FaceRecognizer.input_size)
        for photo, record in zip(pairs.photos, pairs.records, strict=True)
    ]
    with torch.no_grad():
        logits = classifier(to_tensor(chips))
    assert logits.shape == (len(chips), len(CLASSES))
    found = logits.softmax(1)[:, CLASSES.index("smiling")].numpy()
    labels = np.array([record.attributes.get("Smiling", np.nan) for record in pairs.records])
    smiling, serious = found[labels > 0.6], found[labels < 0.3]
    assert len(smiling) > 15 and len(serious) > 15
    # Area under the curve; the labels are a classifier's too.
    assert (smiling[:, None] > serious[None]).mean() > 0.9


def test_the_emotion_classifiers_gradient_reaches_the_face():
    faces = torch.rand(2, 3, 150, 150, generator=torch.Generator().manual_seed(0)).requires_grad_(True)
    classifier = EmotionClassifier.from_package()
    classifier(faces)[0, CLASSES.index("sad")].backward()
    left, top, side = WINDOW
    seen = faces.grad[0].abs().sum(0) > 0
    assert seen[top : top + side, left : left + side].float().mean() > 0.9
    seen[top : top + side, left : left + side] = False
    assert not seen.any() and not faces.grad[1].any()
    assert not any(parameter.requires_grad for parameter in classifier.train().parameters())
