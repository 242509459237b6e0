"""`fallow storage`: objects on spare disks."""

from __future__ import annotations

import hashlib
import secrets
from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter

from fallow.cli import profiles, storage_profiles
from fallow.cli.show import Json, clean, say, say_s3, show_json, table, tell
from fallow.cli.storage_check import check
from fallow.cli.storage_gateways import gateways, vouch
from fallow.cli.storage_grants import GrantOption, grant_command, revoke, share
from fallow.cli.storage_link import link
from fallow.cli.storage_place import SCHEME, remote
from fallow.cli.storage_secret import keep_secret, kit_from, kit_text, load_secret, secret_path
from fallow.cli.storage_usage import usage
from fallow.cli.units import when
from fallow.domain.errors import InvalidInput, NotFound
from fallow.sdk.storage_grants import load_grant
from fallow.verticals.storage.core.countries import read_countries
from fallow.verticals.storage.core.kit import SECRET_BYTES, write_kit

app = App(name="storage", help="Store objects on spare disks.")
app.command(usage)
app.command(check)
app.command(gateways)
app.command(vouch)
app.command(share)
app.command(grant_command, name="grant")
app.command(revoke)
app.command(link)
app.command(storage_profiles.profiles)

VERTICAL = "storage"
ROLE = "s3"
OPEN = "fallow subscription open storage --limit 0.05"


@app.command
def key(*, json: Json = False) -> None:
    """Show where S3 clients find this network, and what they sign with: both follow from your API key."""
    profile = profiles.load()
    with profiles.client_of(profile) as client:
        endpoint = client.network().gateways.get(ROLE, "")
        if not endpoint:
            raise NotFound("storage.no_gateway", "This network has no S3 gateway.")
        signing = client.signing_secret()
        open_ = [one for one in client.subscriptions() if one.vertical == VERTICAL and one.state != "ended"]
    ca = _ca_file(profile)
    if json:
        show_json({"endpoint": endpoint, "access_key": signing.access_key, "secret_key": signing.secret, "ca": ca})
    else:
        say_s3(endpoint, signing.access_key, signing.secret, ca)
    if not open_:
        tell(f"Your account has no subscription to storage yet; nothing can be stored before: {OPEN}")


Below = Annotated[bool, Parameter(name=("--recursive", "-r"), negative=(), help="All that lies below.")]


@app.command
def init(
    *,
    recover: Annotated[
        str, Parameter(allow_leading_hyphen=True, help="File that holds a recovery kit, or - to type it.")
    ] = "",
    json: Json = False,
) -> None:
    """Draw the secret that seals your objects on this machine, and print its recovery kit. It is sent to nobody."""
    url = profiles.load().url
    keep_secret(kit_from(recover) if recover else secrets.token_bytes(SECRET_BYTES))
    _show_kit(url, as_json=json)


@app.command
def kit(*, json: Json = False) -> None:
    """Print the recovery kit of the secret that is here."""
    _show_kit(profiles.load().url, as_json=json)


@app.command
def mb(
    bucket: str,
    /,
    *,
    country: Annotated[
        list[str] | None, Parameter(negative="", help="Where its pieces may lie (such as DE, or EU); may be repeated.")
    ] = None,
    profile: Annotated[
        str, Parameter(help="How it is coded: see `fallow storage profiles`. [by how many machines there are]")
    ] = "",
    json: Json = False,
) -> None:
    """Make a bucket that is sealed under your own secret."""
    from fallow.cli import storage_files as files  # noqa: PLC0415 - heavy, and not needed for the help

    name, where = remote(bucket).bucket, read_countries(country or ())
    made = files.run(
        lambda own: own.store.make_bucket(own.account, name, settings={}, countries=where, profile=profile)
    )
    if json:
        show_json({"bucket": made.name, "made_ms": made.made_ms, "countries": made.countries})
    else:
        say(f"The bucket {made.name} is made.")


@app.command
def rb(bucket: str, /, *, json: Json = False) -> None:
    """Drop a bucket that is empty."""
    from fallow.cli import storage_files as files  # noqa: PLC0415 - heavy, and not needed for the help

    name = remote(bucket).bucket
    files.run(lambda own: own.store.drop_bucket(own.account, name))
    show_json({"bucket": name}) if json else say(f"The bucket {name} is dropped.")


