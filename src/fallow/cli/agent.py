"""fallow agent: put this machine's idle share to work."""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import msgspec
from cyclopts import App, Parameter

from fallow.cli.agent_home import DEFAULT_HOME, Home, Json
from fallow.cli.agent_lent import lent
from fallow.cli.agent_policy import app as policy
from fallow.cli.agent_promises import promises
from fallow.cli.agent_service import service
from fallow.domain.errors import InvalidInput

app = App(name="agent", help="Put this machine's idle share to work for a network, and stay in charge of it.")
app.command(policy)
app.command(service)
app.command(promises)
app.command(lent)

Yes = Annotated[bool, Parameter(negative="", help="Agree without being asked.")]


@app.command
def join(
    url: Annotated[str, Parameter(help="The network's address, https://NAME:PORT")],
    *,
    token: Annotated[str, Parameter(help="The join token that the network's operator gave.", env_var="FALLOW_TOKEN")],
    home: Home = DEFAULT_HOME,
    label: Annotated[str, Parameter(help="A name for this machine that the network may show.")] = "",
    cpu: Annotated[float | None, Parameter(help="Cores to offer; all of them when left out.")] = None,
    memory: Annotated[int | None, Parameter(help="MiB of memory to offer; half of it when left out.")] = None,
    disk: Annotated[int | None, Parameter(help="MiB of disk to offer; at most 10 GiB when left out.")] = None,
    price_core_hour: Annotated[float, Parameter(help="US dollars asked for a core and hour.")] = 0.01,
    gpus: Annotated[int | None, Parameter(help="Graphics processors to offer; all of them when left out.")] = None,
    price_gpu_hour: Annotated[float, Parameter(help="US dollars asked for a graphics processor and hour.")] = 0.2,
    spot_core_hour: Annotated[
        float | None, Parameter(help="US dollars asked where work may be ended for work at the full price.")
    ] = None,
    account: Annotated[
        str,
        Parameter(help="The code of the account that earns (fallow account bind); left out, the network keeps one."),
    ] = "",
    country: Annotated[str, Parameter(help="Two letters (ISO 3166), when buyers may know it.")] = "",
    at: Annotated[
        str,
        Parameter(help="LAT,LON of this machine, when buyers may know about where it is: its H3 cell of some 250 km2."),
    ] = "",
    cell: Annotated[
        str, Parameter(help="The same as an H3 cell; one finer than resolution 5 is widened to that.")
    ] = "",
    dial_from: Annotated[
        str, Parameter(name="--from", help="Address of this machine to connect from, where it has several lines.")
    ] = "",
    direct: Annotated[
        str,
        Parameter(help="Let buyers dial this machine itself: PORT, or ADDR:PORT of one of its lines. Opens a port."),
    ] = "",
    lend: Annotated[
        list[str] | None,
        Parameter(
            negative="", help="VERTICAL=WHAT to lend beside leases, as storage=FOLDER:500GB; as often as needed."
        ),
    ] = None,
    yes: Yes = False,
    start: Annotated[bool, Parameter(help="Serve right away, in the foreground.")] = True,
    json: Json = False,
) -> None:
    """Make this machine a node of a network, after showing what that means, and start serving."""
    from fallow.agent.enrol import Wishes  # noqa: PLC0415 - heavy, and not needed for the help
    from fallow.agent.lending import read_lendings  # noqa: PLC0415
    from fallow.bootstrap import agent  # noqa: PLC0415

    if at and cell:
        raise InvalidInput("cli.place", "--at and --cell say the same.", "Give one of them.")

    wishes = Wishes(
        label=label,
        cores=cpu,
        memory_mib=memory,
        disk_mib=disk,
        price_usd_per_core_hour=price_core_hour,
        gpus=gpus,
        price_usd_per_gpu_hour=price_gpu_hour,
        country=country,
        place=at or cell,
        dial_from=dial_from,
        spot_usd_per_core_hour=spot_core_hour,
        direct=direct,
        lends=read_lendings(lend or []),
    )
    _log_to_stderr()
    state = asyncio.run(
        agent.join(home.expanduser(), url, token=token, wishes=wishes, agree=_agreeing(yes), account=account)
    )
    if state is None:
        sys.exit("Nothing was changed.")
    _show(
        {"net": state.network.net, "account": state.account, "score_cpu": state.score_cpu},
        f"Joined {state.network.net}; earnings go to account {state.account}.",
        json=json,
    )
    if start:
        asyncio.run(agent.run_agent(home.expanduser()))


@app.command
def run(*, home: Home = DEFAULT_HOME) -> None:
    """Serve in the foreground until Ctrl-C."""
    from fallow.bootstrap.agent import run_agent  # noqa: PLC0415 - heavy, and not needed for the help

    _log_to_stderr()
    asyncio.run(run_agent(home.expanduser()))


@app.command
def status(*, home: Home = DEFAULT_HOME, json: Json = False) -> None:
    """Show how the agent is doing."""
    from fallow.cli.agent_status import status_text  # noqa: PLC0415 - heavy, and not needed for the help

    found = _ask(home, "status")
    _show(found, status_text(found), json=json)


