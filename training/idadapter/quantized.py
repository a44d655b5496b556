"""Tensors stored as unsigned bytes with a scale and a minimum."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Quantized:
    """A tensor stored as bytes: ``values * scale + minimum``, computed in float32.

    Attributes:
        values: uint8, any shape.
        scale: float32, broadcastable to ``values`` (a scalar, or one number an output channel).
        minimum: float32, of the shape of ``scale``.
    """

    values: np.ndarray
    scale: np.ndarray
    minimum: np.ndarray

    def __post_init__(self) -> None:
        """Refuses what the graph could not compute: other types, or shapes that do not broadcast."""
        if self.values.dtype != np.uint8:
            raise TypeError(f"quantised values are uint8, not {self.values.dtype}")
        if self.scale.dtype != np.float32 or self.minimum.dtype != np.float32:
            raise TypeError("scale and minimum are float32")
        if self.scale.shape != self.minimum.shape:
            raise ValueError(f"scale {self.scale.shape} and minimum {self.minimum.shape} differ in shape")
        if np.broadcast_shapes(self.values.shape, self.scale.shape) != self.values.shape:
            raise ValueError(f"scale {self.scale.shape} does not broadcast to {self.values.shape}")

    def dequantize(self) -> np.ndarray:
        """The tensor as float32, of the shape of ``values``."""
        return self.values.astype(np.float32) * self.scale + self.minimum

    def transpose(self, *axes: int) -> "Quantized":
        """The tensor with its axes permuted; for a scalar scale only."""
        if self.scale.ndim != 0:
            raise ValueError("only a tensor with one scale can be transposed")
        return Quantized(np.ascontiguousarray(self.values.transpose(*axes)), self.scale, self.minimum)

    def times(self, factor: np.ndarray) -> "Quantized":
        """The tensor multiplied by ``factor`` (broadcastable): exact, since it only touches scale and minimum."""
        return Quantized(
            self.values,
            (self.scale * factor).astype(np.float32),
            (self.minimum * factor).astype(np.float32),
        )


Stored = np.ndarray | Quantized
"""How a tensor lies in a bundle: float32 or float16 as it is, or quantised."""


def to_float32(stored: Stored) -> np.ndarray:
    """The stored tensor's values as float32."""
    return stored.dequantize() if isinstance(stored, Quantized) else stored.astype(np.float32)
