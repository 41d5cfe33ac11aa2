"""Fake scenes, the command line in process, and the real images where they are at hand."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from fakes import paint


@pytest.fixture(autouse=True, scope="session")
def _own_temporary_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Tests do not wait for latencies that others measure on this machine, nor others for theirs: locks lie there."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TMPDIR", str(tmp_path_factory.mktemp("tmp")))
        patch.setattr(tempfile, "tempdir", None)
        yield


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def scene_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three classes of 20 scenes; read only."""
    return paint(tmp_path_factory.mktemp("scenes") / "stripes")


@pytest.fixture
def sent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder to which Weights & Biases writes, offline; its service ends with the test."""
    import wandb

    folder = tmp_path / "sent"
    folder.mkdir()
    for key, value in {"WANDB_MODE": "offline", "WANDB_SILENT": "true", "WANDB_DIR": str(folder)}.items():
        monkeypatch.setenv(key, value)
    yield folder
    wandb.teardown()  # else it keeps this folder and mode for others in this process


@dataclass
class Answer:
    status: int
    out: str
    err: str


@pytest.fixture
def rs_prune(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Callable[..., Answer]:
    """Runs `rs-prune …` in process, in an empty folder that is no checkout."""
    from rs_prune.cli import main

    monkeypatch.chdir(tmp_path)

    def run(*words: str) -> Answer:
        capfd.readouterr()
        status = main(words)
        out, err = capfd.readouterr()
        return Answer(status, out, err)

    return run


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder with the real data sets; tests that need it are skipped where there is none."""
    folder = os.environ.get("RS_PRUNE_DATA")
    if not folder or not (Path(folder) / "eurosat_rgb").is_dir():
        pytest.skip("RS_PRUNE_DATA does not point at a folder with eurosat_rgb/")
    return Path(folder)
