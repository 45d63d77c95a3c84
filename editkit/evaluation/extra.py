"""Packages that only one detector or metric needs."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType

from editkit.errors import EditkitError


def need(module: str, extra: str, what: str) -> ModuleType:
    """Import what `pip install 'editkit[extra]'` brings, for `what`.

    Raises:
        EditkitError: it is not installed, or does not import.
    """
    try:
        return import_module(module)
    except ImportError as error:
        raise EditkitError(f"{what}: needs {module} ({error}); pip install 'editkit[{extra}]'") from error
