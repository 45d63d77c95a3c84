"""What of drawing is refused from the configuration of a model, before a weight of it is read."""

from __future__ import annotations

from collections.abc import Iterable
from warnings import catch_warnings, simplefilter

from torch._subclasses.fake_tensor import FakeTensorMode

from editkit.drawing.outline import is_outlined, outline
from editkit.drawing.sampling import Sampling
from editkit.edits.variant import Variant
from editkit.model.checkpoints.source import Source
from editkit.model.quantize import check_backend, check_quantizable, check_rides_along
from editkit.model.quiet import errors_only


def check_drawing(source: Source, sampling: Sampling, variants: Iterable[Variant | None] = ()) -> None:
    """Refuse what a model cannot be drawn with. It takes a second where a size is given, else nothing.

    A plug-in's pipeline that diffusers does not have checks its size when it draws.

    Args:
        variants: that are drawn with it.

    Raises:
        EditkitError: a size that its decoder or its network cannot divide; or `quantize` of a single file, without
            what quantises, or with an edit that needs the quantised weights.
    """
    if sampling.quantize is not None:
        check_backend(sampling.quantize)
        check_quantizable(source, sampling.quantize)
        for variant in variants:
            check_rides_along(source, variant, sampling.quantize)
    if sampling.size is not None and is_outlined(source):
        parts = (source.family.component, "vae")
        fake = FakeTensorMode(allow_non_fake_inputs=True)
        with errors_only(), catch_warnings():
            simplefilter("ignore")  # of a scheduler that stands for the model's own
            outline(source, fake, parts=parts).latent_shape(sampling.size)
