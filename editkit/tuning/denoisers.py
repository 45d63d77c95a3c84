"""Student and teacher: the denoiser that is trained and the one it came from, and how often each was run."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import Any

from torch import Tensor, nn
from torch.func import functional_call

from editkit.drawing.pipelines.denoiser import Condition
from editkit.drawing.pipelines.sd import unet_output
from editkit.edits.key import padded

Autocast = Callable[[], Any]


class PassCounter:
    """Counts what a network is given by a hook on its forward pass: rows of a batch, by purpose, and calls.

    A batch of eight counts as eight passes: it costs as much as eight pictures, however it is cut.
    """

    def __init__(self) -> None:
        self.rows: Counter[str] = Counter()
        self.calls: Counter[str] = Counter()
        self._purpose = "loss"

    def watch(self, network: nn.Module) -> None:
        network.register_forward_pre_hook(self._count)

    def _count(self, module: nn.Module, given: tuple[Any, ...]) -> None:
        self.rows[self._purpose] += len(given[0])
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
    """

    def __init__(
        self, network: Any, autocast: Autocast = nullcontext, originals: Mapping[str, Tensor] | None = None
    ) -> None:
        self.network, self.trained = network, network
        self.autocast, self.originals = autocast, dict(originals or {})
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

    def student(
        self, z: Tensor, t: Tensor, text: Tensor, training: bool = False, encoder_attention_mask: Tensor | None = None
    ) -> Tensor:
        """`ε'(z_t, t, text)`; a single pass without guidance. `(rows, channels, h, w)` in the dtype of `z`."""
        with self.autocast():
            read = Condition(text, mask=encoder_attention_mask)
            return unet_output(self.trained if training else self.network, z, t, read)

    def teacher(self, z: Tensor, t: Tensor, text: Tensor) -> Tensor:
        """`ε(z_t, t, text)`. Gradients reach `text`, never a weight."""
        with self.autocast():
            if self._copy is not None:
                return unet_output(self._copy, z, t, Condition(text))
            with self._without_adapter():
                return unet_output(self._untrained, z, t, Condition(text))

    def _untrained(self, *given: Any, **named: Any) -> Any:
        return functional_call(self.network, self.originals, given, named)

    @contextmanager
    def _without_adapter(self) -> Iterator[None]:
        """Checkpointing would run the pass again after the adapter is back, so it is off meanwhile."""
        checkpointing = self.network.is_gradient_checkpointing
        trained = [weight for weight in self.network.parameters() if weight.requires_grad]
        if checkpointing:
            self.network.disable_gradient_checkpointing()
        self.network.disable_adapters()
        self.network.requires_grad_(False)
        try:
            yield
        finally:
            self.network.enable_adapters()
            for weight in trained:
                weight.requires_grad_(True)
            if checkpointing:
                self.network.enable_gradient_checkpointing()


def predict(
    network: Callable[..., Tensor], z: Tensor, t: Tensor, texts: Mapping[Any, Tensor], **how: Any
) -> dict[Any, Tensor]:
    """One pass for several prompts of the same latents, of any lengths: key → `(rows, ...)`."""
    if not texts:
        return {}
    n = len(texts)
    repeated = z.repeat(n, *[1] * (z.ndim - 1))
    text, mask = padded(list(texts.values()))
    masked = {} if mask is None else {"encoder_attention_mask": mask}
    out = network(repeated, t.repeat(n), text, **masked, **how)
    return dict(zip(texts, out.chunk(n), strict=True))
