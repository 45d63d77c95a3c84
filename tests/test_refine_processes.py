"""Several processes that share the weights out are one run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate.state import AcceleratorState

import editkit
from editkit.errors import EditkitError
from editkit.tuning.checkpoint import load_checkpoint
from editkit.variants.tuned_file import load_tuned
from tests import sharded as fsdp


@pytest.fixture(scope="module")
def refined(tiny_sd: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two steps of a whole group and of a LoRA: by one process, by two that share the weights out (`fsdp`), and by two
    that stop after the first step and go on (`resumed`)."""
    folder = tmp_path_factory.mktemp("refined")
    runs: list[list[Any]] = []
    for param in ("kv", "lora:2"):
        model = str(tiny_sd)
        fsdp.refined(model, param, 2, str(folder / f"{param}-one"))
        runs.append([model, param, 2, f"{param}-fsdp"])
        runs.append([model, param, 1, f"{param}-resumed"])
        runs.append([model, param, 2, f"{param}-resumed", True])
    done = subprocess.run(
        [sys.executable, "-m", "tests.sharded", json.dumps(runs)],
        capture_output=True, text=True, cwd=folder, timeout=600,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-4000:]
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("param", ["kv", "lora:2"])
def test_processes_that_share_the_weights_out_make_the_run_of_one(param: str, refined: Path, tiny_sd: Path) -> None:
    from editkit.model.checkpoints.projections import read_named
    from editkit.model.checkpoints.source import find

    alone, shared = (load_tuned(refined / f"{param}-{name}") for name in ("one", "fsdp"))
    base = read_named(find(tiny_sd), list(alone.names))
    changes = [{name: W - base[name] for name, W in tuned.weights(base).items()} for tuned in (alone, shared)]
    assert changes[0].keys() == changes[1].keys()
    apart = max(float((W - changes[1][name]).norm()) for name, W in changes[0].items())
    assert apart < 0.02 * max(float(W.norm()) for W in changes[0].values())


@pytest.mark.slow
@pytest.mark.parametrize("param", ["kv", "lora:2"])
def test_processes_that_share_the_weights_out_go_on_to_the_same_bits(param: str, refined: Path) -> None:
    states = [load_checkpoint(refined / f"{param}-{name}", {}) for name in ("fsdp", "resumed", "one")]
    whole, resumed, alone = [[*state["trained"].values(), *moments(state["optimizer"])] for state in states]
    assert [tensor.shape for tensor in whole] == [tensor.shape for tensor in alone]
    assert all(type(tensor) is torch.Tensor for tensor in whole)
    assert all(map(torch.equal, whole, resumed))


def moments(optimizer: dict[str, Any]) -> list[torch.Tensor]:
    return [kept[name] for kept in optimizer["state"].values() for name in ("exp_avg", "exp_avg_sq")]


@pytest.fixture
def configured(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """What accelerate's launcher says of FSDP, to this process."""
    for name, value in fsdp.CONFIGURATION.items():
        monkeypatch.setenv(name, value)
    yield monkeypatch
    AcceleratorState._reset_state(reset_partial_state=True)


REFUSED: dict[str, dict[str, Any]] = {
    "--no-bank": {"bank": False},
    "--preview-every": {"preview_every": 1},
    "--storage": {"param": "lora:2", "storage": "fp8"},
}


@pytest.mark.parametrize("option", REFUSED)
def test_what_cannot_be_shared_out_is_refused(
    option: str, configured: pytest.MonkeyPatch, tiny_sd: Path, tmp_path: Path
) -> None:
    configured.setattr(AcceleratorState, "__init__", fsdp.sharded)
    options = replace(fsdp.OPTIONS, **REFUSED[option])
    with pytest.raises(EditkitError, match=f"{option}.*under FSDP"):
        editkit.refine(tiny_sd, tmp_path / "a", ["church"], options=options, device="cpu")


def test_a_key_is_not_trained_while_weights_are_shared_out(
    configured: pytest.MonkeyPatch, tiny_sd: Path, tmp_path: Path
) -> None:
    configured.setattr(AcceleratorState, "__init__", fsdp.sharded)
    with pytest.raises(EditkitError, match="key under FSDP"):
        editkit.hide(tiny_sd, tmp_path / "a", tmp_path / "b.key", ["church"], device="cpu")


@pytest.mark.parametrize(("version", "explained"), [("1", "fsdp_version: 2"), ("2", "for GPUs alone.* cpu")])
def test_fsdp_that_accelerate_would_leave_out_is_refused(
    version: str, explained: str, configured: pytest.MonkeyPatch, tiny_sd: Path, tmp_path: Path
) -> None:
    configured.setenv("FSDP_VERSION", version)
    with pytest.raises(EditkitError, match=explained):
        editkit.refine(tiny_sd, tmp_path / "a", ["church"], options=fsdp.OPTIONS, device="cpu")
