"""The one training loop of every stage, under Hugging Face accelerate.

A step is a pure function of the weights, the seed and the step's number: its batch, noise and augmentation are drawn
from generators seeded by (seed, step, process). So a resumed run gives the very weights an uninterrupted one would.
"""

from __future__ import annotations

import fcntl
import json
import math
import os
import shutil
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

import cv2
import numpy as np
import torch
from accelerate import Accelerator, PartialState
from accelerate.utils import parse_flag_from_env
from diffusers.training_utils import EMAModel
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm


@dataclass(frozen=True)
class LoopConfig:
    """How long and how fast a stage trains.

    Attributes:
        steps: optimizer steps in all.
        batch_size: samples a step and process.
        learning_rate: AdamW's peak learning rate.
        warmup_steps: linear warm-up.
        final_learning_rate: share of the peak that the cosine ends at; 1 keeps it constant.
        weight_decay: AdamW's decoupled weight decay.
        max_grad_norm: gradients are clipped to this length.
        ema_decay: of the moving average; reached by the warm-up (1 + k) / (10 + k).
        mixed_precision: accelerate's name, "bf16" or "no"; "auto" takes what this machine is faster with
            (`fast_precision`).
        seed: of everything random.
        log_every: steps between scalars.
        sample_every: steps between sample grids.
        checkpoint_every: steps between checkpoints; two are kept.
    """

    steps: int
    batch_size: int
    learning_rate: float
    warmup_steps: int = 200
    final_learning_rate: float = 0.05
    weight_decay: float = 0.01
    max_grad_norm: float = 1.0
    ema_decay: float = 0.999
    mixed_precision: str = "auto"
    seed: int = 0
    log_every: int = 50
    sample_every: int = 1000
    checkpoint_every: int = 500


def fast_precision() -> str:
    """The faster of accelerate's "bf16" and "no" here.

    Processors without instructions for bfloat16 convolve it more slowly than float32 (this project's UNet on an Intel
    Xeon: 11 against 19 pictures a second), those with AVX-512's faster (AMD EPYC, Zen 4: 21 against 14).
    """
    fast = torch.cuda.is_available() or torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported()
    return "bf16" if fast else "no"


def training_device() -> torch.device:
    """Where `train` will place a stage in this process."""
    return PartialState(cpu=parse_flag_from_env("ACCELERATE_USE_CPU")).device


class StepRandom:
    """The random numbers of one step: numpy's for what is drawn of the data, torch's for the rest."""

    def __init__(self, seed: int, step: int, process: int) -> None:
        """Seeds both from the run's seed, the step's number and the process's rank."""
        sequence = np.random.SeedSequence([seed, step, process])
        self.numpy = np.random.default_rng(sequence)
        self.seed = int(sequence.generate_state(1, np.uint64)[0] >> 1)
        self.torch = torch.Generator().manual_seed(self.seed)
        self.elsewhere: dict[torch.device, torch.Generator] = {}

    def normal(self, *shape: int, device: torch.device | None = None) -> Tensor:
        """Standard normal numbers, drawn where they are needed: a GPU's are not the processor's."""
        if device is None or device.type == "cpu":
            return torch.randn(shape, generator=self.torch)
        if device not in self.elsewhere:
            self.elsewhere[device] = torch.Generator(device).manual_seed(self.seed)
        return torch.randn(shape, generator=self.elsewhere[device], device=device)

    def uniform(self, *shape: int) -> Tensor:
        """Uniform numbers in [0, 1)."""
        return torch.rand(shape, generator=self.torch)


def mean_or_zero(values: Tensor, where: Tensor | None = None) -> Tensor:
    """The mean for the log, 0 of nothing: NaN is no JSON.

    Args:
        values: [n, ...].
        where: [n] bool, which of them count; a GPU need not be waited for as for `values[where]`.
    """
    values = values.detach()
    if where is None:
        return values.mean() if values.numel() else values.new_zeros(())
    each = values.flatten(1).mean(1) if values.ndim > 1 else values
    return torch.where(where, each, 0).sum() / where.sum().clamp_min(1)


