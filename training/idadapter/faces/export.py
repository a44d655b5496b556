"""Writes the frozen face models as parts of a bundle: ``python -m idadapter.faces.export BUNDLE``."""

import argparse
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from torch import Tensor, nn

from idadapter.external_data import GRAPH_FILE, write_graph
from idadapter.faces.detector import IOU_THRESHOLD, SCORE_THRESHOLD, FaceDetector
from idadapter.faces.frozen import FrozenModel
from idadapter.faces.landmarks import BOX_MARGIN, FaceLandmarks
from idadapter.faces.recognizer import TEMPLATE, FaceRecognizer

OPSET = 20
TOLERANCE = 1e-4
"""Largest allowed difference between the graph and PyTorch."""

LICENSE = "MIT"
ORIGIN = "npm package @vladmandic/face-api 1.7.15"


@dataclass(frozen=True)
class FaceGraph:
    """A face model as a graph of the bundle: its folder, inputs, outputs, and whether it takes several faces, or one
    picture of any size up to its own."""

    folder: str
    input_name: str
    output_names: tuple[str, ...]
    batched: bool


DETECTOR = FaceGraph("face_detector", "image", ("boxes", "scores"), batched=False)
LANDMARKS = FaceGraph("face_landmarks", "faces", ("landmarks",), batched=True)
RECOGNIZER = FaceGraph("face_recognizer", "faces", ("embedding",), batched=True)


class SingleImage(nn.Module):
    """The detector as its graph has it: one image [1, 3, S, S] -> boxes [K, 4], scores [K]."""

    def __init__(self, detector: FaceDetector) -> None:
        """Wraps ``detector``."""
        super().__init__()
        self.detector = detector

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Finds the faces of one image."""
        boxes, scores = self.detector(image)
        return boxes[0], scores[0]


def export_faces(bundle_dir: Path, cache: Path | None = None) -> dict:
    """Writes ``face_detector/``, ``face_landmarks/`` and ``face_recognizer/`` of a bundle.

    Args:
        bundle_dir: the bundle's folder.
        cache: folder for downloads; ``registry.cache_folder()`` by default.

    Returns:
        What ``bundle.json`` says of them: ``graphs`` (name -> path), ``faces`` (settings of the three), and ``parts``
        (name, origin, license).

    Raises:
        ValueError: a graph differs from its PyTorch module by more than ``TOLERANCE``.
    """
    export_graph(DETECTOR, FaceDetector, bundle_dir, cache)
    export_graph(LANDMARKS, FaceLandmarks, bundle_dir, cache)
    export_graph(RECOGNIZER, FaceRecognizer, bundle_dir, cache)
    origins = {
        DETECTOR: f"tiny_face_detector_model of {ORIGIN}",
        LANDMARKS: f"face_landmark_68_model of {ORIGIN}",
        RECOGNIZER: f"face_recognition_model (dlib's ResNet) of {ORIGIN}; mean embedding computed here",
    }
    return {
        "graphs": {graph.folder: f"{graph.folder}/{GRAPH_FILE}" for graph in origins},
        "faces": {
            "detector": {
                "input_size": FaceDetector.input_size,
                "enlarges": True,
                "score_threshold": SCORE_THRESHOLD,
                "iou_threshold": IOU_THRESHOLD,
            },
            "landmarks": {"input_size": FaceLandmarks.input_size, "margin": BOX_MARGIN},
            "recognizer": {"input_size": FaceRecognizer.input_size, "template": TEMPLATE.tolist()},
        },
        "parts": [{"name": graph.folder, "origin": origin, "license": LICENSE} for graph, origin in origins.items()],
    }


def export_graph(graph: FaceGraph, kind: type[FrozenModel], bundle_dir: Path, cache: Path | None = None) -> float:
    """Writes one face model and compares the graph, as ONNX Runtime reads it, with PyTorch.

    Returns:
        The largest absolute difference, on noise and on a smooth picture.

    Raises:
        ValueError: it is above ``TOLERANCE``.
    """
    tensors = kind.stored_tensors(cache)
    model = kind.from_tensors(tensors)
    module = SingleImage(model) if isinstance(model, FaceDetector) else model
    prefix = "detector." if isinstance(model, FaceDetector) else ""
    side = kind.input_size if graph.batched else kind.input_size // 2
    example = torch.rand(2 if graph.batched else 1, 3, side, side)
    proto = _trace(graph, module, example, kind.input_size)
    names = {prefix + name: name for name in tensors}
    used = {initializer.name for initializer in proto.graph.initializer}
    write_graph(proto, tensors, bundle_dir / graph.folder, {k: v for k, v in names.items() if k in used})
    sizes = (kind.input_size,) if graph.batched else (kind.input_size, 128, 75)
    difference = np.max([compare(bundle_dir / graph.folder / GRAPH_FILE, module, graph, size) for size in sizes])
    print(f"{graph.folder}: ONNX Runtime and PyTorch differ by at most {difference:.2e}")
    if not difference <= TOLERANCE:
        raise ValueError(f"{graph.folder}: the graph differs from PyTorch by {difference:g} > {TOLERANCE:g}")
    return float(difference)


def _trace(graph: FaceGraph, module: nn.Module, example: Tensor, largest: int) -> onnx.ModelProto:
    side = torch.export.Dim("side", min=2, max=largest)
    shapes = ({0: torch.export.Dim("n", min=1, max=1024)} if graph.batched else {2: side, 3: side},)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            module,
            (example,),
            dynamo=True,
            opset_version=OPSET,
            input_names=[graph.input_name],
            output_names=list(graph.output_names),
            dynamic_shapes=shapes,
            verbose=False,
        )
    assert program is not None
    proto = program.model_proto
    for node in proto.graph.node:
        # Stack traces and paths of the machine that exported have no place in a published graph.
        node.ClearField("metadata_props")
        node.ClearField("doc_string")
    return proto


@torch.no_grad()
def compare(path: Path, module: nn.Module, graph: FaceGraph, size: int) -> float:
    """The largest absolute difference between a graph and its module, on noise and on a smooth picture."""
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    random = np.random.default_rng(0)
    axis = np.linspace(0, 1, size, dtype=np.float32)
    smooth = np.stack(np.broadcast_arrays(axis, axis[:, None], (axis + axis[:, None]) / 2))
    pictures = np.stack([random.random((3, size, size), np.float32), smooth, 1 - smooth])
    largest = 0.0
    for batch in [pictures] if graph.batched else pictures[:, None]:
        expected = module(torch.from_numpy(batch))
        expected = expected if isinstance(expected, tuple) else (expected,)
        found = session.run(list(graph.output_names), {graph.input_name: batch})
        for a, b in zip(expected, found, strict=True):
            if tuple(a.shape) != b.shape:
                raise ValueError(f"{graph.folder}: PyTorch gives {tuple(a.shape)}, the graph {b.shape}")
            largest = float(np.max([largest, np.abs(a.numpy() - b).max()]))
    return largest


def main() -> None:
    """Writes the three parts into the folder named on the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bundle", type=Path)
    export_faces(parser.parse_args().bundle)


if __name__ == "__main__":
    main()
