"""A network whose weights are kept in eight bits, by torchao through diffusers.

The projections that closed-form edits change are left as they are, and so are encoders and decoder: an edit is as exact
as without, whether its map acts on embeddings or its weights are swapped in.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

from editkit.edits.variant import Variant
from editkit.errors import EditkitError
from editkit.model.checkpoints.projections import is_text_projection
from editkit.model.checkpoints.source import Source
from editkit.model.families.family import Family
from editkit.model.quiet import errors_only

QUANTIZED = ("int8",)
"""`int8`: every matrix in eight bits and one float32 scale a row, multiplied in the dtype of its input."""
SCALE_BYTES = 4


def check_backend(kind: str) -> None:
    """Refuse to quantise where nothing is installed that does it.

    Raises:
        EditkitError: which package is missing.
    """
    missing = next((name for name in ("torchao", "accelerate") if find_spec(name) is None), None)
    if missing is not None:
        raise EditkitError(f"--quantize {kind}: needs {missing}; pip install 'editkit[quantize]'")


def check_quantizable(source: Source, kind: str) -> None:
    """Refuse a model that diffusers does not quantise while it reads it.

    Raises:
        EditkitError: a single file.
    """
    if source.is_single_file:
        raise EditkitError(
            f"--quantize {kind}: expected a diffusers folder, model {source.name} is a single file; give a folder of "
            "it, or --storage fp8"
        )


def check_rides_along(source: Source, variant: Variant | None, kind: str) -> None:
    """Refuse a change of weights that are quantised.

    Raises:
        EditkitError: names the first of them.
    """
    names = () if variant is None else variant.names or ()
    plain = (name for name in names if not name.endswith(".bias"))
    other = next((name for name in plain if not is_text_projection(source.family, name)), None)
    if other is not None:
        raise EditkitError(
            f"--quantize {kind}: the edit changes {other}, which is quantised, and needs plain numbers; leave the "
            "option out, or write the edited model with `editkit export` and give that as --model"
        )


def read_quantized(source: Source, dtype: Any, kind: str) -> Any:
    """The network of a model, its weights quantised one by one while they are read.

    Args:
        dtype: of torch, of the weights that stay as they are.
    """
    import diffusers
    import torchao.quantization  # pyright: ignore[reportMissingImports]: an extra that is not among those of `dev`

    component = source.family.component
    network = getattr(diffusers, source.components[component][1])
    how = {"int8": torchao.quantization.Int8WeightOnlyConfig}[kind](version=2)
    names = _projections(source.family, network, source.config(component))
    with errors_only():
        return network.from_pretrained(
            source.path / component,
            quantization_config=diffusers.TorchAoConfig(how, modules_to_not_convert=names),
            dtype=dtype,
            variant=source.variant(component),
            use_safetensors=True,
            local_files_only=True,
        )


def quantized_layers(network: Any, family: Family) -> list[Any]:
    """The layers whose matrices `read_quantized` quantises."""
    from torch import nn

    exact = network._keep_in_fp32_modules or ()
    return [
        layer
        for name, layer in network.named_modules()
        if isinstance(layer, nn.Linear)
        and not is_text_projection(family, f"{name}.weight")
        and not any(f"{part}." in f"{name}.weight" for part in exact)
    ]


def quantized_bytes(layer: Any) -> int:
    """What the matrix of a layer takes."""
    return layer.weight.numel() + SCALE_BYTES * layer.weight.shape[0]


def _projections(family: Family, network: Any, config: dict[str, Any]) -> list[str]:
    """Names of the layers that closed-form edits change."""
    import torch

    with torch.device("meta"):
        names = [name for name, _ in network.from_config(config).named_parameters()]
    return [name.removesuffix(".weight") for name in names if is_text_projection(family, name)]
