"""The one error that a user of editkit is meant to read."""

from collections.abc import Iterable
from difflib import get_close_matches


class EditkitError(Exception):
    """A request that cannot be met.

    The message is one line: the thing, what was expected, what came, what to do. The command line prints it and
    exits with 1; anything else that is raised is a defect of editkit.
    """


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """The nearest of the known names, as a part of an error; empty where none is near.

    >>> did_you_mean("rec", ["rece", "uce"])
    'did you mean rece? '
    """
    near = get_close_matches(name, list(known), 1)
    return f"did you mean {near[0]}? " if near else ""
