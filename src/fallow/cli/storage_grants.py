"""`fallow storage share`, `grant` and `revoke`: let others at a part of a bucket, and no more."""

from __future__ import annotations

import json as json_
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import msgspec
from cyclopts import Parameter

from fallow.cli import profiles
from fallow.cli.show import Json, clean, say, show_json, tell
from fallow.cli.storage_place import Remote, remote
from fallow.cli.storage_secret import load_secret
from fallow.cli.units import seconds, when
from fallow.domain.errors import InvalidInput
from fallow.domain.grants import read_grant_id
from fallow.sdk.storage_grants import load_grant
from fallow.verticals.storage.core.calls.accounts import RevokeGrant
from fallow.verticals.storage.core.grants import OPERATIONS, PREFIX, Operation

if TYPE_CHECKING:
    from fallow.verticals.storage.client.granting import Grant, Limits, Signing

READING: Final[tuple[Operation, ...]] = ("read", "list")

GrantOption = Annotated[
    str,
    Parameter(env_var="FALLOW_GRANT", help="A grant to use in place of your key and secret, or a file that holds it."),
]


def share(
    at: str,
    /,
    *,
    allow: Annotated[str, Parameter(help=f"Of {', '.join(OPERATIONS)}, by commas. [read,list; one object: read]")] = "",
    from_: Annotated[str, Parameter(name="--from", help="When it begins: 24h from now, or 2030-12-31T08:00.")] = "",
    until: Annotated[str, Parameter(help="When it ends; without it when it is revoked.")] = "",
    grant: GrantOption = "",
    json: Json = False,
) -> None:
    """Print a grant for a folder (fallow://BUCKET/FOLDER/), a bucket (fallow://BUCKET/) or one object.

    Whoever has it can do what it allows, and hand on a narrower one (--grant). No network is asked to make it.
    """
    from fallow.bootstrap.own_shares import narrower, own_grant  # noqa: PLC0415 - heavy

    bucket, name = remote(at)
    given, limits = load_grant(grant), _limits(allow, from_, until, one=bool(name) and not name.endswith("/"))
    if given is not None:
        made = narrower(given, bucket, name, limits)
    else:
        profile, secret = profiles.load(), load_secret()
        made = own_grant(_signing(profile), profile, secret, bucket, name, limits)
    _show(made, as_json=json, is_new=True)


def grant_command(grant: GrantOption, /, *, json: Json = False) -> None:
    """Show what a grant is for: its text, or a file that holds it."""
    given = load_grant(grant)
    if given is None:
        raise InvalidInput("storage.grant_text", "There is no grant.", "Give it, or set FALLOW_GRANT.")
    _show(given, as_json=json, is_new=False)


def revoke(grant: str, /, *, json: Json = False) -> None:
    """End a grant of yours, by its id or itself, and all that others made of it."""
    is_text = grant.startswith(PREFIX) or Path(grant).is_file()
    given = load_grant(grant) if is_text else None
    id_ = given.id if given is not None else read_grant_id(grant)
    call = RevokeGrant(account="", grant=id_)
    with profiles.connect() as client:
        client.ask_vertical("storage", call.name, msgspec.msgpack.encode(call), again=True)
    show_json({"revoked": id_.hex()}) if json else say(f"The grant {id_.hex()} is revoked.")


def _limits(allow: str, from_: str, until: str, *, one: bool) -> Limits:
    from fallow.verticals.storage.client.granting import Limits  # noqa: PLC0415 - heavy

    words = [word.strip() for word in allow.split(",") if word.strip()]
    if wrong := [word for word in words if word not in OPERATIONS]:
        raise InvalidInput(
            "storage.grant_allow", f"A grant cannot allow to {wrong[0]!r}.", f"It may {', '.join(OPERATIONS)}."
        )
    wanted = [operation for operation in OPERATIONS if operation in words]
    default = [operation for operation in READING if not (one and operation == "list")]
    until_ms, now_ms = _moment(until), int(datetime.now(UTC).timestamp() * 1000)
    if until_ms is not None and until_ms <= now_ms:
        hint = "Say how long from now, as 24h, or a date that is still to come (UTC)."
        raise InvalidInput("storage.grant_empty", f"A grant until {until!r} is over by now.", hint)
    return Limits(wanted or default, _moment(from_) or 0, until_ms)


def _moment(text: str) -> int | None:
    """Read a time, as a duration from now or as a date (UTC, where it says nothing else); None for none."""
    if not text:
        return None
    now = datetime.now(UTC)
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        return int(now.timestamp() * 1000) + seconds(text) * 1000
    return int((at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp() * 1000)


def _signing(profile: profiles.Profile) -> Signing:
    """What grants are made with: asked for once, and kept beside the profile, so that no network is needed then."""
    from fallow.verticals.storage.client.granting import Signing  # noqa: PLC0415 - heavy

    path = profiles.profile_path().with_name("storage-signing.json")
    try:
        kept = json_.loads(path.read_text("ascii"))
        if profile.api_key.startswith(f"fk_{kept['key_id']}_") and kept["url"] == profile.url:
            return Signing(kept["key_id"], kept["secret"])
    except (OSError, ValueError, KeyError, TypeError):
        pass  # none, or of a form that nobody writes any more: the network has it
    with profiles.client_of(profile) as client:
        signing = client.signing_secret()
    kept = {"url": profile.url, "key_id": signing.access_key, "secret": signing.secret}
    profiles.write_private(json_.dumps(kept), path)
    return Signing(signing.access_key, signing.secret)


def _show(grant: Grant, *, as_json: bool, is_new: bool) -> None:
    limits, name = grant.limits, grant.share.name.decode(errors="replace")
    if as_json:
        show_json(
            {
                "grant": grant.text,
                "id": grant.id.hex(),
                "bucket": grant.share.bucket,
                "name": name,
                "exact": grant.share.exact,
                "allow": list(limits.allow),
                "from_ms": limits.from_ms,
                "until_ms": limits.until_ms,
                "url": grant.url,
            }
        )
        return
    kind = "the object" if grant.share.exact else "all below"
    ends = f"until {when(limits.until_ms)} UTC" if limits.until_ms is not None else "until it is revoked"
    begins = f"from {when(limits.from_ms)} UTC on, " if limits.from_ms else ""
    words = f"Allows to {', '.join(limits.allow)} {kind} {Remote(grant.share.bucket, name)} {begins}{ends}."
    if is_new:
        say(grant.text)
        tell(clean(words))
        tell(f"Whoever has it has that. To end it: fallow storage revoke {grant.id.hex()}")
    else:
        say(clean(words))
        say(f"It holds at {clean(grant.url)}; its id is {grant.id.hex()}.")
