"""Packages that only tables need: what to install is said where one is missed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["needed"]


@contextmanager
def needed(extra: str) -> Iterator[None]:
    """Around an import: says which extra of this package brings what could not be imported."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"this needs {error.name}, which is not installed: pip install 'annals[{extra}]'", name=error.name
        ) from None
