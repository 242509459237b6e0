"""`fallow agent promises`: hold the network to what it promised this machine."""

from __future__ import annotations

from fallow.cli import profiles
from fallow.cli.agent_home import DEFAULT_HOME, Home
from fallow.cli.show import Json, say, show_json


def promises(*, home: Home = DEFAULT_HOME, json: Json = False) -> int:
    """Compare the network's promises with its archive. Exits with 1 when one is broken; the proof is kept in a file.

    For each batch of records the network has promised in which epoch's archive it will be.
    """
    from fallow.agent.home import Home as Folder  # noqa: PLC0415 - heavy, and not needed for the help
    from fallow.agent.outbox_store import read_promises  # noqa: PLC0415

    folder = Folder.there(home.expanduser())
    state = folder.state()
    given = read_promises(folder.outbox(state.network.net))
    archive = folder.path / "archive"
    with profiles.client_of(profiles.Profile(state.url, "", state.ca)) as client:
        found = client.check_promises(given, archive, bytes.fromhex(state.network.public_key))
    files = []
    for evidence in found.broken:
        files.append(archive / evidence.name)
        files[-1].write_bytes(evidence.encode())
    if json:
        show_json({"kept": found.kept, "open": found.open, "broken": [str(file) for file in files]})
    else:
        say(f"{found.kept} promises are kept, {found.open} are about epochs that are not closed yet.")
        for file in files:
            say(f"BROKEN: {file}")
        if files:
            say("Anybody can check such a file: fallow epoch broken FILE --from URL --key KEY")
    return 1 if files else 0
