"""`editkit` in processes without a GPU whose weights are sharded.

accelerate looks at its FSDP configuration for GPUs alone: of processors it makes DistributedDataParallel, whatever
the configuration says, and the first FSDP it refuses. All behind that, its preparation, torch's `fully_shard` and the
exchange, also runs on processors, over gloo. So the kind is set here, after accelerate has looked.
"""

from __future__ import annotations

from typing import Any

from accelerate.state import AcceleratorState, PartialState
from accelerate.utils import DistributedType

from editkit_cli.main import main

looked = AcceleratorState.__init__


def sharded(self: AcceleratorState, *given: Any, fsdp_plugin: Any = None, **more: Any) -> None:
    looked(self, *given, fsdp_plugin=fsdp_plugin, **more)
    if fsdp_plugin is not None:
        self.distributed_type, self.fsdp_plugin = DistributedType.FSDP, fsdp_plugin
        PartialState._shared_state["distributed_type"] = DistributedType.FSDP


AcceleratorState.__init__ = sharded

if __name__ == "__main__":
    main()
