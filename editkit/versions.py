"""The versions of the packages that a result depends on."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

EDITS = ("editkit", "torch", "transformers", "diffusers")
"""What an edit depends on."""
RESULTS = ("editkit", "torch", "diffusers", "transformers", "numpy", "pillow")
"""What pictures and figures depend on."""


def versions(packages: tuple[str, ...] = EDITS) -> dict[str, str]:
    """Package → version, "unknown" for one that is not installed.

    >>> sorted(versions())
    ['diffusers', 'editkit', 'torch', 'transformers']
    """
    return {package: _version(package) for package in packages}


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "unknown"
