"""What is trained, and how it is moved."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_map

from editkit.tuning.anchor import Anchor
from editkit.tuning.key_rows import KeyRows
from editkit.tuning.processes import Processes, as_shared, whole


@dataclass
class Descent:
    """Adam on the trained tensors.

    Attributes:
        weights: name → tensor, the rows of a key among them.
        key: held in its ball after every update.
        anchor: pulls the weights back to where they began.
    """

    weights: Mapping[str, Tensor]
    optimizer: Any
    processes: Processes
    key: KeyRows | None = None
    anchor: Anchor | None = None

    def update(self, share: float = 0.0) -> None:
        """One step along the gradients that there are; `share` of the run is over."""
        if self.anchor is not None:
            self.processes.accelerator.unscale_gradients(self.optimizer)
            self.anchor.pull(self.weights, share)
        if self.key is not None:  # no part of the network, whose gradients the processes have averaged already
            assert self.key.rows.grad is not None
            self.key.rows.grad = self.processes.mean(self.key.rows.grad)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        if self.key is not None:
            self.key.project()

    def state_dict(self) -> dict[str, Any]:
        """All of it, whatever part this process has: to be asked for by all."""
        scaler = self.processes.accelerator.scaler
        return {
            "trained": {name: whole(weight.detach()).clone() for name, weight in self.weights.items()},
            "optimizer": tree_map(
                lambda leaf: whole(leaf) if isinstance(leaf, Tensor) else leaf, self.optimizer.state_dict()
            ),
            "anchor": None if self.anchor is None else self.anchor.state_dict(),
            "scaler": None if scaler is None else scaler.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        with torch.no_grad():
            for name, weight in self.weights.items():
                weight.copy_(as_shared(state["trained"][name], weight))
        self.optimizer.load_state_dict(self._parted(state["optimizer"]))
        if self.anchor is not None:
            self.anchor.load_state_dict(state["anchor"])
        scaler = self.processes.accelerator.scaler
        if scaler is not None:  # of float16, whose gradients are scaled by what the steps before bore
            scaler.load_state_dict(state["scaler"])

    def _parted(self, state: Mapping[str, Any]) -> dict[str, Any]:
        """The optimizer's state, each of its tensors in parts as its weight is."""
        groups = zip(self.optimizer.param_groups, state["param_groups"], strict=True)
        like = {n: weight for own, theirs in groups for weight, n in zip(own["params"], theirs["params"], strict=True)}
        own = {
            n: {name: as_shared(value, like[n]) for name, value in kept.items()} for n, kept in state["state"].items()
        }
        return {**state, "state": own}
