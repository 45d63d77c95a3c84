"""How a loaded pipeline lies in memory."""

from __future__ import annotations

import re
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

from editkit.errors import EditkitError
from editkit.model.quantize import QUANTIZED

DTYPES = ("float32", "bfloat16", "float16")
FP8 = "fp8"
STORAGES = (FP8,)
OFFLOADS = ("none", "model", "sequential")


@dataclass(frozen=True)
class Placement:
    """What a pipeline is loaded as, and where it lies while it does not compute.

    Attributes:
        dtype: what weights are kept and multiplied in, one of `DTYPES`. None keeps float32, and multiplies in half
            precision where the hardware does that; with `storage` or `quantize` it is bfloat16.
        storage: `fp8` keeps the network's weights in float8, and casts a layer at a time to `dtype`. What edits change
            stays in `dtype`. None keeps all in `dtype`.
        quantize: `int8` keeps the network's matrices in eight bits, and multiplies in `dtype`. What closed-form edits
            change stays in `dtype`; encoders and decoder do, too.
        offload: `model` lays the components that do not compute into the processor's memory, `sequential` every layer.
        tile_vae: decode pictures that are larger than the decoder's own tile in tiles that overlap.

    Raises:
        EditkitError: another word.

    >>> Placement("bfloat16", offload="model").record
    {'dtype': 'bfloat16'}
    >>> Placement(storage="fp8").record
    {'dtype': 'bfloat16', 'storage': 'fp8'}
    >>> Placement().record
    {}
    """

    dtype: str | None = None
    storage: str | None = None
    offload: str = "none"
    tile_vae: bool = False
    quantize: str | None = None

    def __post_init__(self) -> None:
        words = {"dtype": (None, *DTYPES), "storage": (None, *STORAGES), "offload": OFFLOADS}
        words["quantize"] = (None, *QUANTIZED)
        for name, known in words.items():
            said = getattr(self, name)
            if said not in known:
                raise EditkitError(f"--{name}: expected one of {', '.join(filter(None, known))}, got {said!r}")
        if self.quantize is not None and (self.storage is not None or self.offload == "sequential"):
            other = "--storage" if self.storage is not None else "--offload sequential"
            raise EditkitError(
                f"--quantize {self.quantize}: goes with no {other}, which casts or moves single weights; leave one out"
            )
        if self.dtype is None and (self.storage is not None or self.quantize is not None):
            object.__setattr__(self, "dtype", "bfloat16")

    @property
    def record(self) -> dict[str, Any]:
        """What a picture depends on, where it is not the usual: not on where weights lie."""
        said = {"dtype": self.dtype, "storage": self.storage, "tile_vae": self.tile_vae}
        said["quantize"] = self.quantize
        return {name: value for name, value in said.items() if value}

    def check(self, device: str) -> None:
        """Refuse what cannot be on a device.

        Raises:
            EditkitError: weights are to be kept off a processor, or what moves them is not installed.

        >>> Placement(offload="model").check("cuda:0")
        """
        if self.offload != "none" and device.startswith("cpu"):
            raise EditkitError(
                f"--offload {self.offload}: expected a GPU to keep weights off, but --device is {device}, whose memory "
                "is where they would go; leave it out, or give --device cuda"
            )
        if self.offload != "none" and find_spec("accelerate") is None:
            raise EditkitError(f"--offload {self.offload}: needs the extra refine; pip install 'editkit[refine]'")

    def weight_dtype(self, component: str, config: dict[str, Any]) -> Any:
        """What torch keeps the weights of a component in. A decoder whose values are too large for float16 stays in
        float32; its configuration says so.

        Args:
            config: the component's.
        """
        import torch

        dtype = torch.float32 if self.dtype is None else getattr(torch, self.dtype)
        upcast = config.get("force_upcast", config.get("_class_name", "AutoencoderKL") == "AutoencoderKL")
        return torch.float32 if component == "vae" and dtype == torch.float16 and upcast else dtype


def lay(pipe: Any, placement: Placement, device: str) -> None:
    """Put a loaded pipeline where it is to be: to be called once, and last.

    Raises:
        EditkitError: its decoder cannot be tiled.
    """
    if placement.tile_vae:
        tile(pipe)
    if placement.storage == FP8:
        store_in_float8(pipe)
    if placement.offload == "model":
        pipe.enable_model_cpu_offload(device=device)
    elif placement.offload == "sequential":
        pipe.enable_sequential_cpu_offload(device=device)
    else:
        pipe.to(device, silence_dtype_warnings=True)  # float16 is slow on a processor, no more


def tile(pipe: Any) -> None:
    """Let the decoder of a pipeline decode what is larger than its own tile in tiles."""
    try:
        pipe.vae.enable_tiling()
    except (AttributeError, NotImplementedError) as error:
        raise EditkitError(
            f"--tile-vae: {type(pipe.vae).__name__} of this model cannot decode in tiles; leave it out"
        ) from error


def store_in_float8(pipe: Any) -> None:
    """Keep the weights of a pipeline's network in float8, but for norms, embeddings of positions, and what edits
    change: edits are exact in what the network computes in."""
    import torch

    from editkit.model.apply import network_of

    network_of(pipe).enable_layerwise_casting(torch.float8_e4m3fn, network_of(pipe).dtype, _not_in_float8(pipe))


def float8_layers(pipe: Any) -> list[Any]:
    """The layers of a pipeline's network whose weights `store_in_float8` casts."""
    from diffusers.hooks._common import _GO_LC_SUPPORTED_PYTORCH_LAYERS

    from editkit.model.apply import network_of

    network = network_of(pipe)
    kept = (*_not_in_float8(pipe), *(network._skip_layerwise_casting_patterns or ()))
    layers = (pair for pair in network.named_modules() if isinstance(pair[1], _GO_LC_SUPPORTED_PYTORCH_LAYERS))
    return [layer for name, layer in layers if not any(re.search(pattern, name) for pattern in kept)]


def _not_in_float8(pipe: Any) -> tuple[str, ...]:
    """Patterns of names of layers."""
    from diffusers.hooks.layerwise_casting import DEFAULT_SKIP_MODULES_PATTERN

    from editkit.model.apply import projection_names

    edited = (name.rpartition(".")[0] for names in projection_names(pipe).values() for name in names)
    return (*DEFAULT_SKIP_MODULES_PATTERN, *(f"^{re.escape(name)}$" for name in edited))
