"""What processes that train together do together."""

from __future__ import annotations

from pathlib import Path

import torch
import torch.distributed
import torch.multiprocessing

from idadapter.loop import any_process, mean_over_processes


def in_process(rank: int, rendezvous: str) -> None:
    torch.distributed.init_process_group("gloo", init_method=rendezvous, rank=rank, world_size=2)
    gradients = [torch.full((2,), float(rank)), torch.tensor([4.0 * rank])]
    mean_over_processes(gradients)
    assert gradients[0].tolist() == [0.5, 0.5] and gradients[1].tolist() == [2.0]
    # Whose minutes are over a step earlier stops with the other, which would wait for it for ever otherwise.
    device = torch.device("cpu")
    assert any_process(rank == 1, device) is True and any_process(False, device) is False
    torch.distributed.destroy_process_group()


def test_processes_agree_on_gradients_and_on_when_to_stop(tmp_path: Path):
    torch.multiprocessing.spawn(in_process, (f"file://{tmp_path / 'rendezvous'}",), nprocs=2)


def test_one_process_asks_nobody():
    alone, device = [torch.ones(2)], torch.device("cpu")
    mean_over_processes(alone)
    assert alone[0].tolist() == [1, 1]
    assert any_process(True, device) is True and any_process(False, device) is False
