"""One role of a network in this process: `python -m fallow.bootstrap.serve ROLE DATA SETTINGS READY`.

`fallow up` starts the roles so; `fallow serve` calls `serve_roles`. The file READY is written once the role answers.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from importlib import import_module
from pathlib import Path

import msgspec
import uvloop

from fallow.bootstrap.gateway import run_gateway
from fallow.bootstrap.memory import keep_freed_memory
from fallow.bootstrap.roles import run_core
from fallow.bootstrap.settings import CORE, Settings
from fallow.bootstrap.verticals import gateway_roles, run_gateway_role
from fallow.domain.errors import FallowError, InvalidInput

GATEWAY = "gateway"
CHAIN = "chain"

SWITCH_S = 0.0005
"""For how long a thread keeps the interpreter while another waits.

An answer of the loop waits for Python's own 5 ms several times whenever a thread beside it draws the map.
"""

log = logging.getLogger(__name__)


def run_roles(data: Path, settings: Settings, roles: Sequence[str], ready: Path | None = None) -> None:
    """Run roles on a loop of their own; see `serve_roles`.

    The core's is uvloop's, whose sockets and timers are not Python: that takes an eighth less under dispatch. A gateway
    keeps asyncio's, on which its streams were measured.
    """
    keep_freed_memory()
    sys.setswitchinterval(SWITCH_S)
    logging.getLogger("httpx2").setLevel(logging.WARNING)  # it tells of every look at the chain
    factory = None if list(roles) == [GATEWAY] else uvloop.new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(serve_roles(data, settings, roles, ready))


async def serve_roles(data: Path, settings: Settings, roles: Sequence[str], ready: Path | None = None) -> None:
    """Run roles until SIGTERM or SIGINT. `core` stands for all core roles.

    Raises:
        InvalidInput: a role is unknown, or one that has a process of its own (gateway, chain) is mixed with others.
    """
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with _running(data, settings, roles) as url:
        log.info("serving %s", " ".join((", ".join(roles), *(("at", url) if url else ()))))
        if ready is not None:
            await asyncio.to_thread(ready.touch)
        await stop.wait()


def _running(data: Path, settings: Settings, roles: Sequence[str]) -> AbstractAsyncContextManager[str | None]:
    if list(roles) == [GATEWAY]:
        return run_gateway(data, settings)
    if list(roles) == [CHAIN]:
        return _chain(data, settings)
    if len(roles) == 1 and roles[0] in gateway_roles():
        return run_gateway_role(data, settings, roles[0])
    wanted = set(CORE if list(roles) == ["core"] else roles)
    if not wanted or wanted - set(CORE):
        alone = ", ".join((GATEWAY, CHAIN, *gateway_roles()))
        names = ", ".join(("core", *CORE))
        raise InvalidInput("serve.role", f"Roles are: one of {alone}, or some of {names}.")
    return run_core(data, settings, wanted)


def _chain(data: Path, settings: Settings) -> AbstractAsyncContextManager[str | None]:
    # Loaded for this role alone: its EVM is large, and raises how deep this interpreter may recurse.
    running: AbstractAsyncContextManager[str | None] = import_module("fallow.bootstrap.chain").run_chain(data, settings)
    return running


def main() -> None:
    """Run as a child of `fallow up`."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    role, data, settings, ready = sys.argv[1:]
    try:
        chosen = msgspec.json.decode(Path(settings).read_bytes(), type=Settings)
        run_roles(Path(data), chosen, [role], Path(ready))
    except FallowError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