@app.command
def ls(at: str = "", /, *, recursive: Below = False, grant: GrantOption = "", json: Json = False) -> None:
    """List your buckets, or what is in fallow://BUCKET/BEGINNING."""
    from fallow.cli import storage_files as files  # noqa: PLC0415 - heavy, and not needed for the help

    given = load_grant(grant)
    if given is not None and not at:
        at = f"{given.share.bucket}/{given.share.name.decode(errors='replace')}"
    if not at:
        buckets = files.run(lambda own: own.store.buckets(own.account))
        if json:
            show_json([{"bucket": one.name, "made_ms": one.made_ms, "countries": one.countries} for one in buckets])
        else:
            made = [(one.name, when(one.made_ms), " ".join(one.countries)) for one in buckets]
            table(
                ["BUCKET", "MADE (UTC)", "PIECES IN"], made, empty="You have none. To make one: fallow storage mb NAME"
            )
        return
    place = remote(at)
    folders, entries = files.run(lambda own: files.listed(own, place, below=recursive), given)
    if json:
        show_json({"folders": folders, "objects": [files.entry_document(one) for one in entries]})
        return
    rows = [(folder, "", "") for folder in folders]
    rows += [(one.key, str(one.size), when(one.made_ms)) for one in entries]
    table(["NAME", ">BYTES", "STORED (UTC)"], rows, empty="There is nothing.")


@app.command
def cp(source: str, target: str, /, *, recursive: Below = False, grant: GrantOption = "", json: Json = False) -> None:
    """Copy a file to fallow://BUCKET/NAME, or an object to a file; what was broken off goes on where it was.

    With -r, files that are there already, byte for byte, are not copied again.
    """
    from fallow.cli import storage_files as files  # noqa: PLC0415 - heavy, and not needed for the help

    up, down = target.startswith(SCHEME), source.startswith(SCHEME)
    if up == down:
        hint = f"fallow storage cp FILE {SCHEME}BUCKET/NAME, or the other way round"
        raise InvalidInput("storage.copy", "One of both is a path here, the other one in a bucket.", hint)
    given = load_grant(grant)
    if up:
        here, there = Path(source).expanduser(), remote(target)
        copied = files.run(lambda own: files.copy_up(own, here, there, below=recursive), given)
    else:
        here, there = Path(target).expanduser(), remote(source)
        copied = files.run(lambda own: files.copy_down(own, there, here, below=recursive), given)
    if json:
        show_json([one._asdict() for one in copied])
    else:
        for one in copied:
            say(f"{clean(one.source)} -> {clean(one.target)}{'' if one.moved else ' (there already)'}")


@app.command
def rm(
    at: str,
    /,
    *,
    recursive: Below = False,
    purge: Annotated[
        bool,
        Parameter(
            negative=(),
            help="All versions at once, past the trash that keeps them for 7 days; says what nobody can prove of it.",
        ),
    ] = False,
    grant: GrantOption = "",
    json: Json = False,
) -> int:
    """Delete an object, or with -r all whose names begin so. The exit code is 1 where --purge had to leave some."""
    from fallow.cli import storage_files as files  # noqa: PLC0415 - heavy, and not needed for the help
    from fallow.cli.storage_purge import remove_at_once  # noqa: PLC0415 - the same

    place, given = remote(at), load_grant(grant)
    if purge:
        return remove_at_once(place, given, below=recursive, as_json=json)
    names = files.run(lambda own: files.remove(own, place, below=recursive), given)
    if json:
        show_json(names)
    else:
        for name in names:
            say(f"{clean(name)} is deleted.")
        if not names:
            say(f"There is nothing to delete at {clean(str(place))}.")
    return 0


def _ca_file(profile: profiles.Profile) -> str:
    """Write the network's own authority where S3 clients can read it, beside the profile; "": it has none."""
    if not profile.ca:
        return ""
    path = profiles.profile_path().with_name(f"ca-{hashlib.sha256(profile.ca.encode()).hexdigest()[:16]}.pem")
    profiles.write_private(profile.ca, path)
    return str(path)


def _show_kit(url: str, *, as_json: bool) -> None:
    secret = load_secret()
    if as_json:
        show_json({"kit": write_kit(secret), "path": str(secret_path())})
    else:
        say(kit_text(secret, url))
