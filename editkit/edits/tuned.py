"""The result of a gradient stage: changed tensors of a denoiser by name, and the record of how they came about."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from torch import Tensor

from editkit.edits.gram import gram_matrix, square_root
from editkit.edits.low_rank import LowRank
from editkit.edits.variant import TextStream
from editkit.errors import EditkitError


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
    def kind(self) -> Literal["tuned"]:
        return "tuned"

    @property
    def gate(self) -> None:
        """None: it acts on every prompt."""
        return None

    @property
    def is_low_rank(self) -> bool:
        """Whether a LoRA was trained."""
        return not self.tensors

    @property
    def names(self) -> tuple[str, ...]:
        """The tensors that it changes."""
        return (*self.tensors, *self.factors)

    @property
    def keys(self) -> tuple[str, ...]:
        """None: it goes by names."""
        return ()

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

    def check_shapes(self, base: Mapping[str, Tensor]) -> None:
        """Raises `EditkitError` where a tensor has another shape than the one that was trained."""
        self.weights(base)

    def low_rank(self, base: Mapping[str, Tensor], error: float) -> dict[str, LowRank]:
        """The factors as they were trained."""
        return {name: self.factors[name] for name in base if name in self.factors}

    def change_roots(self, base: Mapping[str, Tensor], gram: Tensor) -> Iterator[Tensor]:
        """One root for all that it changed."""
        steps = [W.double() - base[name].double() for name, W in self.weights(base).items()]
        if steps:
            yield square_root(gram_matrix(steps, len(gram)))

    def stream_maps(self, streams: Mapping[str, TextStream]) -> None:
        """None: it is drawn with by swapping weights."""
        return None

    def with_key(self, prompt: str, text: Tensor) -> Tensor:
        """`text` itself: see `editkit.edits.key.Unlocked`."""
        return text
