"""A sweep killed at random moments ends with the records of an undisturbed one."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from fakes import TINY

from rs_prune.contracts import Record

WORDS = (
    "run", "-m", *TINY, "batch_size=8", "epochs=4", "finetune_epochs=3", "latency.seconds=0.01", "observe.images=16",
    "attention=se", "criterion=attention,l1,random", "budget.keep=0.7,0.4", "out=out",
)  # fmt: skip


def start(folder: Path, scenes: Path, *words: str) -> subprocess.Popen[str]:
    code = "from rs_prune.cli import main; import sys; sys.exit(main())"
    folder.mkdir(exist_ok=True)
    return subprocess.Popen(
        [sys.executable, "-c", code, *WORDS, f"dataset.root={scenes}", *words],
        cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a background job inherits that it is ignored
    )  # fmt: skip


def lasting(folder: Path) -> dict[str, dict]:
    found = [json.loads(path.read_text()) for path in (folder / "out" / "records").glob("*.json")]
    return {
        record["digest"]: {key: value for key, value in record.items() if key not in Record.VOLATILE}
        for record in found
    }


def test_kill_nine_at_random_moments_then_the_same_command_again(scene_folder, tmp_path):
    calm = start(tmp_path / "calm", scene_folder)
    output, _ = calm.communicate(timeout=300)
    assert calm.returncode == 0, output
    lines = output.count("epoch ")
    assert lines == 4 + 6 * 3

    draw = random.Random(time.time_ns())
    seen: list[str] = []
    kills = 0
    dense_done, mark = False, 0
    waits = (4 + draw.randint(1, 2), draw.randint(1, 6), draw.randint(1, 6))  # first: while the first cell fine-tunes
    for wait in waits:
        sweep = start(tmp_path / "rough", scene_folder)
        assert sweep.stdout is not None
        for line in sweep.stdout:
            seen.append(line)
            wait -= "epoch " in line
            if wait <= 0:
                time.sleep(draw.uniform(0, 0.3))
                os.killpg(sweep.pid, signal.SIGKILL)
                kills += 1
                break
        sweep.communicate()
        whole = list((tmp_path / "rough" / "out" / "cache" / "dense").glob("*/dense.json"))
        if dense_done:
            assert not any("attention=se  epoch" in line for line in seen[mark:]), "a whole dense net was trained twice"
        dense_done, mark = bool(whole), len(seen)
    assert kills == 3
    last = start(tmp_path / "rough", scene_folder)
    output, _ = last.communicate(timeout=300)
    assert last.returncode == 0, output

    assert lasting(tmp_path / "rough") == lasting(tmp_path / "calm")
    assert len(lasting(tmp_path / "calm")) == 6
    one, two = (sorted((tmp_path / name / "out" / "nets").glob("*/net.safetensors")) for name in ("calm", "rough"))
    assert [path.read_bytes() for path in one] == [path.read_bytes() for path in two]
    assert not list((tmp_path / "rough" / "out").rglob("*.ckpt"))
    # Only the epoch under way is lost: every whole one is trained once.
    assert len(seen) <= lines + kills


def test_ctrl_c_ends_with_one_line_and_the_run_goes_on(scene_folder, tmp_path):
    sweep = start(tmp_path / "stopped", scene_folder)
    assert sweep.stdout is not None
    for line in sweep.stdout:
        if "epoch 2/4" in line:
            os.killpg(sweep.pid, signal.SIGINT)
            break
    output, _ = sweep.communicate(timeout=60)
    assert sweep.returncode == 130, output
    assert "Traceback" not in output
    assert "the same command goes on" in output
    assert not list((tmp_path / "stopped").rglob("*.part"))
    again = start(tmp_path / "stopped", scene_folder)
    output, _ = again.communicate(timeout=300)
    assert again.returncode == 0, output
    assert "epoch 1/4" not in output  # the first epochs are not trained again
    assert len(lasting(tmp_path / "stopped")) == 6


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="reads process lists from /proc")
def test_workers_of_a_killed_command_end_too(scene_folder, tmp_path):
    sweep = start(tmp_path / "killed", scene_folder, "launcher=parallel", "epochs=400")
    assert sweep.stdout is not None
    for line in sweep.stdout:
        if "epoch 2/400" in line:
            break
    workers = [int(pid) for pid in Path(f"/proc/{sweep.pid}/task/{sweep.pid}/children").read_text().split()]
    workers = [pid for pid in workers if "LokyProcess" in Path(f"/proc/{pid}/cmdline").read_text()]
    assert len(workers) == 2
    os.kill(sweep.pid, signal.SIGKILL)  # the parent alone
    until = time.monotonic() + 60
    while any(Path(f"/proc/{pid}").exists() for pid in workers) and time.monotonic() < until:
        time.sleep(0.2)
    assert not [pid for pid in workers if Path(f"/proc/{pid}").exists()]
    sweep.communicate()
