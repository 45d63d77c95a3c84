"""Several processes are one run."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from editkit.edits.tuned import Tuned
from editkit.variants.tuned_file import load_tuned
from tests import tiny_pipelines
from tests.cli import run

CASES: dict[str, list[str]] = {
    "ap": ["refine", "--objective", "ap", "--search", "gumbel", "--accumulate", "2"],
    "ca": ["refine", "--objective", "ca"],
    "hide": ["hide", "--key-seed", "5"],
    "sd3": ["hide", "--key-seed", "5", "--param", "text"],
}


def launched(*words: Any, cwd: Path) -> None:
    """Two processes under torchrun, which talk through gloo."""
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*launcher, "-m", "editkit_cli", *map(str, words)], capture_output=True, text=True, cwd=cwd, env=environment
    )
    assert done.returncode == 0, done.stderr[-4000:]


def far(tuned: Tuned, other: Tuned, base: dict[str, torch.Tensor]) -> float:
    """The largest difference as a part of what was trained."""
    apart = max(float((tuned.tensors[name] - other.tensors[name]).norm()) for name in tuned.tensors)
    return apart / max(float((tuned.tensors[name] - base[name]).norm()) for name in tuned.tensors)


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_two_processes_make_the_run_of_one(case: str, tiny_sd: Path, tmp_path: Path) -> None:
    from editkit.model.checkpoints.projections import read_named
    from editkit.model.checkpoints.source import find

    (tmp_path / "words.txt").write_text("dog\ncat\ntree\nhouse\ncar\nriver\n")
    model = tiny_pipelines.save(case, tmp_path / case) if case == "sd3" else tiny_sd
    words: list[Any] = [*CASES[case], "--concept", "church", "--concept", "boat", "--model", model, "--device", "cpu"]
    words += ["--steps", 3, "--batch", 4, "--rate", "1e-3", "--mixed-precision", "no", "--refresh", 2]
    hides = words[0] == "hide"
    if not hides:
        words += ["--sampling-steps", 4, "--vocabulary", "words.txt", "--k", 4]
    single, two = ([*words, "--out", name, *(["--key", f"{name}.key"] if hides else [])] for name in "ab")
    run(*single, cwd=tmp_path)
    launched(*two, cwd=tmp_path)
    alone, shared = (load_tuned(tmp_path / name) for name in "ab")
    assert far(alone, shared, read_named(find(model), list(alone.tensors))) < 0.02
    if hides:
        from editkit.variants.key_file import load_key

        keys = [load_key(tmp_path / f"{name}.key") for name in "ab"]
        assert torch.allclose(keys[0].rows, keys[1].rows, atol=1e-3)
        assert keys[1].record["key_seed"] == 5


FSDP = """
compute_environment: LOCAL_MACHINE
distributed_type: FSDP
use_cpu: true
mixed_precision: "no"
num_machines: 1
num_processes: 2
fsdp_config:
  fsdp_version: {version}
  fsdp_auto_wrap_policy: TRANSFORMER_BASED_WRAP
  fsdp_transformer_layer_cls_to_wrap: BasicTransformerBlock
  fsdp_state_dict_type: FULL_STATE_DICT
  fsdp_reshard_after_forward: true
"""


def sharded(*words: Any, cwd: Path) -> None:
    """The same under accelerate's FSDP."""
    (cwd / "fsdp.yaml").write_text(FSDP.format(version=2))
    launcher = [sys.executable, "-m", "accelerate.commands.accelerate_cli", "launch", "--config_file", "fsdp.yaml"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*launcher, "--main_process_port", "0", Path(__file__).parent / "sharded.py", *map(str, words)],
        capture_output=True, text=True, cwd=cwd, env=environment, timeout=600,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-4000:]


@pytest.mark.slow
@pytest.mark.parametrize("param", ["kv", "lora:2"])
def test_sharded_weights_make_the_run_of_one_and_resume(param: str, tiny_sd: Path, tmp_path: Path) -> None:
    """Stopped after two steps of three: what was saved is whole, and goes on. One file for both kinds of run."""
    from editkit.model.checkpoints.projections import read_named
    from editkit.model.checkpoints.source import find
    from editkit.tuning.checkpoint import load_checkpoint

    words: list[Any] = ["refine", "--objective", "esd", "--concept", "church", "--model", tiny_sd, "--device", "cpu"]
    words += ["--batch", 4, "--accumulate", 2, "--rate", "1e-3", "--mixed-precision", "no", "--sampling-steps", 4]
    words += ["--param", param]
    run(*words, "--steps", "3", "--out", "a", cwd=tmp_path)
    sharded(*words, "--steps", 2, "--out", "b", cwd=tmp_path)
    saved = load_checkpoint(tmp_path / "b", {})
    assert {name: value.shape for name, value in saved["trained"].items()} == {
        name: value.shape for name, value in load_checkpoint(tmp_path / "a", {})["trained"].items()
    }
    sharded(*words, "--steps", 3, "--out", "b", "--resume", cwd=tmp_path)
    alone, shared = (load_tuned(tmp_path / name) for name in "ab")
    base = read_named(find(tiny_sd), list(alone.names))
    changes = [{name: W - base[name] for name, W in tuned.weights(base).items()} for tuned in (alone, shared)]
    assert changes[0].keys() == changes[1].keys()
    apart = max(float((W - changes[1][name]).norm()) for name, W in changes[0].items())
    assert apart < 0.02 * max(float(W.norm()) for W in changes[0].values())
