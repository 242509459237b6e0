"""fallow agent policy: when this machine may work for others."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
from cyclopts import App, Parameter

from fallow.cli.agent_home import DEFAULT_HOME, Home, Json

if TYPE_CHECKING:
    from fallow.agent.policy_file import IdlePolicy

app = App(name="policy", help="Say when this machine may work for others, and with how much of it.")


@app.default
def show(*, home: Home = DEFAULT_HOME, json: Json = False) -> None:
    """Show all settings with what they mean."""
    from fallow.agent.policy_file import load_policy, policy_toml  # noqa: PLC0415 - not needed for the help

    policy = load_policy(home.expanduser())
    print(msgspec.json.encode(policy).decode() if json else policy_toml(policy), end="\n" if json else "")


app.command(show, name="show")


@app.command(name="set")
def set_(
    settings: Annotated[list[str], Parameter(help="KEY=VALUE; several values parted by `;`, KEY= for the default.")],
    /,
    *,
    home: Home = DEFAULT_HOME,
    json: Json = False,
) -> None:
    """Change settings; a running agent obeys within a second. Example: set away_minutes=10 cpu_percent=50."""
    from fallow.agent.home import Home as Folder  # noqa: PLC0415 - not needed for the help
    from fallow.agent.policy_file import changed, load_policy, save_policy  # noqa: PLC0415

    folder = Folder(home.expanduser())
    policy = changed(load_policy(folder.path), settings)
    save_policy(folder.path, policy)
    print(msgspec.json.encode(policy).decode() if json else "\n".join(_holding(folder.path, policy)))


@app.command
def explain(*, home: Home = DEFAULT_HOME, json: Json = False) -> None:
    """Say in one sentence each what holds: the policy, and what was asked in the console where it lets that."""
    from fallow.agent.policy_file import load_policy  # noqa: PLC0415 - not needed for the help

    folder = home.expanduser()
    found = _holding(folder, load_policy(folder))
    print(msgspec.json.encode(found).decode() if json else "\n".join(found))


def _holding(folder: Path, policy: IdlePolicy) -> list[str]:
    from fallow.agent.asking import in_force, load_asked  # noqa: PLC0415 - not needed for the help
    from fallow.agent.home import Home as Folder  # noqa: PLC0415
    from fallow.agent.policy_text import explain as sentences  # noqa: PLC0415
    from fallow.agent.policy_text import said  # noqa: PLC0415

    asked = load_asked(folder)
    if not policy.console or asked is None:
        return sentences(policy)
    holds = in_force(policy, asked, Folder(folder).state().settings.terms)
    return [*sentences(holds.policy), said(asked, holds.held_back)]
