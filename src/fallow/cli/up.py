"""fallow up: run a whole network on this machine."""

from __future__ import annotations

import asyncio
import logging
import os
import shlex
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
from cyclopts import App, Parameter

from fallow.cli.install_line import install_line
from fallow.domain.pins import PIN_PREFIX

if TYPE_CHECKING:
    from fallow.bootstrap.settings import Settings
    from fallow.bootstrap.up import Welcome

app = App(name="up", help="Run a whole network on this machine.")

Data = Annotated[Path | None, Parameter(help="The network's data folder.", env_var="FALLOW_DATA")]


def data_folder(named: Path | None) -> Path:
    """Where a network keeps its data; unnamed, a system folder for root, whose home other users cannot enter."""
    return (named or _default_folder()).expanduser().resolve()


def _default_folder() -> Path:
    if os.geteuid() == 0:
        return Path("/var/lib/fallow")
    base = os.environ.get("XDG_DATA_HOME")
    return (Path(base) if base else Path.home() / ".local" / "share") / "fallow"


@app.default
def up(
    *,
    data: Data = None,
    listen: Annotated[
        str | None,
        Parameter(help="HOST:PORT that other machines reach, with TLS; 0.0.0.0 is every address of this machine."),
    ] = None,
    name: Annotated[
        tuple[str, ...],
        Parameter(negative="", help="Name that others reach it by; may be repeated, the first is shown."),
    ] = (),
    tls_cert: Annotated[Path | None, Parameter(help="Certificate of your own (PEM) to use with --listen.")] = None,
    tls_key: Annotated[Path | None, Parameter(help="Its private key (PEM).")] = None,
    host: Annotated[str | None, Parameter(help="Loopback address to listen on, without TLS.")] = None,
    port: Annotated[int | None, Parameter(help="Port of the HTTP gateway; 0 takes a free one.")] = None,
    bus_port: Annotated[int | None, Parameter(help="Port of the message bus; 0 takes a free one.")] = None,
    json: Annotated[bool, Parameter(negative="", help="Print one JSON value, for programs.")] = False,
) -> None:
    """Start PostgreSQL, the message bus and all roles, and keep them running until Ctrl-C or SIGTERM."""
    from fallow.bootstrap.settings import load_settings  # noqa: PLC0415 - heavy, and not needed for the help

    logging.basicConfig(format="%(levelname)s %(name)s: %(message)s", level=logging.WARNING)
    folder = data_folder(data)
    flags: dict[str, object] = {
        "host": host,
        "http_port": port,
        "bus_port": bus_port,
        "listen": listen,
        "names": ",".join(name) or None,
    }
    flags |= {"tls_cert": tls_cert and str(tls_cert.absolute()), "tls_key": tls_key and str(tls_key.absolute())}
    asyncio.run(_run(folder, load_settings(folder, os.environ, flags), json=json))


async def _run(data: Path, settings: Settings, *, json: bool) -> None:
    from fallow.bootstrap.up import run_network  # noqa: PLC0415 - heavy, and not needed for the help

    stop, loop, task = asyncio.Event(), asyncio.get_running_loop(), asyncio.current_task()
    waits = False

    def asked() -> None:
        """Stop politely; while it is starting, or when asked again, at once."""
        if task is not None and not (waits and not stop.is_set()):
            task.cancel()
        stop.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, asked)
    try:
        async with run_network(data, settings) as welcome:
            text = _json(welcome) if json else _text(welcome, settings.test_credits_usd)
            print(text, flush=True)
            waits = True
            await stop.wait()
            print("Stopping.", file=sys.stderr)
    except asyncio.CancelledError:
        if not stop.is_set():
            raise
        print("Stopped.", file=sys.stderr)


def _json(welcome: Welcome) -> str:
    network = {"net": welcome.net, "url": welcome.url, "ca": welcome.ca, "pin": welcome.pin}
    if welcome.chain:
        network["chain_url"] = welcome.chain.url
    network["install"] = install_line(welcome.url, welcome.keys.join_token, welcome.install_sha256)
    return msgspec.json.encode({**network, **welcome.keys._asdict()}).decode()


def _text(welcome: Welcome, test_credits_usd: int) -> str:
    pinned = f" --ca {PIN_PREFIX}{welcome.pin}" if welcome.pin else ""
    trusting = f"FALLOW_CA={shlex.quote(welcome.ca)} " if welcome.ca else ""
    token = welcome.keys.join_token
    return f"""Network {welcome.net} is up at {welcome.url}  (Ctrl-C stops it)

  Look at it:        {welcome.url} in a browser, without a login
  Offer a machine:   fallow agent join {welcome.url} --token {token}
  One without it:    {install_line(welcome.url, token, welcome.install_sha256)}
                     This line checks what it downloads, installs the agent into a folder of its own, and joins.
  Buy from it:       fallow login {welcome.url} {welcome.keys.buyer_key}{pinned}
                     This key has {test_credits_usd} USD of TEST credits: they are play money, worth nothing.
  Operate it:        FALLOW_URL={welcome.url} FALLOW_API_KEY={welcome.keys.operator_key} {trusting}fallow ledger check
{_gateways(welcome)}{_chain(welcome)}"""


def _gateways(welcome: Welcome) -> str:
    """Where buyers find what is bought by other protocols than the network's own."""
    return "".join(f"  {role.upper() + ':':<19}{url}\n" for role, url in welcome.gateways.items())


def _chain(welcome: Welcome) -> str:
    if not welcome.chain:
        return ""
    if not welcome.chain.embedded:
        return f"  It settles on:     chain {welcome.chain.id}\n"
    return f"""  Its chain:         {welcome.chain.url}  (JSON-RPC, number {welcome.chain.id})
                     It is run by this machine alone, so it proves nothing to outsiders.
"""
