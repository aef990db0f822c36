"""Helpers that no sense can import, because the standard library or an installed package has a module of that name."""

from __future__ import annotations

import sys
from importlib.machinery import PathFinder
from pathlib import Path


def module_that_hides(top: str, folder: Path) -> str | None:
    """Return where `import NAME` finds a module instead of one in the senses' folder; None if it is not hidden.

    `top` is the first part of the module's name. The result is the path of a file, or words for the standard library.
    """
    if top in sys.stdlib_module_names:
        return "the standard library"
    spec = PathFinder.find_spec(top, [place for place in sys.path if place != str(folder)])
    if spec is None or spec.loader is None:  # a mere folder has no loader
        return None
    return spec.origin or top
