"""The command `fallow`. Each command's module is imported when it is used, so that --help is quick."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from typing import NamedTuple

from cyclopts import App, CycloptsError

from fallow.cli.reader import Reader
from fallow.domain import errors

USAGE_EXIT = 2
INTERRUPTED_EXIT = 130
UNREAD_EXIT = 141
"""As shells say it of a program whose output nobody reads any more."""

JOBS = {"run", "map", "job"}
"""Commands after which there may be a job that goes on, and is paid for."""


class Entry(NamedTuple):
    """A command: its name, where it lives, and what it is for."""

    name: str
    target: str
    help: str
    group: str


BUY, OWN, PROVIDE, OPERATE = "Buy", "Your account", "Provide", "Operate a network"

COMMANDS = (
    Entry("login", "fallow.cli.login:login", "Remember a network and your API key.", OWN),
    Entry("quote", "fallow.cli.quote:quote", "Show what a program would cost and where it could run.", BUY),
    Entry("run", "fallow.cli.run:run", "Run a program or a Python script on somebody's machine.", BUY),
    Entry("map", "fallow.cli.map:map_", "Run a program once for each input, on many machines.", BUY),
    Entry("job", "fallow.cli.job:app", "Look at your jobs, or end them.", BUY),
    Entry("storage", "fallow.cli.storage:app", "Store objects on spare disks, by S3.", BUY),
    Entry("s3", "fallow.cli.s3:app", "Serve S3 on this machine, sealed under your own secret.", BUY),
    Entry("subscription", "fallow.cli.subscription:app", "Use shared services by the meter.", OWN),
    Entry("nodes", "fallow.cli.account:nodes", "List the machines of the network.", BUY),
    Entry("balance", "fallow.cli.account:balance", "Show your credits.", OWN),
    Entry(
        "account",
        "fallow.cli.account_key:app",
        "Your account's key and nodes, where its earnings go, its alerts and budget.",
        OWN,
    ),
    Entry("wallet", "fallow.cli.wallet:app", "Your account on the network's chain.", OWN),
    Entry("claim", "fallow.cli.claim:claim", "Show what you are owed on the chain, and claim it.", OWN),
    Entry("bill", "fallow.cli.bill:bill", "Show what jobs cost, and what they would cost elsewhere.", OWN),
    Entry("statement", "fallow.cli.bill:statement", "List what came in and what was paid.", OWN),
    Entry("agent", "fallow.cli.agent:app", "Offer this machine.", PROVIDE),
    Entry("price", "fallow.cli.price:app", "The token's price, the network's fee, and prices by the meter.", OPERATE),
    Entry("up", "fallow.cli.up:app", "Start a network.", OPERATE),
    Entry("serve", "fallow.cli.serve:app", "Run parts of a network.", OPERATE),
    Entry("backup", "fallow.cli.backup:app", "Show a network's backups, or go back to one.", OPERATE),
    Entry("chain", "fallow.cli.chain:app", "Act on the network's own chain.", OPERATE),
    Entry("credit", "fallow.cli.operate:credit", "Give credits.", OPERATE),
    Entry("token", "fallow.cli.operate:token", "Let machines join.", OPERATE),
    Entry("node", "fallow.cli.node:app", "List enrolled machines, ban them or let them in again.", OPERATE),
    Entry(
        "validator", "fallow.cli.validator:app", "Compute a network's epochs again, and sign what is right.", OPERATE
    ),
    Entry("key", "fallow.cli.operate:key", "Make and revoke API keys.", OPERATE),
    Entry("refused", "fallow.cli.operate:refused", "Show work that was refused, and the evidence.", OPERATE),
    Entry("checks", "fallow.cli.checks:app", "Recompute which results were checked.", OPERATE),
    Entry("epoch", "fallow.cli.epoch:app", "Look at closed epochs, fetch and verify them.", OPERATE),
    Entry("blobs", "fallow.cli.operate:blobs", "Show what is stored, and what was removed.", OPERATE),
    Entry("health", "fallow.cli.operate:health", "Show what failed unexpectedly.", OPERATE),
    Entry("reserve", "fallow.cli.reserve:reserve", "Show what the reserve holds, and what it paid for.", OPERATE),
    Entry("ledger", "fallow.cli.operate:ledger", "Check the ledger.", OPERATE),
)


def build() -> App:
    """Make the app, with the commands that are installed here."""
    app = App(
        name="fallow",
        help="Put idle infrastructure to work: run programs on other people's machines, or offer your own.",
        version=_version,
        result_action="return_value",
        help_format="plaintext",
        suppress_keyboard_interrupt=False,
        console=Reader(),
    )
    for entry in COMMANDS:
        if find_spec(entry.target.partition(":")[0]) is not None:
            app.command(entry.target, name=entry.name, help=entry.help, group=entry.group)
    return app


def run(tokens: Sequence[str]) -> int:
    """Run one command line and return its exit code. Errors become a sentence and a hint."""
    try:
        app = build()
        _say_all(app, tokens)
        code = app(list(tokens), exit_on_error=False, print_error=not _as_json(tokens))
    except CycloptsError as error:
        return _fail(_misused(error), tokens) if _as_json(tokens) else USAGE_EXIT
    except errors.FallowError as error:
        return _fail(error, tokens)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] == "fallow":
            raise
        return _fail(_not_installed(error.name), tokens)
    except BrokenPipeError:
        raise
    except OSError as error:
        return _fail(_system_error(error, tokens), tokens)
    except KeyboardInterrupt:
        return INTERRUPTED_EXIT
    return code if isinstance(code, int) else 0


def _say_all(app: App, tokens: Sequence[str]) -> None:
    """Let the command whose page is asked for say all that its function does: a line of it is for lists alone."""
    if not {"--help", "-h"} & {*tokens}:
        return
    for command in app.parse_commands(list(tokens))[1]:
        if command.default_command is not None and all(name.startswith("-") for name in command):
            command.help = command.default_command.__doc__


def main() -> None:
    """Entry point of the console script. Told to end (SIGTERM), it does as when it is interrupted."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    if sys.stdout is None:  # `fallow job ls >&-`
        sys.stdout = os.fdopen(os.open(os.devnull, os.O_WRONLY), "w")
    try:
        code = run(sys.argv[1:])
        sys.stdout.flush()
    except BrokenPipeError:  # `fallow job ls | head`
        _read_no_more()
        code = UNREAD_EXIT
    except OSError as error:  # nothing can be written, not even why
        _read_no_more()
        code = _fail(_system_error(error, sys.argv[1:]), ())
    sys.exit(code)


