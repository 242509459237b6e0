"""fallow up: run a whole network on this machine."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
from cyclopts import App, Parameter

if TYPE_CHECKING:
    from fallow.bootstrap.settings import Settings
    from fallow.bootstrap.up import Welcome

app = App(name="up", help="Run a whole network on this machine.")

Data = Annotated[Path | None, Parameter(help="Folder for all data.", env_var="FALLOW_DATA")]


def default_data() -> Path:
    """Where a network keeps its data: a system folder for root, whose home other users cannot enter."""
    if os.geteuid() == 0:
        return Path("/var/lib/fallow")
    base = os.environ.get("XDG_DATA_HOME")
    return (Path(base) if base else Path.home() / ".local" / "share") / "fallow"


@app.default
def up(
    *,
    data: Data = None,
    host: Annotated[str | None, Parameter(help="Loopback address to listen on.")] = None,
    port: Annotated[int | None, Parameter(help="Port of the HTTP gateway; 0 takes a free one.")] = None,
    bus_port: Annotated[int | None, Parameter(help="Port of the message bus; 0 takes a free one.")] = None,
    json: Annotated[bool, Parameter(negative="", help="Print one JSON value, for programs.")] = False,
) -> None:
    """Start PostgreSQL, the message bus and all roles, and keep them running until Ctrl-C or SIGTERM."""
    from fallow.bootstrap.settings import load_settings  # noqa: PLC0415 - heavy, and not needed for the help

    logging.basicConfig(format="%(levelname)s %(name)s: %(message)s", level=logging.WARNING)
    folder = (data or default_data()).expanduser().resolve()
    flags = {"host": host, "http_port": port, "bus_port": bus_port}
    asyncio.run(_run(folder, load_settings(folder, os.environ, flags), json=json))


async def _run(data: Path, settings: Settings, *, json: bool) -> None:
    from fallow.bootstrap.up import run_network  # noqa: PLC0415 - heavy, and not needed for the help

    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with run_network(data, settings) as welcome:
        text = _json(welcome) if json else _text(welcome, settings.test_credits_usd)
        print(text, flush=True)
        await stop.wait()
        print("Stopping.", file=sys.stderr)


def _json(welcome: Welcome) -> str:
    return msgspec.json.encode({"net": welcome.net, "url": welcome.url, **welcome.keys._asdict()}).decode()


def _text(welcome: Welcome, test_credits_usd: int) -> str:
    return f"""Network {welcome.net} is up at {welcome.url}  (Ctrl-C stops it)

  Offer a machine:   fallow agent join {welcome.url} --token {welcome.keys.join_token}
  Buy from it:       fallow login {welcome.url} {welcome.keys.buyer_key}
                     This key has {test_credits_usd} USD of TEST credits: they are play money, worth nothing.
  Operate it:        FALLOW_URL={welcome.url} FALLOW_API_KEY={welcome.keys.operator_key} fallow ledger check
"""
