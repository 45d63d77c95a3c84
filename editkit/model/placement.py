"""How a loaded pipeline lies in memory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from editkit.errors import EditkitError

DTYPES = ("float32", "bfloat16", "float16")


@dataclass(frozen=True)
class Placement:
    """What a pipeline is loaded as.

    Attributes:
        dtype: what weights are kept and multiplied in, one of `DTYPES`. None keeps float32, and multiplies in half
            precision where the hardware does that.

    Raises:
        EditkitError: another word.

    >>> Placement("bfloat16").record
    {'dtype': 'bfloat16'}
    >>> Placement().record
    {}
    """

    dtype: str | None = None

    def __post_init__(self) -> None:
        if self.dtype is not None and self.dtype not in DTYPES:
            raise EditkitError(f"--dtype: expected one of {', '.join(DTYPES)}, got {self.dtype!r}")

    @property
    def record(self) -> dict[str, Any]:
        """What a picture depends on, where it is not the usual."""
        return {} if self.dtype is None else {"dtype": self.dtype}

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
