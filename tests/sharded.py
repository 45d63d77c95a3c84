"""Short runs of one process, and of two without a GPU whose weights are sharded: `python -m tests.sharded '[[...]]'`.

accelerate looks at its FSDP configuration for GPUs alone: of processors it makes DistributedDataParallel, whatever
the configuration says, and the first FSDP it refuses. All behind that, its preparation, torch's `fully_shard` and the
exchange, also runs on processors, over gloo. So the kind is set here, after accelerate has looked.

The processes are forked from one that has imported all, once for each run: importing takes longest.
"""

from __future__ import annotations

import json
import os
import socket
import sys
from dataclasses import replace
from typing import Any

import torch
from accelerate.state import AcceleratorState, PartialState
from accelerate.utils import DistributedType

import editkit

looked = AcceleratorState.__init__
CONFIGURATION = {
    "ACCELERATE_USE_FSDP": "true",
    "FSDP_VERSION": "2",
    "FSDP_AUTO_WRAP_POLICY": "TRANSFORMER_BASED_WRAP",
    "FSDP_TRANSFORMER_CLS_TO_WRAP": "BasicTransformerBlock",
    "FSDP_RESHARD_AFTER_FORWARD": "true",
    "FSDP_STATE_DICT_TYPE": "FULL_STATE_DICT",
    "FSDP_CPU_RAM_EFFICIENT_LOADING": "false",
}
"""What `accelerate launch` makes of the file in docs/how-to/refine.md."""


def sharded(self: AcceleratorState, *given: Any, fsdp_plugin: Any = None, **more: Any) -> None:
    looked(self, *given, fsdp_plugin=fsdp_plugin, **more)
    if fsdp_plugin is not None:
        if self._mixed_precision != "no":
            fsdp_plugin.set_mixed_precision(self._mixed_precision)
        self.distributed_type, self.fsdp_plugin = DistributedType.FSDP, fsdp_plugin
        PartialState._shared_state["distributed_type"] = DistributedType.FSDP


OPTIONS = editkit.RefineOptions(
    "esd", batch=4, accumulate=2, rate=1e-3, sampling_steps=2, mixed_precision="no", steps=2
)


def refined(model: str, param: str, steps: int, out: str, resume: bool = False) -> None:
    options = replace(OPTIONS, param=param, steps=steps)
    editkit.refine(model, out, ["church"], options=options, device="cpu", resume=resume)


def process(index: int, port: int, given: list[Any]) -> None:
    """One of the two, as its launcher would start it."""
    place = {"RANK": index, "LOCAL_RANK": index, "WORLD_SIZE": 2, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    os.environ.update({name: str(value) for name, value in place.items()}, ACCELERATE_USE_CPU="true")
    refined(*given)


if __name__ == "__main__":
    import diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion  # noqa: F401
    import peft  # noqa: F401
    import torch.distributed.fsdp
    import torch.distributed.tensor
    from torch.multiprocessing.spawn import start_processes

    os.environ.update(CONFIGURATION)
    AcceleratorState.__init__ = sharded
    torch.set_num_threads(1)  # the threads of others do not survive a fork
    for given in json.loads(sys.argv[1]):
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        start_processes(process, (port, given), nprocs=2, start_method="fork")
