"""Student and teacher: the denoiser that is trained and the one it came from, and how often each was run."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.func import functional_call

from editkit.drawing.pipelines.denoiser import Condition

Autocast = Callable[[], Any]
Predict = Callable[[Tensor, Tensor, Condition, Any], Tensor]
"""`Denoiser.predict`: latents, training steps, condition, and the network to ask."""
Ask = Callable[..., Tensor]
"""`Denoisers.student` or `.teacher`."""
Key = TypeVar("Key")
SCALE = 1.0
"""The guidance that a distilled network (FLUX.1 dev) reads in a pass of a loss, as is customary in training it: the
objectives are stated for what a model predicts without guidance. Trajectories have `--guidance`."""


class PassCounter:
    """Counts what a network is given by a hook on its forward pass: rows of a batch, by purpose, and calls.

    A batch of eight counts as eight passes: it costs as much as eight pictures, however it is cut.
    """

    def __init__(self) -> None:
        self.rows: Counter[str] = Counter()
        self.calls: Counter[str] = Counter()
        self._purpose = "loss"

    def watch(self, network: nn.Module) -> None:
        network.register_forward_pre_hook(self._count, with_kwargs=True)

    def _count(self, module: nn.Module, given: tuple[Any, ...], named: Mapping[str, Any]) -> None:
        latents, *_ = (*given, *named.values())
        self.rows[self._purpose] += len(latents)
        self.calls[self._purpose] += 1

    @contextmanager
    def purpose(self, name: str) -> Iterator[None]:
        before, self._purpose = self._purpose, name
        try:
            yield
        finally:
            self._purpose = before

    @property
    def total(self) -> int:
        return sum(self.rows.values())

    def state_dict(self) -> dict[str, Any]:
        return {"rows": dict(self.rows), "calls": dict(self.calls)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.rows, self.calls = Counter(state["rows"]), Counter(state["calls"])


class Denoisers:
    """The pair. `network` is the student; the teacher is a frozen copy, or for a LoRA the same network without it.

    Attributes:
        originals: name → untrained value of what a warm start changed: a LoRA's teacher must not see that either.
        trained: what a training pass runs: the student, as accelerate wraps it for several processes.
        reads_masks: whether prompts of several lengths go in together.
    """

    def __init__(
        self,
        network: Any,
        predict: Predict,
        autocast: Autocast = nullcontext,
        originals: Mapping[str, Tensor] | None = None,
        reads_masks: bool = True,
    ) -> None:
        self.network, self.trained = network, network
        self.reads_masks = reads_masks
        self._predict, self.autocast, self.originals = predict, autocast, dict(originals or {})
        self.counter = PassCounter()
        self._copy: Any = None
        self.counter.watch(network)

    def keep_teacher(self) -> None:
        """Copy the untrained network; not for a LoRA. Call it before anything is changed."""
        self._copy = copy.deepcopy(self.network).requires_grad_(False)
        self._copy._forward_pre_hooks.clear()
        self.counter.watch(self._copy)

    @property
    def both(self) -> tuple[Any, ...]:
        """The networks in memory: a LoRA's teacher is none of its own."""
        return (self.network,) if self._copy is None else (self.network, self._copy)

    def student(self, z: Tensor, t: Tensor, condition: Condition, training: bool = False) -> Tensor:
        """`ε'(z_t, t, condition)`, or whatever the model predicts; a single pass without guidance. `(rows, channels, h,
        w)` in the dtype of `z`."""
        with self.autocast():
            return self._predict(z, t, _scaled(condition), self.trained if training else self.network)

    def teacher(self, z: Tensor, t: Tensor, condition: Condition) -> Tensor:
        """`ε(z_t, t, condition)`, likewise. Gradients reach the condition, never a weight."""
        with self.autocast():
            if self._copy is not None:
                return self._predict(z, t, _scaled(condition), self._copy)
            with self._without_adapter():
                return self._predict(z, t, _scaled(condition), self._untrained)

    def _untrained(self, *given: Any, **named: Any) -> Any:
        return functional_call(self.network, self.originals, given, named)

    @contextmanager
    def _without_adapter(self) -> Iterator[None]:
        """Checkpointing would run the pass again after the adapter is back, so it is off meanwhile."""
        checkpointing = self.network.is_gradient_checkpointing
        adapted = [module for module in self.network.modules() if hasattr(module, "lora_A")]
        if checkpointing:
            self.network.disable_gradient_checkpointing()
        for module in adapted:  # peft's own switch also says what requires gradients, which FSDP looks at once
            module._disable_adapters = True
        try:
            yield
        finally:
            for module in adapted:
                module._disable_adapters = False
            if checkpointing:
                self.network.enable_gradient_checkpointing()


def _scaled(condition: Condition) -> Condition:
    if condition.scale is not None:
        return condition
    return replace(condition, scale=torch.full((len(condition),), SCALE, device=condition.text.device))


def predict(
    ask: Ask, z: Tensor, t: Tensor, conditions: Mapping[Key, Condition], together: bool = True, **how: Any
) -> dict[Key, Tensor]:
    """One pass for several prompts of the same latents: key → `(rows, ...)`.

    Args:
        together: also where their lengths differ; else one pass of each length.
    """
    groups: dict[int, list[Key]] = {}
    for key, condition in conditions.items():
        groups.setdefault(0 if together else condition.text.shape[1], []).append(key)
    out: dict[Key, Tensor] = {}
    for keys in groups.values():
        n = len(keys)
        repeated = z.repeat(n, *[1] * (z.ndim - 1))
        said = ask(repeated, t.repeat(n), Condition.joined([conditions[key] for key in keys]), **how)
        out |= zip(keys, said.chunk(n), strict=True)
    return out
