"""Run the command line as a user does."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path


def run(*words: str | Path, cwd: Path, code: int = 0, errors: bool = False) -> str:
    """Run `editkit`, check its exit status, and return what it printed: the error stream with `errors`, or when it must
    fail."""
    done = subprocess.run(
        [sys.executable, "-m", "editkit_cli", *map(str, words)],
        capture_output=True,
        text=True,
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "COLUMNS": "200"},
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done.stderr if code or errors else done.stdout
