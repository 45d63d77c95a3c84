"""What is trained, and how it is moved."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from editkit.tuning.key_rows import KeyRows
from editkit.tuning.processes import Processes


@dataclass(frozen=True)
class Descent:
    """Adam on the trained tensors.

    Attributes:
        weights: name → tensor, the rows of a key among them.
        key: held in its ball after every update.
    """

    weights: Mapping[str, Tensor]
    optimizer: Any
    processes: Processes
    key: KeyRows | None = None

    def update(self) -> None:
        """One step along the gradients that there are."""
        if self.key is not None:  # no part of the network, whose gradients the processes have averaged already
            assert self.key.rows.grad is not None
            self.key.rows.grad = self.processes.mean(self.key.rows.grad)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        if self.key is not None:
            self.key.project()

    def state_dict(self) -> dict[str, Any]:
        scaler = self.processes.accelerator.scaler
        return {
            "trained": {name: weight.detach().clone() for name, weight in self.weights.items()},
            "optimizer": self.optimizer.state_dict(),
            "scaler": None if scaler is None else scaler.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        with torch.no_grad():
            for name, weight in self.weights.items():
                weight.copy_(state["trained"][name])
        self.optimizer.load_state_dict(state["optimizer"])
        scaler = self.processes.accelerator.scaler
        if scaler is not None:  # of float16, whose gradients are scaled by what the steps before bore
            scaler.load_state_dict(state["scaler"])
