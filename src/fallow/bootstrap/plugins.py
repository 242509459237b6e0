"""Finds the verticals that are installed: each is a plugin, and nothing lists them."""

from __future__ import annotations

from importlib.metadata import entry_points

from fallow.domain.epochs.metering import Metering
from fallow.domain.epochs.state import SECTIONS
from fallow.domain.errors import Unavailable
from fallow.domain.gateway_facts import LimitMade
from fallow.ports.vertical.plugin import Vertical

GROUP = "fallow.verticals"


def load_meterings() -> dict[str, Metering]:
    """What the installed verticals bring to an epoch, by name.

    Raises:
        Unavailable: see `load_verticals`.
    """
    verticals = load_verticals().items()
    return {name: vertical.metering for name, vertical in verticals if vertical.metering is not None}


def load_limits_made() -> dict[str, LimitMade]:
    """How it is seen that a vertical's gateway ordered beyond a limit, by name. Raises as `load_meterings`."""
    return {name: vertical.limit_made for name, vertical in load_verticals().items()}


def load_verticals() -> dict[str, Vertical]:
    """Load all installed verticals, by name.

    Raises:
        Unavailable: one of them cannot be loaded, or has a name that is taken or none (`plugin.broken`).
    """
    found: dict[str, Vertical] = {}
    for entry in sorted(entry_points(group=GROUP), key=lambda entry: entry.name):
        try:
            vertical: Vertical = entry.load()
            name = vertical.name
        except (ImportError, AttributeError) as error:
            raise Unavailable("plugin.broken", f"The vertical {entry.name!r} cannot be loaded: {error}.") from error
        if not name.isidentifier() or name in SECTIONS:
            raise Unavailable(
                "plugin.broken", f"No vertical can be called {name!r}: the state of an epoch would break."
            )
        if name in found:
            raise Unavailable("plugin.broken", f"Two installed verticals are called {name!r}.")
        found[name] = vertical
    return found
