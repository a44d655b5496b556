"""Weights between two runs': what a training gained, with less of what it lost.

`python -m idadapter.average --parts ../runs/more/parts --base ../models/default --share 0.6 --out ../runs/mean/parts`
takes 0.6 of one run's weights and the rest of those it began with (WiSE-FT, Wortsman et al. 2022, equation 1).
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from .parts import TRAINED_PARTS, copy_parts, read_part, write_part


def average_parts(parts: Path, base: Path, share: float, out: Path) -> int:
    """Writes the parts of a run with their weights averaged with another's.

    Args:
        parts: of the run, whose tokenizer and noise schedule are kept.
        base: parts of the same shapes, or a bundle.
        share: of the run's weights, 0 to 1.
        out: folder to write, which must not be there.

    Returns:
        How many tensors differed.

    Raises:
        FileExistsError: `out` is there.
        FileNotFoundError: `base` lacks a part.
        ValueError: the share is not in 0..1, or tensors of a part are others, or of another shape.
    """
    if not 0 <= share <= 1:
        raise ValueError(f"a share of {share} is not in 0..1")
    if out.exists():
        raise FileExistsError(f"{out} is there already: choose another folder")
    averaged, differing = [], 0
    for part in TRAINED_PARTS:
        (ours, config), (theirs, _) = read_part(parts, part), read_part(base, part)
        if {name: value.shape for name, value in ours.items()} != {name: value.shape for name, value in theirs.items()}:
            raise ValueError(f"{parts / part} and {base / part} have other tensors")
        differing += sum(not torch.equal(value.float(), theirs[name].float()) for name, value in ours.items())
        weights = {name: torch.lerp(theirs[name].float(), value.float(), share) for name, value in ours.items()}
        averaged.append((part, weights, config))
    copy_parts(parts, out)
    for part, weights, config in averaged:
        write_part(out, part, weights, config)
    return differing


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(prog="idadapter.average", description=__doc__)
    parser.add_argument("--parts", type=Path, required=True, help="a run's")
    parser.add_argument("--base", type=Path, required=True, help="parts or a bundle of the same shapes")
    parser.add_argument("--share", type=float, required=True, help="of the run's weights")
    parser.add_argument("--out", type=Path, required=True, help="folder to write")
    args = parser.parse_args()
    print(f"{average_parts(args.parts, args.base, args.share, args.out)} tensors averaged")


if __name__ == "__main__":
    main()
