"""`fallow s3`: S3 on the buyer's own machine."""

from __future__ import annotations

import asyncio
import signal
import sys
from typing import Annotated

from cyclopts import App, Parameter, validators

from fallow.cli.show import PORT_MAX, Json, say_s3, show_json, tell
from fallow.cli.storage_grants import GrantOption
from fallow.sdk.storage_grants import load_grant

app = App(name="s3", help="Serve S3 on this machine: objects are sealed here, under your own secret.")


@app.command
def serve(
    *,
    port: Annotated[
        int, Parameter(help="Port on 127.0.0.1; 0 takes a free one.", validator=validators.Number(gte=0, lte=PORT_MAX))
    ] = 0,
    grant: GrantOption = "",
    json: Json = False,
) -> None:
    """Serve S3 to programs on this machine until Ctrl-C or SIGTERM.

    Names and bytes are sealed before they leave it: the network and its nodes can read neither.
    """
    from fallow.cli.storage_files import served  # noqa: PLC0415 - heavy, and not needed for the help
    from fallow.ports.tasks import first_error  # noqa: PLC0415 - as above

    given = load_grant(grant)

    async def run() -> None:
        stop, loop = asyncio.Event(), asyncio.get_running_loop()
        with first_error():
            async with served(port, given) as made:
                # Not before: who waits for a network that is away can end that.
                for number in (signal.SIGINT, signal.SIGTERM):
                    loop.add_signal_handler(number, stop.set)
                words = {
                    "endpoint": made.url,
                    "access_key": made.user.access_key,
                    "secret_key": made.user.secret,
                }
                if json:
                    show_json(words)
                else:
                    say_s3(made.url, made.user.access_key, made.user.secret)
                    tell("Serving this machine until Ctrl-C. The keys stay the same; they are of use here only.")
                sys.stdout.flush()
                await stop.wait()

    asyncio.run(run())
