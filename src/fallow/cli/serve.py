"""fallow serve: run one or some roles of a network whose engines run already."""

from __future__ import annotations

import logging
import os
from typing import Annotated

from cyclopts import App, Parameter

from fallow.cli.show import tell
from fallow.cli.up import Data, data_folder

app = App(name="serve", help="Run single roles of a network, as many copies as wanted.")


@app.default
def serve(
    *,
    role: Annotated[
        list[str],
        Parameter(
            negative="",
            help="core, gateway, chain, s3, registry, ingest, settle, market, epochs, verticals; may be repeated.",
        ),
    ],
    data: Data = None,
    port: Annotated[int, Parameter(help="Port of a further gateway; 0 takes a free one.")] = 0,
) -> None:
    """Run roles until Ctrl-C or SIGTERM, beside those that `fallow up` runs."""
    from fallow.bootstrap.serve import run_roles  # noqa: PLC0415 - heavy, and not needed for the help
    from fallow.bootstrap.settings import load_settings  # noqa: PLC0415 - as above

    logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s: %(message)s", level=logging.INFO)
    folder = data_folder(data)
    settings = load_settings(folder, os.environ, {"http_port": port}, beside=True)
    run_roles(folder, settings, role)


@app.command(name="nats-config")
def nats_config(*, data: Data = None) -> None:
    """Print what a NATS server of your own needs in its configuration; `nats_url` then names it.

    That holds public keys only. The network's own are made in its data folder where there are none yet.
    """
    from fallow.bootstrap.bus_config import own_server_config  # noqa: PLC0415 - heavy, and not needed for the help
    from fallow.bootstrap.settings import load_settings  # noqa: PLC0415 - as above

    folder = data_folder(data)
    config, made = own_server_config(folder, load_settings(folder, os.environ, {}))
    print(config, end="")
    if made:
        names = ", ".join(path.stem for path in made)
        tell(f"The network's keys were made, in {made[0].parent}: {names}.")
        tell("Whoever has them is the network. `fallow up` uses them; keep that folder secret, and a copy of it.")
