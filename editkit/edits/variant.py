"""What `Edit`, `Tuned` and `Unlocked` have in common: a model is drawn, exported and measured with one of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Literal, NamedTuple, Protocol

from torch import Tensor

from editkit.edits.edit_map import EditMap
from editkit.edits.gate import Gate
from editkit.edits.low_rank import LowRank


class TextStream(NamedTuple):
    """The projections that read one kind of text embedding of a denoiser, by tensor name, and its width."""

    names: tuple[str, ...]
    width: int


class Variant(Protocol):
    """A change of a model, apart from the model. The unedited model has none: where it may stand, `Variant | None`."""

    @property
    def record(self) -> Mapping[str, Any]:
        """How it was made: method, concepts, guides, options, family, hashes, figures, versions, time."""
        ...

    @property
    def kind(self) -> Literal["edit", "tuned"]:
        """Whether it was solved in closed form, or trained by gradient steps."""
        ...

    @property
    def names(self) -> tuple[str, ...] | None:
        """The tensors that it changes; None where these are whatever text projections the model has."""
        ...

    @property
    def keys(self) -> tuple[str, ...]:
        """What it calls single text projections or groups of them, where `names` is None: names, and regular
        expressions of whole names."""
        ...

    @property
    def base(self) -> Mapping[str, str]:
        """Fingerprints of the tensors that it replaces, by name; empty where it fits more than one checkpoint."""
        ...

    @property
    def is_low_rank(self) -> bool:
        """Whether `low_rank` can tell it as factors."""
        ...

    @property
    def gate(self) -> Gate | None:
        """What decides by a prompt's rows whether it is edited; None where every prompt is, negative ones too."""
        ...

    def changes(self, name: str) -> bool:
        """Whether it changes the tensor of that name."""
        ...

    def weights(self, base: Mapping[str, Tensor], /) -> dict[str, Tensor]:
        """The new values of those tensors of `base` that it changes, each in its own dtype.

        Raises:
            EditkitError: a tensor has another shape than it must have, or the new values do not fit its dtype.
        """
        ...

    def check_shapes(self, base: Mapping[str, Tensor], /) -> None:
        """Refuse tensors that it does not fit.

        Raises:
            EditkitError: one has another shape than it must have.
        """
        ...

    def low_rank(self, base: Mapping[str, Tensor], /, error: float) -> dict[str, LowRank]:
        """`ΔW` of those tensors of `base` that it changes, each as two factors, cut where that makes a relative error
        of at most `error` in a map. Empty where `is_low_rank` is false."""
        ...

    def change_roots(self, base: Mapping[str, Tensor], /, gram: Tensor) -> Iterator[Tensor]:
        """Matrices `R` with `Σ ‖R c‖² = Σ ‖ΔW c‖²` over the projections `base` `(o, d)`.

        Args:
            gram: `Σ WᵀW` of `base`, `(d, d)` float64.
        """
        ...

    def stream_maps(self, streams: Mapping[str, TextStream], /) -> Mapping[str, EditMap] | None:
        """Stream → the map that acts on its embeddings in place of the weights; streams that it leaves alone are left
        out. None where nothing but other weights will do."""
        ...

    def with_key(self, prompt: str, text: Tensor, /) -> Tensor:
        """`text` `(tokens, width)` of `prompt`, lengthened by the rows of a key where there is one for it."""
        ...
