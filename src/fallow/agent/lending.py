"""What an owner lends to verticals beside leases, as he types it: `VERTICAL=WHAT`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from fallow.domain.errors import InvalidInput
from fallow.ports.vertical.plugin import Vertical


def read_lending(text: str) -> tuple[str, str]:
    """Return the vertical, and what it is lent in the owner's words; those are empty where he ends it.

    Raises:
        InvalidInput: it is nothing of that kind (`agent.lends`).
    """
    vertical, equals, what = text.partition("=")
    if not equals or not vertical:
        raise InvalidInput("agent.lends", f"{text[:80]!r} lends nothing.", "VERTICAL=WHAT, as storage=/srv/fallow:1TB.")
    return vertical, what


def read_lendings(texts: Iterable[str]) -> dict[str, str]:
    """Read several, each for another vertical. Raises as `read_lending`, and where two are for the same."""
    lends: dict[str, str] = {}
    for text in texts:
        vertical, what = read_lending(text)
        if vertical in lends:
            raise InvalidInput("agent.lends", f"Two things are lent to {vertical}.", "Lend one of them.")
        lends[vertical] = what
    return lends


def check_lendings(
    lends: Mapping[str, str], verticals: Mapping[str, Vertical], hidden: Sequence[Path] = ()
) -> list[str]:
    """Check what is lent on this machine; returns what the owner thereby agrees to.

    Raises:
        InvalidInput: it is malformed, or there is no vertical that takes it (`agent.lends`), or as `check_seen`.
    """
    for name in lends:
        if name not in verticals:
            known = ", ".join(verticals) or "none"
            raise InvalidInput("agent.lends", f"Nothing here is called {name[:80]!r}.", f"Installed are: {known}.")
    said = [verticals[name].check_lending(what) for name, what in lends.items() if what]
    check_seen(lends, verticals, hidden)
    return said


def check_seen(lends: Mapping[str, str], verticals: Mapping[str, Vertical], hidden: Sequence[Path]) -> None:
    """Check that no folder is lent below those that are `hidden` from the agent (`fallow.agent.unit.hidden_from`).

    Raises:
        InvalidInput: one is (`agent.lends`).
    """
    for name, what in lends.items():
        folder = verticals[name].lent_folder(what) if what else ""
        for place in hidden:
            if folder and Path(folder).resolve().is_relative_to(place.resolve()):
                raise InvalidInput(
                    "agent.lends",
                    f"{folder} is below {place}, of which the agent's system service has its own, empty at each start.",
                    "Lend a folder elsewhere (fallow agent lend), as /srv/fallow.",
                )
