"""The processes of a run: each has its rows of every batch, and a run gives the same for any number of them."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

from torch import Tensor


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

    def apart(self, network: Any, wanted: bool) -> Any:
        """A context in which gradients are not exchanged: only those of a step's last part need be."""
        return self.accelerator.no_sync(network) if wanted else nullcontext()