def mean_over_processes(gradients: Sequence[Tensor]) -> None:
    """Makes gradients of what is trained outside a stage's module the same in all processes, in place."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        for gradient in gradients:
            torch.distributed.all_reduce(gradient)
            gradient /= torch.distributed.get_world_size()


def any_process(here: bool, device: torch.device) -> bool:
    """Whether something is so in any of the processes, the same in all: they stop together, or wait for each other."""
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return here
    answer = torch.tensor(float(here), device=device)
    torch.distributed.all_reduce(answer, torch.distributed.ReduceOp.MAX)
    return bool(answer)


class Stage(ABC):
    """What one stage trains and how."""

    name: str
    """Names the run's folder and the command."""

    module: nn.Module
    """Holds everything the loop saves; parameters with `requires_grad` are optimized."""

    device = torch.device("cpu")
    """Where a step's tensors belong; see `place`."""

    def frozen(self) -> list[nn.Module]:
        """Networks the loss runs but does not train."""
        return []

    def place(self, device: torch.device) -> None:
        """Moves the frozen networks to the device the module trains on."""
        self.device = device
        for network in self.frozen():
            network.to(device)

    def draw(self, random: StepRandom, step: int) -> Any:
        """What a step takes from the data, which processes of their own may draw ahead (`train`'s `workers`).

        Args:
            random: of the step; only `random.numpy` is to be drawn from here, and only here.
            step: number of the step, from 0.

        Returns:
            what `loss` is given, on the processor; None where `loss` draws for itself.
        """
        return None

    @abstractmethod
    def loss(
        self, module: nn.Module, random: StepRandom, step: int, drawn: Any = None
    ) -> tuple[Tensor, dict[str, Tensor | float]]:
        """The loss of one batch.

        Args:
            module: `self.module` as prepared for the devices; call this one, once, so that gradients meet across
                processes.
            random: every random number of the step.
            step: number of the step, from 0.
            drawn: what `draw` gave for this step; None has it drawn here.

        Returns:
            scalar loss, and scalars to log.
        """

    def kept(self) -> list[Any]:
        """What else a checkpoint holds: things with `state_dict` and `load_state_dict`."""
        return []

    def after_step(self, random: StepRandom, step: int) -> dict[str, Tensor | float]:
        """Runs after the optimizer's step (a discriminator's turn); returns scalars to log."""
        return {}

    def learning_rate_shares(self) -> dict[nn.Parameter, float]:
        """What share of the learning rate a parameter has, where not all of it."""
        return {}

    @abstractmethod
    def write_parts(self, root: Path) -> None:
        """Writes what the stage trained into a folder of parts; called while the averaged weights are in place."""

    def sample(self, step: int) -> np.ndarray | None:
        """A picture of what the averaged weights do, [H, W, 3] uint8, or none."""
        return None


def learning_rate_factor(config: LoopConfig, step: int) -> float:
    """Share of the peak learning rate at a step: linear warm-up, then half a cosine down to the final share."""
    warmup = min(1.0, (step + 1) / max(1, config.warmup_steps))
    cosine = 0.5 * (1 + math.cos(math.pi * min(1.0, step / max(1, config.steps))))
    return warmup * (config.final_learning_rate + (1 - config.final_learning_rate) * cosine)


def latest_checkpoint(folder: Path) -> Path | None:
    """The newest complete checkpoint in a run's folder."""
    found = sorted(folder.glob("checkpoint-????????"))
    return found[-1] if found else None


def trained_parameters(module: nn.Module) -> list[nn.Parameter]:
    """The parameters that take gradients, in the module's order."""
    return [parameter for parameter in module.parameters() if parameter.requires_grad]


def parameter_groups(stage: Stage, learning_rate: float) -> list[dict[str, Any]]:
    """The trained parameters by learning rate, for an optimizer."""
    shares, groups = stage.learning_rate_shares(), {}
    for parameter in trained_parameters(stage.module):
        groups.setdefault(shares.get(parameter, 1.0), []).append(parameter)
    return [{"params": parameters, "lr": share * learning_rate} for share, parameters in groups.items()]


