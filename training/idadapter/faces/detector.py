"""face-api's tiny face detector: a Tiny YOLO v2 of depthwise convolutions, 190 kB."""

from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from idadapter.faces.frozen import FrozenModel, SeparableConv, as_filters, subtract_mean
from idadapter.faces.registry import load_weights
from idadapter.quantized import Stored, to_float32

STRIDE = 32
ANCHORS = (
    (1.603231, 2.094468),
    (6.041143, 7.080126),
    (2.882459, 3.518061),
    (4.266906, 5.178857),
    (9.041765, 10.66308),
)
"""Width and height of each anchor box, in cells of 32 pixels."""

REDUCTIONS = (1, 2, 4)
"""The photo is searched at its own size, at half and at a quarter: the network alone misses half of the faces that
fill a photo (measured on 150 photos of LFW at 416 pixels: 53 % found, with the three sizes 99 %)."""

MARGIN = 24
"""Pixels of black, at least, around a reduced photo (both sides together): room for a face that touches the edge."""

SCORE_THRESHOLD, IOU_THRESHOLD = 0.5, 0.3
"""Measured on 300 photos of LFW and CelebA: every second face found at 0.5 was a real one, or its mirrored copy in an
image padded by reflection."""


class FaceDetector(FrozenModel):
    """Photos -> boxes and scores, before non-maximum suppression.

    Photos are RGB [b, 3, S, S] in [0, 1], padded with black at the right and bottom; S is `input_size` or less.
    """

    input_size: ClassVar[int] = 416

    mean_rgb: Tensor
    anchors: Tensor

    def __init__(self) -> None:
        """Makes the network with random weights; use ``from_package`` or ``from_folder``."""
        super().__init__()
        widths = (16, 32, 64, 128, 256, 512)
        self.stem = nn.Conv2d(3, widths[0], 3, padding=1)
        self.layers = nn.ModuleList(SeparableConv(a, b) for a, b in zip(widths, widths[1:], strict=False))
        self.head = nn.Conv2d(widths[-1], 5 * len(ANCHORS), 1)
        self.register_buffer("mean_rgb", torch.tensor([117.001, 114.697, 97.404]), persistent=False)
        self.register_buffer("anchors", torch.tensor(ANCHORS), persistent=False)

    @classmethod
    def stored_tensors(cls, cache: Path | None = None) -> dict[str, Stored]:
        """The package's weights under this module's names."""
        weights = load_weights("tiny_face_detector_model", cache)
        tensors: dict[str, Stored] = {}
        for target, source in (("stem", "conv0"), ("head", "conv8")):
            tensors[f"{target}.weight"] = as_filters(weights[f"{source}/filters"])
            tensors[f"{target}.bias"] = to_float32(weights[f"{source}/bias"])
        for index in range(5):
            target, source = f"layers.{index}", f"conv{index + 1}"
            tensors[f"{target}.depthwise.weight"] = as_filters(weights[f"{source}/depthwise_filter"], depthwise=True)
            tensors[f"{target}.pointwise.weight"] = as_filters(weights[f"{source}/pointwise_filter"])
            tensors[f"{target}.pointwise.bias"] = to_float32(weights[f"{source}/bias"])
        return tensors

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Finds faces in the picture enlarged to ``input_size``, searching at each of ``REDUCTIONS``.

        Args:
            images: [b, 3, S, S] RGB in [0, 1], S at most ``input_size``.

        Returns:
            boxes [b, K, 4] as (x1, y1, x2, y2) in 0..1 of the square (a face cut off by the photo's edge may reach a
            little beyond), and scores [b, K] in 0..1, both float32, before non-maximum suppression.
        """
        side = self.input_size
        images = functional.interpolate(images, (side, side), mode="bilinear", align_corners=False)
        boxes, scores = [], []
        for reduction in REDUCTIONS:
            if reduction == 1:
                found, score = self.search(images)
            else:
                small = side // reduction
                padded = -(-(small + MARGIN) // STRIDE) * STRIDE
                before = (padded - small) // 2
                after = padded - small - before
                reduced = functional.pad(functional.avg_pool2d(images, reduction), (before, after, before, after))
                found, score = self.search(reduced)
                found = (found * padded - before) / small
            boxes.append(found)
            scores.append(score)
        return torch.cat(boxes, 1), torch.cat(scores, 1)

    def portrait_scores(self, portraits: Tensor) -> Tensor:
        """How surely tight portraits show a face: the gate F of the identity loss, 0.8 ms a portrait on one core.

        The portrait is shrunk to 64 pixels and surrounded by black, which suits the network best for faces whose eyes
        stand 0.28 of the picture apart: 99.7 % of 300 real portraits pass 0.5, 97 % blurred by 2 of 128 pixels, 40 % by
        4, 4 % by 6.

        Args:
            portraits: [b, 3, S, S] RGB in [0, 1], S a multiple of 64; larger than 128, they are shrunk more.

        Returns:
            [b] float32 in 0..1.
        """
        reduced = functional.avg_pool2d(portraits, portraits.shape[-1] // 64)
        return self.search(functional.pad(reduced, (16, 16, 16, 16)))[1].amax(1)

    def search(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """One pass of the network, best for faces 50 to 110 pixels wide.

        Args:
            images: [b, 3, S, S] RGB in [0, 1], S a multiple of 32.

        Returns:
            boxes [b, K, 4] and scores [b, K] as :meth:`forward`, K = 5 (S / 32)^2.
        """
        x = functional.leaky_relu(self.stem(subtract_mean(images, self.mean_rgb)), 0.1)
        for layer in self.layers:
            x = functional.leaky_relu(layer(functional.max_pool2d(x, 2)), 0.1)
        # TensorFlow's "same" pooling with stride 1 sees one more column and row, which never win the maximum.
        x = functional.max_pool2d(functional.pad(x, (0, 1, 0, 1), value=-torch.inf), 2, 1)
        return self._decode(self.head(x).float())

    def _decode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """[b, 5 * anchors, rows, columns] -> boxes and scores: Redmon and Farhadi, "YOLO9000" (2016), figure 3."""
        rows, columns = x.shape[-2:]
        # [b, rows, columns, anchors, (x, y, w, h, objectness)]
        x = x.unflatten(1, (len(ANCHORS), 5)).permute(0, 3, 4, 1, 2)
        down = torch.arange(rows, device=x.device, dtype=x.dtype).view(1, rows, 1, 1)
        right = torch.arange(columns, device=x.device, dtype=x.dtype).view(1, 1, columns, 1)
        center_x = (right + x[..., 0].sigmoid()) / columns
        center_y = (down + x[..., 1].sigmoid()) / rows
        half_width = x[..., 2].exp() * self.anchors[:, 0] / (2 * columns)
        half_height = x[..., 3].exp() * self.anchors[:, 1] / (2 * rows)
        boxes = torch.stack(
            [center_x - half_width, center_y - half_height, center_x + half_width, center_y + half_height], dim=-1
        )
        return boxes.flatten(1, 3), x[..., 4].sigmoid().flatten(1)
