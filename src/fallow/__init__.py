"""Fallow puts idle infrastructure to work. This is the buyers' client; everything else is internal."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fallow.bootstrap.sdk_storage import open_storage
    from fallow.domain.errors import FallowError
    from fallow.domain.orders import Order, Requirements, Tolerance
    from fallow.sdk.client import AsyncClient
    from fallow.sdk.storage import Storage
    from fallow.sdk.sync import Client

__all__ = ["AsyncClient", "Client", "FallowError", "Order", "Requirements", "Storage", "Tolerance", "open_storage"]

# Looked up when first used: an agent, or `fallow --help`, needs none of it.
_HOMES = {
    "AsyncClient": "fallow.sdk.client",
    "Client": "fallow.sdk.sync",
    "FallowError": "fallow.domain.errors",
    "Order": "fallow.domain.orders",
    "Requirements": "fallow.domain.orders",
    "Storage": "fallow.sdk.storage",
    "Tolerance": "fallow.domain.orders",
    "open_storage": "fallow.bootstrap.sdk_storage",
}


def __getattr__(name: str) -> object:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