class _Draws(Dataset):
    """What a stage draws from the data, by step."""

    def __init__(self, stage: Stage, seed: int, process: int) -> None:
        self.stage, self.seed, self.process = stage, seed, process

    def __getitem__(self, step: int) -> Any:
        return self.stage.draw(StepRandom(self.seed, step, self.process), step)


def _begin_worker(_: int) -> None:
    # OpenCV's threads do not outlive a fork, and there are as many workers as processors anyway.
    cv2.setNumThreads(0)


def _as_drawn(drawn: Any) -> Any:
    # PyTorch's own would make tensors of NumPy arrays, which then move to a GPU, where no memory map can be indexed.
    return drawn


def default_workers() -> int:
    """How many processes draw batches ahead: none without a GPU, where they would take the model's time."""
    return min(12, max(1, (os.cpu_count() or 1) - 2)) if torch.cuda.is_available() else 0


def draws(stage: Stage, seed: int, process: int, steps: range, workers: int) -> Iterator[Any]:
    """What `Stage.draw` gives for each of some steps, in their order, the same however many workers draw.

    Args:
        stage: as it is now; workers see no later change of it.
        seed: of the run.
        process: rank of this process.
        steps: which.
        workers: processes that draw ahead; 0 draws when asked.
    """
    loader = DataLoader(
        _Draws(stage, seed, process),
        batch_size=None,
        sampler=steps,
        num_workers=workers,
        collate_fn=_as_drawn,
        worker_init_fn=_begin_worker,
        multiprocessing_context="fork" if workers else None,
        pin_memory=torch.cuda.is_available(),
        generator=torch.Generator(),
    )
    return iter(loader)


class Ema(EMAModel):
    """The moving average of a stage's trained parameters, and a way to look through it."""

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """See diffusers; what a checkpoint holds is on the processor, and comes to where the averages are."""
        device = self.shadow_params[0].device
        super().load_state_dict(state_dict)
        self.to(device)

    def use(self, parameters: list[nn.Parameter]) -> _Swapped:
        """A context in which the parameters hold their averages."""
        return _Swapped(self, parameters)


class _Swapped:
    def __init__(self, ema: Ema, parameters: list[nn.Parameter]) -> None:
        self.ema, self.parameters = ema, parameters

    def __enter__(self) -> None:
        self.ema.store(self.parameters)
        self.ema.copy_to(self.parameters)

    def __exit__(self, *_: object) -> None:
        self.ema.restore(self.parameters)


