"""The tensors of a model as they lie on the disk: names from the headers, numbers one by one."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self

from torch import Tensor

from editkit.errors import EditkitError
from editkit.files.lazy import Lazy
from editkit.model.checkpoints.ldm_names import UNET_PREFIX, diffusers_name
from editkit.model.checkpoints.ldm_unet import ldm_name
from editkit.model.checkpoints.numbers import Weights, check_config, open_weights
from editkit.model.checkpoints.projections import fingerprint, is_text_projection
from editkit.model.checkpoints.source import Source
from editkit.model.encoder_weights import encoder_weight, encoders_of


@dataclass(frozen=True)
class Place:
    """A tensor of a file, by the name that the file has for it."""

    path: Path
    name: str


class Stored:
    """The tensors of a model. Its files are opened when they are first asked for, and closed with the `with`.

    Attributes:
        source: the model.
    """

    def __init__(self, source: Source) -> None:
        self.source = source
        self._stack, self._opened = ExitStack(), dict[Path, Weights]()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._stack.close()

    def names(self, path: Path) -> tuple[str, ...]:
        """The tensors of a file, in its order."""
        return self._weights(path).names

    def read(self, place: Place) -> Tensor:
        """The numbers of a tensor, in its own dtype.

        Raises:
            EditkitError: it is float8 or quantised: what it was rounded to there depends on more than its numbers.
        """
        weights = self._weights(place.path)
        if not weights.is_plain(place.name):
            raise EditkitError(
                f"{place.path}: {place.name} is float8, expected float16, bfloat16, float32 or float64; give the model "
                "that it was converted from"
            )
        return weights.read(place.name)

    def weights(self, component: str) -> dict[str, Place]:
        """Name → place of the tensors of a folder's component, from all its shards.

        Raises:
            EditkitError: there are none, or its configuration says that it is quantised.
        """
        check_config(self.source.config(component), self.source.path / component / "config.json")
        return {name: Place(path, name) for path in self.source.weights(component) for name in self.names(path)}

    def denoiser(self, names: Collection[str] | None = None) -> dict[str, Place]:
        """Of the denoiser by diffusers' names, in their order: text projections, or those of `names` that are there,
        text encoders' among them."""
        family = self.source.family
        if self.source.is_single_file:
            held = self.names(self.source.path)
            found = _in_ldm(held, family.name, names)
            return {name: Place(self.source.path, found[name]) for name in sorted(found)}
        wanted = (lambda name: is_text_projection(family, name)) if names is None else set(names).__contains__
        stored = self.weights(family.component)
        for component in encoders_of(names):
            encoder = self.weights(component) if component in self.source.components else {}
            stored |= {encoder_weight(component, own): place for own, place in encoder.items()}
        return {name: stored[name] for name in sorted(filter(wanted, stored))}

    def fingerprint(self, places: Mapping[str, Place]) -> str:
        """`fingerprint` of some tensors, one after another in memory."""
        return fingerprint(Lazy({name: partial(self.read, place) for name, place in places.items()}))

    def _weights(self, path: Path) -> Weights:
        if path not in self._opened:
            self._opened[path] = self._stack.enter_context(open_weights(path))
        return self._opened[path]


def _in_ldm(held: Iterable[str], family: str, names: Collection[str] | None) -> dict[str, str]:
    """diffusers' name → a single file's."""
    if names is None:
        return {known: name for name in held if (known := diffusers_name(name, family))}
    own = {name.removeprefix(UNET_PREFIX): name for name in held if not name.startswith("model_ema.")}
    return {name: own[ldm] for name in names if (ldm := ldm_name(name, family)) in own}