def _read_no_more() -> None:
    """Let what was not written yet go nowhere, so that the end does not fail at it."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _fail(error: errors.FallowError, tokens: Sequence[str]) -> int:
    from fallow.cli.show import show_error  # noqa: PLC0415 - only when something went wrong

    show_error(error, as_json=_as_json(tokens))
    return USAGE_EXIT if isinstance(error, errors.InvalidInput) else 1


def _as_json(tokens: Sequence[str]) -> bool:
    """Whether a program reads the answer; what is behind `--` is for another one."""
    ours = list(tokens)[: list(tokens).index("--")] if "--" in tokens else tokens
    return "--json" in ours


def _misused(error: CycloptsError) -> errors.FallowError:
    """A line that says no command, for programs: people are told by a box."""
    return errors.InvalidInput("cli.usage", str(error), " ".join(("fallow", *(error.command_chain or ()), "--help")))


def _system_error(error: OSError, tokens: Sequence[str]) -> errors.FallowError:
    """A path that makes no sense was typed; a disk that is full may come when all is paid: never as exit code 2."""
    what = f"{error.filename}: {error.strerror}" if error.filename else str(error)
    if isinstance(
        error, FileNotFoundError | FileExistsError | PermissionError | NotADirectoryError | IsADirectoryError
    ):
        return errors.InvalidInput("cli.file", f"{what}.", "Check the path.")
    hint = "Jobs and results: fallow job ls" if {*tokens[:1]} & JOBS else ""
    return errors.Unavailable("cli.system", f"This machine failed at it: {what}.", hint)


def _not_installed(module: str) -> errors.FallowError:
    """What a command needs that comes with an extra of the package (pyproject.toml) which is not installed here."""
    return errors.Unavailable(
        "cli.not_installed",
        f"This command needs the Python module {module}, which is not installed here.",
        "Install the part of Fallow that brings it (in a checkout: pip install '.[account]'): `account` for keys of"
        " accounts, wallets, validators and audits of epochs, `agent` for the agent, `storage` to seal objects"
        " on this machine, `network` to run a network.",
    )


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version  # noqa: PLC0415 - only for --version

    try:
        return version("fallow")
    except PackageNotFoundError:
        return "unknown (not installed as a package)"


if __name__ == "__main__":
    main()
