"""What a format is: a component that writes an edited model as other programs load it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from torch import Tensor

from editkit.edits.variant import Variant
from editkit.files.atomic import check_free, write_atomic
from editkit.model.editable import EditableModel
from editkit.model.families.family import Family
from editkit.options import Checked

Stored = Literal["folder", "single file"]
Held = Literal["denoiser", "text encoders"]


@dataclass(frozen=True)
class WriteReport:
    """What became of a file or folder.

    Attributes:
        error: the largest relative error of a layer's change.
        lost_by: what makes it, in words; empty where nothing does.
        left_out: files and components that were not carried over, relative to the source, components with the reason.
        variant: what diffusers must be told to load a folder, `fp16` for example.
    """

    error: float = 0.0
    lost_by: str = ""
    left_out: tuple[str, ...] = ()
    variant: str | None = None

    @classmethod
    def rounded(cls, error: float, left_out: tuple[str, ...] = (), variant: str | None = None) -> WriteReport:
        """What rewrites a checkpoint in its own dtype: only float8 loses anything."""
        return cls(error, "rounding to float8" if error > 0 else "", left_out, variant)


@dataclass(frozen=True)
class Format(ABC, Checked):
    """A format. The fields are its options.

    Attributes:
        reads: how the model must be stored; None where it may be either.
        holds: the parts of a model whose weights it may hold: an edit changes one of them.
    """

    reads: ClassVar[Stored | None] = None
    holds: ClassVar[tuple[Held, ...]] = ("denoiser",)

    @classmethod
    def suits(cls, family: Family) -> bool:
        """Whether other programs load what it writes of such a model."""
        return True

    @abstractmethod
    def export(
        self, edit: Variant, weights: Mapping[str, Tensor], model: EditableModel, out: Path, force: bool
    ) -> WriteReport:
        """Write `edit`, applied to `model`, to `out`, whole or not at all.

        Args:
            weights: what the edit may change, before it: weights of the denoiser by diffusers' names, or of text
                encoders as `encoder_weight` calls them.
            force: replace what is at `out`.

        Raises:
            EditkitError: the edit or the model is not one for this format, or `out` cannot be written.
        """

    @abstractmethod
    def check_free(self, out: Path, force: bool) -> None:
        """Refuse a place that cannot be written, or that would be overwritten unasked."""


class FileFormat(Format):
    """A format of one file."""

    def check_free(self, out: Path, force: bool) -> None:
        check_free(out, force)

    def export(
        self, edit: Variant, weights: Mapping[str, Tensor], model: EditableModel, out: Path, force: bool
    ) -> WriteReport:
        done: list[WriteReport] = []
        write_atomic(out, lambda part: done.append(self.write(edit, weights, model, part)), force)
        return done[0]

    @abstractmethod
    def write(self, edit: Variant, weights: Mapping[str, Tensor], model: EditableModel, part: Path) -> WriteReport:
        """Write the file `part`, which then takes its name. The arguments are those of `export`."""
