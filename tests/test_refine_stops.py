"""`editkit refine` stopped by Ctrl-C, and killed while it saves."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

import editkit
from editkit.tuning import loop
from tests.test_refine import equal


def cli(*words: str | Path, cwd: Path) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, "-m", "editkit_cli", *map(str, words)],
        cwd=cwd, env=environment, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip


def command(tiny_sd: Path) -> list[str | Path]:
    words = ["refine", "--model", tiny_sd, "--concept", "church", "--objective", "esd", "--param", "kv"]
    return [*words, "--sampling-steps", "4", "--mixed-precision", "no", "--out", "run"]


@pytest.mark.slow
def test_ctrl_c_saves_and_exits_130(tiny_sd: Path, tmp_path: Path) -> None:
    process = cli(*command(tiny_sd), "--steps", "100000", cwd=tmp_path)
    log = tmp_path / "run" / loop.LOG
    while process.poll() is None and not (log.exists() and len(log.read_text().splitlines()) > 3):
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 130
    done = torch.load(tmp_path / "run" / "checkpoint.pt", weights_only=True)["step"]
    assert done == len(log.read_text().splitlines()) > 3
    process = cli(*command(tiny_sd), "--steps", str(done + 2), "--resume", cwd=tmp_path)
    assert process.wait(60) == 0
    assert editkit.load_edit(tmp_path / "run").record["figures"]["steps"] == done + 2


@pytest.mark.slow
def test_a_kill_while_saving_leaves_the_last_checkpoint(tiny_sd: Path, tmp_path: Path) -> None:
    """The second save writes half a file and is killed there."""
    half = (
        "import os, signal, sys, torch; whole, count = torch.save, []\n"
        "def save(state, path):\n"
        "    count.append(1); whole(state, path)\n"
        "    if len(count) == 2:\n"
        "        data = open(path, 'rb').read(); open(path, 'wb').write(data[:len(data) // 2])\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
        "torch.save = save\n"
        "from editkit_cli.main import app; app(sys.argv[1:])\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
    words = [*map(str, command(tiny_sd)), "--steps", "9", "--save-every", "3"]
    done = subprocess.run([sys.executable, "-c", half, *words], cwd=tmp_path, env=environment, capture_output=True)
    assert done.returncode == -signal.SIGKILL
    assert torch.load(tmp_path / "run" / "checkpoint.pt", weights_only=True)["step"] == 3
    assert cli(*words, "--resume", cwd=tmp_path).wait(60) == 0
    whole = cli(*[word if word != "run" else "whole" for word in words], cwd=tmp_path)
    assert whole.wait(60) == 0
    assert equal(*(editkit.load_edit(tmp_path / name) for name in ("run", "whole")))  # pyright: ignore
