"""Copied parts: a run has all of them or none, whoever stops the copying and however many processes copy."""

from __future__ import annotations

import shutil
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from idadapter import __main__ as command_line
from idadapter import parts as parts_module
from idadapter.parts import TRAINED_PARTS, copy_parts, has_part, write_part

TINY = Path(__file__).with_name("tiny.toml")


def files_of(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def begin(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """Begins a stage with `--start-from` as the command line does, and gives the run's parts; nothing is trained."""
    run = tmp_path / "run"
    monkeypatch.setattr(command_line, "make_stage", lambda *_: (type("Stage", (), {"name": "idadapter"}), None))
    monkeypatch.setattr(command_line, "train", lambda *_: None)

    def start(source: Path) -> Path:
        arguments = ["idadapter", "--config", str(TINY), "--run", str(run), "--start-from", str(source)]
        monkeypatch.setattr(sys, "argv", ["idadapter", *arguments])
        command_line.main()
        return run / "parts"

    return start


def test_a_copy_that_was_stopped_is_made_again(parts: Path, begin, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def stopped(root: Path, name: str, *rest: Any) -> None:
        if name == "unet":
            raise KeyboardInterrupt
        write_part(root, name, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(parts_module, "write_part", stopped)
        with pytest.raises(KeyboardInterrupt):
            begin(parts)
    assert not (tmp_path / "run" / "parts").exists()
    copied = begin(parts)
    assert files_of(copied) == files_of(parts)
    assert [path.name for path in copied.parent.iterdir()] == ["parts"]
    for name in TRAINED_PARTS:
        one, two = (load_file(folder / name / "model.safetensors") for folder in (copied, parts))
        assert all(torch.equal(one[key], two[key].float()) for key in two), name


def test_a_run_with_parts_goes_on_from_them_and_says_so(
    parts: Path, begin, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    mark = begin(parts) / "mark"
    mark.touch()
    assert "--start-from" not in capsys.readouterr().out
    begin(parts)
    [line] = capsys.readouterr().out.splitlines()
    assert "run/parts is there already" in line and f"--start-from {parts} is ignored" in line
    # Of several processes one says it.
    monkeypatch.setenv("RANK", "1")
    begin(parts)
    assert capsys.readouterr().out == "" and mark.exists()


@pytest.mark.parametrize("missing", ["mixed_features", "tokenizer"])
def test_a_source_that_lacks_something_leaves_nothing_behind(missing: str, parts: Path, begin, tmp_path: Path):
    source = tmp_path / "source"
    shutil.copytree(parts, source)
    shutil.rmtree(source / missing)
    with pytest.raises(FileNotFoundError, match=f"lacks {missing}"):
        begin(source)
    assert not (tmp_path / "run").exists()


def test_parts_that_are_there_are_not_copied_over(parts: Path, run: Path):
    shutil.rmtree(run / "parts" / "unet")
    with pytest.raises(FileExistsError):
        copy_parts(parts, run / "parts")
    assert not has_part(run / "parts", "unet")


def test_of_two_that_copy_at_once_one_does(parts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    written: list[str] = []
    both = threading.Event()
    checked = parts_module.has_part

    def noted(root: Path, name: str, *rest: Any) -> None:
        # The first does not go on before the other has seen that there are no parts.
        assert both.wait(30)
        written.append(name)
        write_part(root, name, *rest)

    def counted(root: Path, name: str) -> bool:
        seen.append(name)
        if len(seen) == 2 * len(TRAINED_PARTS):
            both.set()
        return checked(root, name)

    seen: list[str] = []
    monkeypatch.setattr(parts_module, "write_part", noted)
    monkeypatch.setattr(parts_module, "has_part", counted)
    threads = [threading.Thread(target=copy_parts, args=(parts, tmp_path / "run" / "parts")) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert written == list(TRAINED_PARTS)
    assert files_of(tmp_path / "run") == {f"parts/{name}" for name in files_of(parts)}
