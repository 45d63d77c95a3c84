"""Adversarial preservation in closed form: hold a whole vocabulary where it is, the most damaged word most."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from editkit.edits.edit_map import EditMap
from editkit.edits.gram import second_moment, square_root
from editkit.edits.solve import Penalty

AT_ONCE = 16384
"""Rows that are multiplied at a time."""
LARGE = 30_000
"""Rows from which damage is computed in the precision of the rows: a tokenizer has 150,000, the common words 10,000."""


@dataclass(frozen=True)
class ProtectedWords:
    """The vocabulary to protect. `rows[j]` are the embedding rows of `words[j]`, `(r_j, d)`, float32 or float64."""

    words: tuple[str, ...]
    rows: tuple[Tensor, ...]

    def damage(self, edit: EditMap, gram: Tensor) -> Tensor:
        """What the edit does to every word, `(words,)` float64: `Δᵀ G Δ / cᵀ G c` summed over its rows,
        `Δ = (M − I) c`.

        The relative change, squared, of all keys and values that the word produces: exact, without a picture. Of more
        than `LARGE` rows to six digits. What no edit changes is computed once.
        """
        root, sizes = self.under(gram)
        return self.sizes(change_root(root, edit), self._is_exact) / sizes

    @property
    def _is_exact(self) -> bool:
        return len(self.stacked) <= LARGE

    def under(self, gram: Tensor) -> tuple[Tensor, Tensor]:
        """A root of `G`, and `cᵀ G c` of every word, `(words,)`: the same for every edit of a model, so those of the
        last `G` are kept."""
        known = self.__dict__.get("last")
        if known is None or known[0] is not gram:
            root = square_root(gram)
            known = self.__dict__["last"] = gram, root, self.sizes(root, self._is_exact)
        return known[1], known[2]

    def sizes(self, root: Tensor, exact: bool = True) -> Tensor:
        """`‖root x‖²` summed over the rows `x` of every word, `(words,)` float64; computed in the precision of the rows
        unless `exact`.

        With `root = √G` that is `cᵀ G c`, with `root = √G (M − I)` it is `Δᵀ G Δ`.
        """
        kind = torch.float64 if exact else self.stacked.dtype
        root = root.to(self.stacked.device, kind)
        parts = self.stacked.split(AT_ONCE)  # of a tokenizer's words all in float64 would take a gigabyte
        return self._per_word(torch.cat([(part.to(kind) @ root.T).square().sum(1) for part in parts]))

    @property
    def alike(self) -> Tensor:
        """Weights that are the same for every word, `(words,)` float64."""
        words = len(self.words)
        return torch.full((words,), 1 / words, dtype=torch.float64, device=self.stacked.device)

    @cached_property
    def mean_moment(self) -> Tensor:
        """The second moment with every word alike, `Σ_j P_jᵀP_j / (J r_j)`, `(d, d)` float64."""
        return self.moment(self.alike)

    @cached_property
    def stacked(self) -> Tensor:
        """All rows, word after word, `(Σ r_j, d)`."""
        return torch.cat(self.rows)

    @cached_property
    def lengths(self) -> Tensor:
        """How many rows every word has, `(words,)`."""
        return torch.tensor([len(rows) for rows in self.rows], device=self.rows[0].device if self.rows else None)

    def _per_word(self, values: Tensor) -> Tensor:
        owner = torch.repeat_interleave(torch.arange(len(self.rows), device=values.device), self.lengths)
        return values.new_zeros(len(self.rows), dtype=torch.float64).index_add(0, owner, values.double())

    def moment(self, weights: Tensor) -> Tensor:
        """`Σ_j w_j P_jᵀP_j / r_j`, `(d, d)` float64; it is symmetric, and one half of it is computed."""
        share = torch.repeat_interleave(weights / self.lengths, self.lengths)
        return second_moment((self.stacked * share.sqrt()[:, None]).double())


def change_root(root: Tensor, edit: EditMap) -> Tensor:
    """`R` with `‖R x‖ = ‖√G (M − I) x‖`, of no more rows than the rank: a large vocabulary is scored by it."""
    return torch.linalg.qr(root @ edit.U, mode="r").R @ edit.V


def prior(protected: ProtectedWords, penalty: Penalty, strength: float) -> Penalty:
    """Add the whole vocabulary to the penalty, every word alike: `H = μ Σ_j P_jᵀP_j / (J r_j)`."""
    return penalty.with_prior(strength * protected.mean_moment)


def minimax(
    solve_with: Callable[[Penalty], EditMap],
    protected: ProtectedWords,
    gram: Tensor,
    penalty: Penalty,
    strength: float,
    rounds: int = 5,
    eta: float = 1.0,
) -> tuple[EditMap, Penalty]:
    """Minimise over edits the damage of the most damaged word, by multiplicative weights.

    `w_j ← w_j exp(η damage_j / max damage)`, normalise, solve again. The inner maximum of adversarial preservation is
    exact here, since the damage of every word is one small product. Returns the round with the least worst damage.
    """
    weights = protected.alike
    best: tuple[float, EditMap, Penalty] | None = None
    root, sizes = protected.under(gram)
    for _ in range(rounds + 1):
        weighted = penalty.with_prior(strength * protected.moment(weights))
        edit = solve_with(weighted)
        damage = protected.sizes(change_root(root, edit), exact=False) / sizes  # it only weighs the words
        worst = float(damage.max())
        if best is None or worst < best[0]:
            best = (worst, edit, weighted)
        if worst == 0:
            break
        weights = weights * torch.exp(eta * damage / worst)
        weights = weights / weights.sum()
    assert best is not None
    return best[1], best[2]
