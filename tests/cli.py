"""Run the command line as a user does."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import warnings
from contextlib import chdir, redirect_stderr, redirect_stdout
from pathlib import Path

import pytest

from editkit_cli.main import main

WIDTH = "200"


def run(*words: str | Path, cwd: Path, code: int = 0, errors: bool = False) -> str:
    """Run `editkit` in this process, check its exit status, and return what it printed: the error stream with `errors`,
    or when it must fail. A process of its own takes five seconds to import what it needs."""
    out, error = io.StringIO(), io.StringIO()
    with (
        pytest.MonkeyPatch.context() as patch,
        warnings.catch_warnings(),
        chdir(cwd),
        redirect_stdout(out),
        redirect_stderr(error),
    ):
        patch.setattr(sys, "argv", ["editkit", *map(str, words)])
        patch.setenv("COLUMNS", WIDTH)
        try:
            main()
            status = 0
        except SystemExit as ended:
            status = ended.code or 0
    return _checked(out.getvalue(), error.getvalue(), status, code, errors)


def run_apart(*words: str | Path, cwd: Path, code: int = 0, errors: bool = False) -> str:
    """`run` in a process of its own, for what depends on a new one."""
    done = subprocess.run(
        [sys.executable, "-m", "editkit_cli", *map(str, words)],
        capture_output=True,
        text=True,
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "COLUMNS": WIDTH},
    )
    return _checked(done.stdout, done.stderr, done.returncode, code, errors)


def _checked(out: str, error: str, status: int | str, code: int, errors: bool) -> str:
    assert status == code, out + error
    return error if code or errors else out
