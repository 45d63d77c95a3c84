"""The processes of a run: each has its rows of every batch, and a run gives the same for any number of them."""

from __future__ import annotations

import os
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from editkit.errors import EditkitError


@dataclass(frozen=True)
class Processes:
    """What accelerate says of them. All draw the same random numbers for the whole batch and take their own rows."""

    accelerator: Any

    @property
    def count(self) -> int:
        return self.accelerator.num_processes

    @property
    def index(self) -> int:
        return self.accelerator.process_index

    @property
    def sharded(self) -> bool:
        """Whether each has a part of every weight of the student (FSDP)."""
        return self.accelerator.distributed_type.value == "FSDP"

    def check(self) -> None:
        """Refuse a way to share a run that is not known here.

        Raises:
            EditkitError: DeepSpeed or Megatron, or accelerate was told to use FSDP and did not.
        """
        kind = self.accelerator.distributed_type.value
        if kind in ("DEEPSPEED", "MEGATRON_LM"):
            raise EditkitError(f"refine: does not run under {kind}; give accelerate distributed_type MULTI_GPU or FSDP")
        if told_to_shard() and not self.sharded:
            raise EditkitError(
                f"refine: accelerate has FSDP for GPUs alone, but this is {self.accelerator.device}; "
                "leave FSDP out of its configuration"
            )

    def mine(self, rows: Tensor) -> Tensor:
        """This process's rows of a batch."""
        return rows[self.index :: self.count]

    def whole(self, mine: Tensor) -> Tensor:
        """The batch of which each process has its rows, in its order."""
        if self.count == 1:
            return mine
        return self.accelerator.gather(mine).view(self.count, -1).T.reshape(-1)

    def mean(self, value: Tensor) -> Tensor:
        """The mean over all processes."""
        return value if self.count == 1 else self.accelerator.reduce(value.to(self.accelerator.device), "mean")

    def any(self, mine: bool) -> bool:
        """Whether it is so in one of them."""
        return bool(self.mean(torch.tensor(float(mine))) > 0)

    def apart(self, network: Any, wanted: bool) -> Any:
        """A context in which gradients are not exchanged: only those of a step's last part need be."""
        return self.accelerator.no_sync(network) if wanted else nullcontext()


def told_to_shard() -> bool:
    """Whether accelerate's configuration has FSDP: its launcher says so in the environment.

    Raises:
        EditkitError: the first FSDP, whose parts of weights belong to no tensor of their own.
    """
    told = os.environ.get("ACCELERATE_USE_FSDP", "").lower() == "true"
    if told and os.environ.get("FSDP_VERSION", "1") != "2":
        raise EditkitError("refine: needs the second FSDP; write fsdp_version: 2 into accelerate's configuration")
    return told


def whole(tensor: Tensor) -> Tensor:
    """A tensor of which each process may have a part: all of it, in each. All processes must ask together."""
    return tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor  # pyright: ignore


def as_shared(value: Any, like: Tensor) -> Any:
    """The inverse: `value` in parts as `like` is, where it has its shape."""
    if not (hasattr(like, "full_tensor") and isinstance(value, Tensor) and value.shape == like.shape):
        return value
    from torch.distributed.tensor import DTensor, distribute_tensor

    assert isinstance(like, DTensor)
    return distribute_tensor(value.to(like.device), like.device_mesh, like.placements)
