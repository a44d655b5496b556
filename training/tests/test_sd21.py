"""The Stable Diffusion 2.1 configuration, with random weights: a training step and an export in 20 GB of memory."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import onnxruntime
import pytest
from drawn_faces import write_data_folder

from idadapter.config import read_config
from idadapter.count_parameters import vocabulary_size
from idadapter.initial import write_initial_parts

CONFIG = Path(__file__).resolve().parents[1] / "configs" / "sd21.toml"
LIMIT_GB = 20

takes_20_gb_and_half_an_hour = pytest.mark.skipif(
    not os.environ.get("IDADAPTER_TEST_SD21"),
    reason="takes 20 GB of memory, 30 GB of disk and half an hour: set IDADAPTER_TEST_SD21=1",
)

WRITE_PARTS = """
import sys
from pathlib import Path
from test_sd21 import write_random_parts
write_random_parts(Path(sys.argv[1]), Path(sys.argv[2]))
"""


def write_random_parts(config_path: Path, parts: Path) -> None:
    """Parts of the configured shapes, with Stable Diffusion's whole vocabulary."""
    config = read_config(config_path)
    captions = ["a photo of a woman, smiling", "man is sks"] * 50
    write_initial_parts(config, parts, captions, vocabulary_size=vocabulary_size(config))


def measured(name: str, command: list[str], data: Path) -> float:
    """Runs a command and gives its largest resident memory in GB."""
    environment = {**os.environ, "IDADAPTER_DATA": str(data), "PYTHONPATH": os.pathsep.join(sys.path)}
    started = time.monotonic()
    process = subprocess.Popen(command, env=environment)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0, name
    # Linux tells kilobytes.
    memory = usage.ru_maxrss * 1024 / 1e9
    print(f"{name}: {memory:.1f} GB at most, {time.monotonic() - started:.0f} s", flush=True)
    return memory


@takes_20_gb_and_half_an_hour
def test_sd21_trains_a_step_and_is_exported_in_20_gb(tmp_path: Path) -> None:
    write_data_folder(tmp_path / "data", people=3)
    text = CONFIG.read_text()
    assert text.count("batch_size = 4") == 1 and text.count("recognized = 4") == 1
    config = tmp_path / "sd21.toml"
    config.write_text(text.replace("batch_size = 4", "batch_size = 1").replace("recognized = 4", "recognized = 1"))
    run, bundle = tmp_path / "run", tmp_path / "bundle"
    common = [sys.executable, "-m", "idadapter"]
    options = ["--config", str(config), "--run", str(run)]
    memory = [
        measured(
            "random weights", [sys.executable, "-c", WRITE_PARTS, str(config), str(run / "parts")], tmp_path / "data"
        ),
        measured("one step", [*common, "idadapter", *options, "--stop-at", "1"], tmp_path / "data"),
        measured("export", [*common, "export", *options, "--bundle", str(bundle)], tmp_path / "data"),
    ]
    assert (run / "idadapter" / "checkpoint-00000001").exists()
    # Graph and weights fit each other: ONNX Runtime opens the largest one.
    onnxruntime.InferenceSession(bundle / "unet" / "model.onnx", providers=["CPUExecutionProvider"])
    assert max(memory) < LIMIT_GB
