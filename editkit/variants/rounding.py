"""Are these the numbers that an edit gives, but for rounding?

An export computes a tensor in float64, or takes one that was trained, and casts it once to the dtype that the base is
kept in. Another machine may sum in another order, and somebody may convert the base before or the export after. So a
number counts as the expected one if it is what the exact result rounds to, give or take `SLACK`: a range is rounded at
both ends, and the number must lie between. A last bit that was changed lies outside, unless the exact result lies in
the middle between two numbers.

An edit file keeps its factors in float32. What was exported from memory, before the edit was written, differs from what
the file gives by that: such numbers are told apart, as the last of `CLOSE`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from editkit.edits.variant import Variant

SLACK = 1e-12
"""What another order of summation leaves of a product in float64, in shares of the tensor's largest number."""
SLACK32 = 5e-6
"""What float32 leaves of the factors of an edit, or of the product of a LoRA: in shares of the root mean square of the
tensor's change. The most that was seen of ten edits of the bundled model is 1.6e-6, of OCE."""
Close = Literal["bits", "cast", "float32"]
CLOSE: Mapping[Close, str] = {
    "bits": "bit for bit",
    "cast": "within the rounding of one cast",
    "float32": f"within what float32 keeps of the edit, {SLACK32:g} of the change",
}
"""How near numbers are to the expected ones, and what it is called; the nearest first."""


@dataclass(frozen=True)
class Difference:
    """A tensor that is not what was expected.

    Attributes:
        tensor: its name, as diffusers has it where it is one of the denoiser's.
        expected: what was expected there, and what is there.
        largest: the largest difference of two numbers; None where the shapes differ or one of the two is not there.
    """

    tensor: str
    expected: str
    largest: float | None = None


def edited_difference(edit: Variant, name: str, found: Tensor, base: Tensor) -> Close | Difference:
    """How near `found` is to `base` with `edit`, or what differs.

    Args:
        name: of the tensor, as diffusers has it.
        found: of the model, in any plain dtype.
        base: the unedited tensor, in any plain dtype.
    """
    if found.shape != base.shape:
        return _shapes(name, found, base)
    expected = edit.weights({name: base})[name].to(found.dtype)
    if torch.equal(found, expected):
        return "bits"
    for close in _slacks(edit):
        if any(bool(((low <= found) & (found <= high)).all()) for low, high in _ranges(edit, name, base, found, close)):
            return close
    unedited = torch.equal(found, base.to(found.dtype))
    return _numbers(name, found, expected, "the unedited number" if unedited else "")


def farther(one: Close, other: Close) -> Close:
    """The less near of the two."""
    order = list(CLOSE)
    return max(one, other, key=order.index)


def plain_difference(name: str, found: Tensor, base: Tensor) -> Difference | None:
    """What differs where `found` must be `base`, cast to its dtype."""
    if found.shape != base.shape:
        return _shapes(name, found, base)
    expected = base.to(found.dtype)
    return None if torch.equal(found, expected) else _numbers(name, found, expected, "")


def _slacks(edit: Variant) -> tuple[Close, ...]:
    """Whole tensors that were trained are known to the bit."""
    return ("cast", "float32") if edit.is_low_rank else ("cast",)


def _ranges(
    edit: Variant, name: str, base: Tensor, found: Tensor, close: Close
) -> Iterator[tuple[Tensor, Tensor]]:  # fmt: skip
    """What the tensor may lie between: cast once, or twice where base and model are kept in unlike dtypes."""
    dtype, fine, coarse = found.dtype, *(torch.finfo(each.dtype).eps for each in (base, found))
    exact, slack = _exact(edit, name, base.double(), close)
    twice = (exact.abs() * fine + torch.finfo(base.dtype).tiny * fine) / 2 if fine < coarse else 0
    yield (exact - slack - twice).to(dtype), (exact + slack + twice).to(dtype)
    if fine > coarse:  # the export was kept in more digits afterwards
        yield (exact - slack).to(base.dtype).to(dtype), (exact + slack).to(base.dtype).to(dtype)
    elif fine < coarse:  # the base was converted, and then edited
        exact, slack = _exact(edit, name, base.to(dtype).double(), close)
        yield (exact - slack).to(dtype), (exact + slack).to(dtype)


def _exact(edit: Variant, name: str, base: Tensor, close: Close) -> tuple[Tensor, Tensor]:
    """The edited tensor in float64, and how far off it may be."""
    exact = edit.weights({name: base})[name]
    slack = exact.abs().max() * SLACK
    if close == "float32":
        slack = slack + SLACK32 * (exact - base).square().mean().sqrt()
    return exact, slack


def _shapes(name: str, found: Tensor, base: Tensor) -> Difference:
    return Difference(name, f"expected the shape {list(base.shape)}, found {list(found.shape)}")


def _numbers(name: str, found: Tensor, expected: Tensor, what: str) -> Difference:
    apart = (found.double() - expected.double()).abs().nan_to_num(nan=float("inf"))
    at = int(apart.argmax())
    place = [int(n) for n in torch.unravel_index(torch.tensor(at), found.shape)]
    values = (float(each.reshape(-1)[at]) for each in (expected, found))
    wanted, there = (f"{value:.6g}" for value in values)
    dtype = str(found.dtype).removeprefix("torch.")
    return Difference(
        name, f"expected {wanted} at {place} in {dtype}, found {what + ' ' if what else ''}{there}",
        float(apart.reshape(-1)[at]),
    )  # fmt: skip
