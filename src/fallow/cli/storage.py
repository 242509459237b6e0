"""`fallow storage`: objects on spare disks."""

from __future__ import annotations

from cyclopts import App

from fallow.cli import profiles
from fallow.cli.show import Json, say, show_json, tell
from fallow.cli.storage_usage import usage
from fallow.domain.errors import NotFound

app = App(name="storage", help="Store objects on spare disks.")
app.command(usage)

VERTICAL = "storage"
ROLE = "s3"
OPEN = "fallow subscription open storage --limit 0.05"


@app.command
def key(*, json: Json = False) -> None:
    """Show where S3 clients find this network, and what they sign with: both follow from your API key."""
    with profiles.connect() as client:
        endpoint = client.network().gateways.get(ROLE, "")
        if not endpoint:
            raise NotFound("storage.no_gateway", "This network has no S3 gateway.")
        signing = client.signing_secret()
        open_ = [one for one in client.subscriptions() if one.vertical == VERTICAL and one.state != "ended"]
    if json:
        show_json({"endpoint": endpoint, "access_key": signing.access_key, "secret_key": signing.secret})
    else:
        say(f"export AWS_ENDPOINT_URL={endpoint}")
        say(f"export AWS_ACCESS_KEY_ID={signing.access_key}")
        say(f"export AWS_SECRET_ACCESS_KEY={signing.secret}")
        say("export AWS_REGION=fallow")
    if not open_:
        tell(f"Your account has no subscription to storage yet; nothing can be stored before: {OPEN}")
