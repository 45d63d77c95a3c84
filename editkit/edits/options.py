"""Every hyper-parameter of an edit, and its default for each method."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

from editkit.embeddings.rows import TOKENS, Tokens
from editkit.errors import EditkitError

Method = Literal["time", "uce", "rece"]
Protect = Literal["none", "prior", "minimax"]
Technique = Literal["replace", "tensor"]
EXPAND = ("none", "artist", "object")


def _one_of(name: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise EditkitError(f"--{name}: must be one of {', '.join(allowed)}, but got {value!r}")


@dataclass(frozen=True)
class Options:
    """How to solve an edit. `defaults` gives the values for a method.

    With `protect` "none" the sums are those of the papers. With a protected vocabulary they are means over rows, so
    that `lamb` and `strength` mean the same for one concept and for a hundred.
    """

    method: Method = "rece"
    protect: Protect = "minimax"
    tokens: Tokens = "tail"
    lamb: float = 0.1
    erase_scale: float = 1.0
    preserve_scale: float = 1.0
    reg: float = 0.1
    epochs: int = 0
    joint: bool = False
    """RECE: solve for all derived rows at once instead of composing the epochs (see `editkit.edits.rece`)."""
    technique: Technique = "replace"
    expand: str = "none"
    strength: float = 1.0
    """μ, the weight of the protected vocabulary."""
    rounds: int = 5
    """Rounds of minimax."""

    def __post_init__(self) -> None:
        _one_of("method", self.method, get_args(Method))
        _one_of("protect", self.protect, get_args(Protect))
        _one_of("tokens", self.tokens, TOKENS)
        _one_of("technique", self.technique, get_args(Technique))
        _one_of("expand", self.expand, EXPAND)
        if self.expand != "none" and self.protect != "none":
            raise EditkitError("--expand: a protected edit brings its own templates; use --protect none with it")
        for name in ("lamb", "erase_scale", "preserve_scale", "reg", "epochs", "strength", "rounds"):
            value = getattr(self, name)
            if not 0 <= value < float("inf"):
                raise EditkitError(f"--{name.replace('_', '-')}: expected a finite number of at least 0, got {value}")
        if self.erase_scale == 0:
            raise EditkitError("--erase-scale: expected a number above 0, got 0: the edit would do nothing")
        for name in ("epochs", "rounds"):
            if getattr(self, name) != int(getattr(self, name)):
                raise EditkitError(f"--{name}: expected a whole number, got {getattr(self, name)}")
        if self.technique == "tensor" and (self.method != "uce" or self.protect != "none"):
            raise EditkitError("--technique tensor: its targets depend on the layer; use --method uce --protect none")


PUBLISHED: dict[Method, Options] = {
    "time": Options("time", "none", "all", lamb=0.1),
    "uce": Options("uce", "none", "last", lamb=0.5),
    "rece": Options("rece", "none", "all", lamb=0.1, preserve_scale=0.1, reg=0.1, epochs=3),
}
PUBLISHED_GUIDE = " "
PROTECTED_GUIDE = "average"


def defaults(method: str = "rece", protect: str = "minimax", **given: Any) -> Options:
    """The options of `method`: as published with protect "none", as measured on the bundled model otherwise.

    Keyword arguments that are not None replace the defaults.
    """
    _one_of("method", method, tuple(PUBLISHED))
    options = PUBLISHED[method]  # pyright: ignore[reportArgumentType]
    if protect != "none":
        epochs = 1 if method == "rece" else 0
        options = replace(
            options,
            joint=method == "rece",
            protect=protect,
            tokens="tail",
            lamb=1e-4,
            strength=0.5,
            epochs=epochs,
            preserve_scale=1.0,  # pyright: ignore
        )
    return replace(options, **{name: value for name, value in given.items() if value is not None})
