"""Commands of editkit in two processes under one torchrun, which talk through gloo.

Starting them takes far longer than what they do in a test: so they do several commands, one after another.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any


def together(commands: Sequence[Sequence[Any]], cwd: Path) -> list[list[str]]:
    """What each of two processes printed for every command, `[command][process]`; each had to succeed."""
    (cwd / "commands.json").write_text(json.dumps([[str(word) for word in words] for words in commands]))
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*launcher, "-m", "tests.pair"], capture_output=True, text=True, cwd=cwd, env=environment, timeout=600
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return [[(cwd / f"{n}.{rank}.txt").read_text() for rank in range(2)] for n in range(len(commands))]


if __name__ == "__main__":
    from torch import distributed

    from tests.cli import run

    end = distributed.destroy_process_group
    distributed.destroy_process_group = lambda group=None: None  # a command's end is not the processes'
    for n, words in enumerate(json.loads(Path("commands.json").read_text())):
        Path(f"{n}.{os.environ['RANK']}.txt").write_text(run(*words, cwd=Path.cwd()))
    end()
