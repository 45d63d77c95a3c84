"""How much an attack may spend: a quick look, what the papers spent, or seconds of the clock."""

from __future__ import annotations

from dataclasses import dataclass

from editkit.errors import EditkitError
from editkit.options import check_options, in_case, option, settle

QUICK, PAPER = "quick", "paper"


@dataclass(frozen=True)
class HasBudget:
    """A base for attacks whose options have a quick default and the paper's.

    >>> parse_budget("20"), parse_budget("paper")
    (('paper', 20.0), ('paper', None))
    """

    budget: str = option(QUICK, "Quick defaults, or those of the paper.", choices=(QUICK, PAPER), shown=False)

    def __post_init__(self) -> None:
        settle(self, in_case(type(self), f"--budget {self.budget}"))
        check_options(self)


def parse_budget(text: str | float) -> tuple[str, float | None]:
    """`quick`, `paper` or seconds → the defaults that are meant, and the seconds that one attack on one concept may
    take: within a limit as much is done as the paper does, until they are over.

    Raises:
        EditkitError: it is none of these, or not above 0.
    """
    if text in (QUICK, PAPER):
        return str(text), None
    try:
        seconds = float(text)
    except ValueError as error:
        raise EditkitError(f"--budget: expected quick, paper or seconds such as 60, got {text!r}") from error
    if not 0 < seconds < float("inf"):
        raise EditkitError(f"--budget: expected seconds above 0, got {text}; an attack without a budget is none")
    return PAPER, seconds
