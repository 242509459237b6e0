"""`fallow storage link`: an address by which a browser opens one object of the network's own S3 gateway."""

from __future__ import annotations

from typing import Annotated

import msgspec
from cyclopts import Parameter

from fallow.cli import profiles
from fallow.cli.show import Json, say, show_json, tell
from fallow.cli.storage_place import remote
from fallow.cli.units import seconds, when
from fallow.domain.calls.keys import LINK_S_MAX
from fallow.domain.errors import InvalidInput, NotAllowed
from fallow.verticals.storage.core.calls.buckets import Bucket, GetBucket


def link(
    at: str,
    /,
    *,
    valid: Annotated[str, Parameter(help="How long it opens the object: 15m, 24h, at most 7d.")] = "24h",
    json: Json = False,
) -> None:
    """Print an address that opens an object (s3://BUCKET/NAME) for whoever has it, of a bucket that the gateway seals.

    For a bucket under your own secret there is none: see `fallow storage share`.
    """
    from fallow.verticals.storage.client.seals import is_own  # noqa: PLC0415 - heavy

    place = remote(at)
    if not place.key:
        raise InvalidInput("storage.place", f"{at!r} names no object.", "It looks like s3://BUCKET/NAME.")
    valid_s = seconds(valid)
    if not 0 < valid_s <= LINK_S_MAX:
        raise InvalidInput("storage.link_time", "An address is valid for a second to seven days.")
    with profiles.connect() as client:
        call = GetBucket(account="", bucket=place.bucket)
        answer = client.ask_vertical("storage", call.name, msgspec.msgpack.encode(call), again=True)
        if is_own(msgspec.msgpack.decode(answer, type=Bucket)):
            raise NotAllowed(
                "storage.own_bucket",
                f"The bucket {place.bucket} is sealed under your own secret, which no server has: no address opens it.",
                f"Whoever has a grant opens it himself: fallow storage share {place}",
            )
        links = client.link("s3", f"/{place.bucket}/{place.key}", valid_s)
    (address,) = links.urls
    if json:
        show_json({"url": address, "until_ms": links.ends_at})
    else:
        say(address)
        tell(f"Whoever has it reads this object until {when(links.ends_at)} UTC, or until your API key ends.")
