"""A gate: prompts that do not ask for what is erased pass an edit by, to the bit."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from itertools import chain

import torch
from torch import Tensor

from editkit.edits.edit_map import EditMap
from editkit.errors import EditkitError
from editkit.hardware import solving_device

RIDGE = 1e-4
"""Of the covariance of neutral rows, in shares of its mean eigenvalue."""
CONFIDENCE = 0.95
"""That a gate opens for no more neutral prompts than it says; over the captions that its threshold is from."""
MARGIN = 1e-5
"""On top of the threshold: the rounding of another batch or device opens nothing."""
CLOSED = -2.0
"""The hit of rows that are all zero: less than any cosine."""


@dataclass(frozen=True)
class Gate:
    """Says by a prompt's rows whether an edit acts on it: where one of them looks like what is erased.

    The hit of a row is its cosine to a row of the concept, where neutral rows are centred and white: the adaptive
    coherence estimator of Kraut, Scharf and McWhorter (2001). That of a prompt is the largest over its rows, padding
    among them, and over the concept's. A prompt opens the gate with a hit above `tau`, which comes from neutral
    prompts: of others of their kind at least a share `1 − eps` stays closed. See `threshold`.

    Not `‖G^½UVc‖ / ‖G^½c‖`, the share by which the edit moves a row: it moves odd sentences, which nobody protected, as
    far as the concept.

    Attributes:
        centre: `(d,)` float64, the mean of neutral rows.
        white: `Σ^−½` `(d, d)` float64, of their covariance.
        wanted: `(k, d)` float64, the concept's rows, white and of length 1.
        tau: the threshold.
        eps: the share of neutral prompts that may open it.
        n: how many neutral prompts the threshold is from.
    """

    centre: Tensor
    white: Tensor
    wanted: Tensor
    tau: float = math.inf
    eps: float = 0.0
    n: int = 0

    @classmethod
    def fit(cls, neutral: Iterable[Tensor], wanted: Tensor) -> Gate:
        """A gate without a threshold: it opens for nothing.

        Args:
            neutral: `(n, d)` rows of each neutral prompt; read once.
            wanted: `(k, d)`, rows of what is erased.
        """
        centre, sigma = _moments(neutral)
        sigma.diagonal().add_(RIDGE * float(sigma.trace()) / len(sigma))
        values, Q = torch.linalg.eigh(sigma)
        white = (Q / values.sqrt()) @ Q.T
        rows = torch.nn.functional.normalize((wanted.double() - centre) @ white, dim=1)
        # Rounded as a file holds them: a gate that is read back has the same hits.
        return cls(centre.float().double(), white.float().double(), rows.float().double())

    def calibrated(self, hits: Tensor, eps: float) -> Gate:
        """With the threshold that `hits` `(n,)` of neutral prompts give."""
        return replace(self, tau=threshold(hits, eps) + MARGIN, eps=eps, n=len(hits))

    @property
    def width(self) -> int:
        """Width `d` of the rows that it reads."""
        return len(self.centre)

    @torch.no_grad()
    def hit(self, rows: Tensor) -> Tensor:
        """`(batch, tokens, d)` → `(batch,)` float64. Prompt by prompt, so that it does not depend on the batch."""
        return torch.stack([self._hit(prompt.to(self.centre)) for prompt in rows])

    def _hit(self, rows: Tensor) -> Tensor:
        apart = (rows - self.centre) @ self.white
        cosines = apart @ self.wanted.T / apart.norm(dim=1, keepdim=True).clamp(min=1e-300)
        return cosines.amax(1).masked_fill(~rows.any(1), CLOSED).amax()  # zeros pad a shorter prompt of a batch

    def opens(self, rows: Tensor) -> Tensor:
        """`(batch, tokens, d)` → `(batch,)`, whether each prompt is edited."""
        return self.hit(rows) > self.tau

    def to(self, device: str | torch.device) -> Gate:
        """The same on `device`, or on the processor for a device without float64."""
        where = solving_device(device)
        return replace(self, centre=self.centre.to(where), white=self.white.to(where), wanted=self.wanted.to(where))


def _moments(neutral: Iterable[Tensor]) -> tuple[Tensor, Tensor]:
    """Mean `(d,)` and covariance `(d, d)` of all rows, float64. About the first prompt's mean, lest they cancel out."""
    prompts = iter(neutral)
    first = next(prompts).double()
    about, d = first.mean(0), first.shape[1]
    count, total, square = 0, torch.zeros_like(about), about.new_zeros(d, d)
    for rows in chain([first], prompts):
        apart = rows.double() - about
        count, total = count + len(apart), total + apart.sum(0)
        square.addmm_(apart.T, apart)
    mean = total / count
    return about + mean, square / count - torch.outer(mean, mean)


def threshold(hits: Tensor, eps: float) -> float:
    """The `k`-th smallest of `hits` `(n,)`, the first `k` with `P(Binomial(n, 1 − eps) < k) ≥ CONFIDENCE`.

    Whatever their distribution, a share `1 − eps` of others like them lies at or below it, with that confidence: the
    tolerance limit of Wilks (1941), conformal prediction conditional on the calibration (Vovk 2012). So it is never
    below the usual conformal quantile, the `⌈(1 − eps)(n + 1)⌉`-th, which promises that share on average alone.

    Raises:
        EditkitError: `eps` is no share, or asks for more than `n` hits.

    >>> threshold(torch.arange(299.0), 0.01), threshold(torch.arange(1000.0), 0.01)
    (298.0, 995.0)
    """
    n, need = len(hits), least(eps)
    if n < need:
        raise EditkitError(
            f"--eps {eps:g}: needs {need} neutral captions for the threshold, got {n}; give more, or a larger --eps"
        )
    above, chance, sum_of = 0, (1 - eps) ** n, (1 - eps) ** n
    while True:  # the most hits that may lie above: P(Binomial(n, eps) ≤ above) ≤ 1 − CONFIDENCE
        chance *= (n - above) / (above + 1) * eps / (1 - eps)
        if sum_of + chance > 1 - CONFIDENCE:
            return float(hits.sort().values[n - above - 1])
        above, sum_of = above + 1, sum_of + chance


def least(eps: float) -> int:
    """The fewest hits that `threshold` takes.

    Raises:
        EditkitError: `eps` is no share.

    >>> least(0.01), least(0.1)
    (299, 29)
    """
    if not 0 < eps < 1:
        raise EditkitError(f"--eps: expected a share between 0 and 1, got {eps:g}")
    return math.ceil(math.log(1 - CONFIDENCE) / math.log1p(-eps))


def moved(
    rows: Mapping[str, Tensor], maps: Mapping[str, EditMap], gate: Gate | None = None, decides: str = "text"
) -> dict[str, Tensor]:
    """Streams of embeddings `(batch, ...)` that `maps` change, through their maps, in the maps' precision.

    Behind a gate a prompt goes through all maps or through none: then its rows are the given ones, bit for bit.

    Args:
        decides: the stream that the gate reads.
    """
    opened = None if gate is None else gate.opens(rows[decides].to(gate.centre.device))
    made: dict[str, Tensor] = {}
    for stream, edit_map in maps.items():
        old = rows[stream]
        new = edit_map.embeddings(old.to(edit_map.U.device)).to(old)
        if opened is None:
            made[stream] = new
        else:
            made[stream] = torch.where(opened.to(old.device).view(-1, *[1] * (old.ndim - 1)), new, old)
    return made