def train(
    stage: Stage,
    config: LoopConfig,
    folder: Path,
    parts: Path | None = None,
    stop_at: int | None = None,
    minutes: float | None = None,
    workers: int | None = None,
) -> None:
    """Trains a stage, going on from its newest checkpoint if there is one.

    Args:
        stage: what to train.
        config: how long and how fast.
        folder: run folder; holds checkpoints, TensorBoard files and sample grids.
        parts: where the averaged weights go when training stops.
        stop_at: stop (with a checkpoint) after this many steps, though `config.steps` shapes the schedule.
        minutes: stop (with a checkpoint) after this much time.
        workers: see `draws`; `default_workers` by default.

    Raises:
        RuntimeError: another process trains in this folder.
    """
    folder.mkdir(parents=True, exist_ok=True)
    precision = fast_precision() if config.mixed_precision == "auto" else config.mixed_precision
    accelerator = Accelerator(mixed_precision=precision)
    lock = lock_folder(folder) if accelerator.is_main_process else None
    module = stage.module
    parameters = trained_parameters(module)
    optimizer = torch.optim.AdamW(
        parameter_groups(stage, config.learning_rate),
        lr=config.learning_rate,
        weight_decay=config.weight_decay,
        betas=(0.9, 0.98),
        fused=True,
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: learning_rate_factor(config, step))
    ema = Ema(parameters, decay=config.ema_decay, foreach=True)
    ema.to(accelerator.device)
    stage.place(accelerator.device)
    prepared, optimizer = accelerator.prepare(module, optimizer)
    accelerator.register_for_checkpointing(schedule, ema, *stage.kept())

    step = 0
    checkpoint = latest_checkpoint(folder)
    if checkpoint is not None:
        # The checkpoint was written by this very loop; it holds optimizer state, which is more than tensors.
        accelerator.load_state(str(checkpoint))
        for group in optimizer.param_groups:
            group.update(fused=True, foreach=None)  # a checkpoint from before brings its own
        step = json.loads((checkpoint / "step.json").read_text())["step"]
    writer = SummaryWriter(str(folder / "tensorboard"), purge_step=step) if accelerator.is_main_process else None
    (folder / "config.json").write_text(json.dumps(asdict(config), indent=2) + "\n")

    def save() -> None:
        partial, complete = folder / "partial", folder / f"checkpoint-{step:08d}"
        accelerator.save_state(str(partial), safe_serialization=True)
        # Each process writes its own random state there.
        accelerator.wait_for_everyone()
        if accelerator.is_main_process:
            (partial / "step.json").write_text(json.dumps({"step": step}))
            shutil.rmtree(complete, ignore_errors=True)
            partial.rename(complete)
            for old in sorted(folder.glob("checkpoint-????????"))[:-2]:
                shutil.rmtree(old)
        accelerator.wait_for_everyone()

    started = time.monotonic()
    end = config.steps if stop_at is None else min(stop_at, config.steps)
    bar = tqdm(
        total=config.steps, initial=step, desc=stage.name, mininterval=20, disable=not accelerator.is_main_process
    )
    sums: dict[str, float | Tensor] = {}
    summed = 0
    workers = default_workers() if workers is None else workers
    ahead = draws(stage, config.seed, accelerator.process_index, range(step, end), workers)

    def over() -> bool:
        return minutes is not None and any_process(time.monotonic() - started >= 60 * minutes, accelerator.device)

    while step < end and not over():
        random = StepRandom(config.seed, step, accelerator.process_index)
        prepared.train()
        drawn = next(ahead)
        with accelerator.autocast():
            loss, scalars = stage.loss(prepared, random, step, drawn)
        accelerator.backward(loss)
        norm = accelerator.clip_grad_norm_(parameters, config.max_grad_norm)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        schedule.step()
        ema.step(parameters)
        scalars = {"loss": loss.detach(), "grad_norm": norm, **scalars, **stage.after_step(random, step)}
        for key, value in scalars.items():
            # Numbers stay on a GPU until they are logged: to read one is to wait for all that was asked of it.
            sums[key] = sums.get(key, 0.0) + value
        summed += 1
        step += 1
        bar.update()
        if step % config.log_every == 0 and writer is not None:
            # Fewer steps than `log_every` where the run was resumed between two lines of the log.
            means = {key: float(value) / summed for key, value in sums.items()}
            for key, value in means.items():
                writer.add_scalar(key, value, step)
            bar.set_postfix_str(" ".join(f"{key} {value:.4g}" for key, value in means.items()), refresh=False)
            with (folder / "log.jsonl").open("a") as log:
                log.write(json.dumps({"step": step, "seconds": round(time.monotonic() - started), **means}) + "\n")
            sums, summed = {}, 0
        if step % config.sample_every == 0 and writer is not None:
            module.eval()
            with ema.use(parameters), torch.no_grad():
                picture = stage.sample(step)
            if picture is not None:
                writer.add_image("samples", picture, step, dataformats="HWC")
                save_png(folder / "samples" / f"{step:08d}.png", picture)
        if step % config.checkpoint_every == 0:
            save()
    bar.close()
    if latest_checkpoint(folder) != folder / f"checkpoint-{step:08d}":
        save()
    if parts is not None and accelerator.is_main_process:
        module.eval()
        with ema.use(parameters):
            stage.write_parts(parts)
    if lock is not None:
        lock.close()


def lock_folder(folder: Path) -> IO[str]:
    """Takes a run's folder for this process until it ends or the file is closed.

    Raises:
        RuntimeError: another process trains there.
    """
    handle = (folder / "lock").open("w")
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        handle.close()
        raise RuntimeError(f"another process trains in {folder}; wait for it, or choose another run") from None
    return handle


def save_png(path: Path, picture: np.ndarray) -> None:
    """Writes [H, W, 3] uint8 RGB as PNG, making the folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
