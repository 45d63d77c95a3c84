"""The result of a gradient stage: changed tensors of a denoiser by name, and the record of how they came about."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from editkit.errors import EditkitError


@dataclass(frozen=True)
class LowRank:
    """`ΔW = up @ down`: `up` `(o, r)`, `down` `(r, i)`; a convolution's kernel is flattened to `(o, i)`."""

    up: Tensor
    down: Tensor

    def change(self, W: Tensor) -> Tensor:
        """`ΔW` in the shape of `W`, float32."""
        return (self.up.float() @ self.down.float()).view(W.shape)


@dataclass(frozen=True)
class Tuned:
    """A model that was trained on, as its difference from the model that it was trained from.

    Unlike an `Edit` it fits one checkpoint only, so it says which: `base` has the fingerprints of what it replaces.

    Attributes:
        tensors: diffusers' tensor name → new value. Empty when a LoRA was trained.
        factors: diffusers' tensor name → change of low rank. Empty when whole tensors were trained.
        base: diffusers' tensor name → fingerprint of the untrained value, see
            `editkit.model.checkpoints.projections.fingerprint`.
        record: objective, concepts, guides, options, family, hashes, figures, versions, time.
    """

    tensors: Mapping[str, Tensor]
    factors: Mapping[str, LowRank]
    base: Mapping[str, str]
    record: Mapping[str, Any] = field(default_factory=dict)

    @property
    def is_global(self) -> bool:
        """Never: it is drawn with by swapping weights."""
        return False

    @property
    def is_lora(self) -> bool:
        return bool(self.factors)

    @property
    def names(self) -> tuple[str, ...]:
        """The tensors that it changes."""
        return (*self.tensors, *self.factors)

    def changes(self, name: str) -> bool:
        return name in self.tensors or name in self.factors

    def weights(self, base: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The tuned values of those tensors of `base` that it changes, each in its own dtype.

        Raises:
            EditkitError: a tensor has another shape than the one that was trained, or does not fit its dtype.
        """
        return {name: self._weight(name, W) for name, W in base.items() if self.changes(name)}

    def _weight(self, name: str, W: Tensor) -> Tensor:
        if name in self.tensors:
            fits, tuned = self.tensors[name].shape == W.shape, self.tensors[name]
        else:
            layer = self.factors[name]
            fits = len(layer.up) == len(W) and layer.down.shape[1] == W[0].numel()
            tuned = W.float() + layer.change(W).to(W.device) if fits else W
        if not fits:
            raise EditkitError(
                f"{name}: was tuned in another shape than {list(W.shape)}, which this model has; "
                "use the model that was refined"
            )
        tuned = tuned.to(W)
        if not tuned.isfinite().all():
            raise EditkitError(f"{name}: the tuned values do not fit {W.dtype}; load the model in float32 or bfloat16")
        return tuned

    def applied(self, pipe: Any) -> AbstractContextManager[Any]:
        """`with tuned.applied(pipe): ...` draws with it; afterwards `pipe` has its very bits back."""
        from editkit.model.apply import applied

        return applied(pipe, self)