@app.command
def why_idle(*, home: Home = DEFAULT_HOME, json: Json = False) -> None:
    """Say what keeps work away from this machine."""
    found = _ask(home, "why-idle")
    _show(found, "\n".join(found) or "It is not idle.", json=json)


@app.command
def key(*, home: Home = DEFAULT_HOME, json: Json = False) -> None:
    """Make an API key that sees this machine's account in the console, what it does and earns, and can do no more."""
    from fallow.bootstrap import agent  # noqa: PLC0415 - heavy, and not needed for the help

    made = asyncio.run(agent.owners_key(home.expanduser()))
    text = f"{made.key}\nSign in with it at {made.url}/provider   It is shown this once, for account {made.account}."
    _show(made._asdict(), text, json=json)


@app.command
def pause(*, home: Home = DEFAULT_HOME, json: Json = False) -> None:
    """Take the machine back at once: what runs ends and moves, nothing new begins."""
    _show(_ask(home, "pause"), "Paused. Run: fallow agent resume", json=json)


@app.command
def resume(*, home: Home = DEFAULT_HOME, json: Json = False) -> None:
    """Take work again after pause or drain."""
    _show(_ask(home, "resume"), "Open for work.", json=json)


@app.command
def drain(*, home: Home = DEFAULT_HOME, json: Json = False) -> None:
    """Finish what runs and take nothing new."""
    _show(_ask(home, "drain"), "Draining. Run: fallow agent status", json=json)


@app.command
def lend(
    what: Annotated[str, Parameter(help="VERTICAL=WHAT, as storage=FOLDER:1TB; VERTICAL= ends it.")],
    *,
    home: Home = DEFAULT_HOME,
    yes: Yes = False,
    json: Json = False,
) -> None:
    """Lend something beside leases, or more or less of it, from the agent's next start on."""
    from fallow.bootstrap import agent  # noqa: PLC0415 - heavy, and not needed for the help

    running = asyncio.run(agent.lend(home.expanduser(), what, agree=_agreeing(yes)))
    if running is None:
        sys.exit("Nothing was changed.")
    then = "It takes effect when the agent is started again, which runs now." if running else "The agent does not run."
    _show({"running": running}, f"Noted. {then}", json=json)


@app.command(name="exit")
def hand_back(
    vertical: Annotated[str, Parameter(help="What is lent, as storage.")],
    *,
    home: Home = DEFAULT_HOME,
    yes: Yes = False,
    wait: Annotated[bool, Parameter(help="Show how far it is until it is over; Ctrl-C ends that alone.")] = True,
    json: Json = False,
) -> None:
    """Hand back what is lent in good order: others' data moves to other machines first, and the network signs for it.

    Typed again it shows how far it is.
    """
    from fallow.bootstrap import agent  # noqa: PLC0415 - heavy, and not needed for the help
    from fallow.cli.agent_exit import shown  # noqa: PLC0415

    path = home.expanduser()
    found = asyncio.run(agent.begin_hand_back(path, vertical, agree=_agreeing(yes)))
    if found is None:
        sys.exit("Nothing was changed.")
    if wait and not found.over:
        with shown(found) as show:
            found = asyncio.run(agent.follow_hand_back(path, vertical, show=show))
    _show(found, found.says, json=json)


@app.command
def leave(
    *,
    home: Home = DEFAULT_HOME,
    erase: Annotated[bool, Parameter(negative="", help="Delete the folder and the node's key, too.")] = False,
    json: Json = False,
) -> None:
    """Stop the agent and leave its network."""
    from fallow.bootstrap import agent  # noqa: PLC0415 - heavy, and not needed for the help

    left = asyncio.run(agent.leave(home.expanduser(), erase=erase))
    waiting = left.records_waiting
    kept = f" {waiting} batches of records could not be handed in; they stay in {home}." if waiting else ""
    lent = "".join(
        f"\nWhat {name} keeps in {what} stays; delete it if you do not come back." for name, what in left.lent.items()
    )
    _show({"records_waiting": waiting, "lent": dict(left.lent)}, f"Left.{kept}{lent}", json=json)


def _ask(home: Path, command: Any) -> Any:  # noqa: ANN401 - one of control.Command, and what it answers
    from fallow.agent import control  # noqa: PLC0415 - heavy, and not needed for the help

    return asyncio.run(control.ask(home.expanduser() / "agent.sock", command))


def _show(value: object, text: str, *, json: bool) -> None:
    print(msgspec.json.encode(value).decode() if json else text)


def _agreeing(yes: bool) -> Callable[[str], bool]:
    """Show the owner what it means, and ask him."""

    def agree(text: str) -> bool:
        print(text, file=sys.stderr)
        return yes or _confirmed()

    return agree


def _confirmed() -> bool:
    if not sys.stdin.isatty():
        sys.exit("Nobody is there to agree: run it in a terminal, or with --yes.")
    print("Agree? [y/N] ", end="", file=sys.stderr, flush=True)
    # The event loop's own handler takes Ctrl-C for later, while this waits for a line.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        return sys.stdin.readline().strip().lower() in {"y", "yes"}
    finally:
        signal.signal(signal.SIGINT, before)


def _log_to_stderr() -> None:
    logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s: %(message)s", level=logging.INFO)
    logging.getLogger("httpx2").setLevel(logging.WARNING)
