"""`fallow agent lent`: all that there is to know of what this machine lends beside leases."""

from __future__ import annotations

import asyncio
from pathlib import Path

import msgspec

from fallow.cli import profiles
from fallow.cli.agent_home import DEFAULT_HOME, Home
from fallow.cli.show import Json, clean, say, show_json, tell
from fallow.cli.units import usd
from fallow.domain.errors import FallowError
from fallow.sdk.epochs import HeldPay


def lent(*, home: Home = DEFAULT_HOME, json: Json = False) -> None:
    """Show what lies on what is lent, how the network sees it, what it earns, and what is held of the account's pay.

    Warnings come with the evidence. The agent has to run.
    """
    from fallow.agent import control  # noqa: PLC0415 - heavy, and not needed for the help
    from fallow.ports.vertical.worker import Overview  # noqa: PLC0415 - heavy, and not for the help

    folder = home.expanduser()
    found = asyncio.run(control.ask(folder / "agent.sock", "lent"))
    held = _held(folder)
    if json:
        show_json({"lent": {name: one["details"] for name, one in found.items()}, "held": held})
        return
    if not found:
        say("Nothing is lent beside leases (fallow agent lend VERTICAL=WHAT).")
    for name, overview in msgspec.convert(found, dict[str, Overview]).items():
        say(f"{name}:")
        width = max((len(label) for label, _ in overview.facts), default=0)
        for label, fact in overview.facts:
            say(f"  {clean(label):{width}}  {clean(' '.join(fact.splitlines()))}")
    if held is not None:
        say(f"held of the account's pay: {usd(held.usage_microusd)} of usage, after epoch {held.epoch}")
        for node, microusd in sorted(held.nodes.items()):
            say(f"  {node[:16]}  {usd(microusd)}")


def _held(home: Path) -> HeldPay | None:
    """By the archive, so that it is what everybody sees; None where no epoch is closed, or the network is away."""
    from fallow.agent.home import Home as Folder  # noqa: PLC0415 - heavy, and not needed for the help

    folder = Folder.there(home)
    state = folder.state()
    try:
        with profiles.client_of(profiles.Profile(state.url, "", state.ca)) as client:
            return client.held_pay(state.account, folder.path / "archive", bytes.fromhex(state.network.public_key))
    except FallowError as error:
        tell(f"What is held of the account's pay is not known now: {error}")
        return None
