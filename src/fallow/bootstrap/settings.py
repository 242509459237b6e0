"""What an operator can set: a file, the environment, flags, in rising order of precedence.

The reference in docs/configuration.md is generated from this type.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from fallow.domain.errors import InvalidInput
from fallow.domain.fees import FeePpm

FILE = "fallow.toml"
CORE = ("registry", "ingest", "settle", "market", "epochs", "verticals")
"""The core roles."""

PUBLIC = "public"
"""The preset with a chain."""

EFFECTIVE = "effective-settings.json"
"""What `fallow up` runs with; other processes of the network begin with the same."""

PREFIX = "FALLOW_"

Port = Annotated[int, Meta(ge=0, le=65535)]
Ppm = Annotated[int, Meta(ge=0, le=1_000_000)]


def _doc(text: str) -> Meta:
    return Meta(description=text)


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Settings of one network's side, read by `fallow up` and `fallow serve`."""

    preset: Annotated[
        Literal["lab", "public"],
        _doc(
            "Kind of network. `lab`: test credits, no token, no chain. `public`: with an embedded EVM chain beside it."
        ),
    ] = "lab"
    host: Annotated[str, _doc("Address that the gateway and the bus listen on. Only loopback works without TLS.")] = (
        "127.0.0.1"
    )
    listen: Annotated[
        str,
        _doc(
            "`HOST:PORT` that other machines reach, with TLS by the network's own certificate authority; 0.0.0.0 or "
            "[::] is every address of this machine. Takes the place of `host` and `http_port`."
        ),
    ] = ""
    names: Annotated[
        str, _doc("Further DNS names or addresses that others reach the network by; the first one is shown to people.")
    ] = ""
    tls_cert: Annotated[
        str, _doc("Certificate file (PEM, with its chain) to use instead of the network's own authority.")
    ] = ""
    tls_key: Annotated[str, _doc("Its private key (PEM), where it is not in the same file.")] = ""
    proxies: Annotated[
        str,
        _doc(
            "Addresses or networks of reverse proxies in front of gateways, with spaces between; what these say of "
            "their clients' addresses (`X-Forwarded-For`) is believed. Empty: nobody's word is."
        ),
    ] = ""
    http_port: Annotated[Port, _doc("Port of the HTTP gateway; 0 takes a free one and keeps it.")] = 8420
    bus_port: Annotated[Port, _doc("Port of the message bus; 0 takes a free one and keeps it.")] = 8421
    gateway_ports: Annotated[
        str,
        _doc(
            "Ports of verticals' gateways, as `s3=8430`, with spaces between; for others a free one is taken and kept."
        ),
    ] = ""
    gateway_words: Annotated[
        str,
        _doc(
            "Words of those who stand with their stake for verticals' gateways, as `fallow storage vouch` prints them, "
            "with spaces between ([operators](operators.md#stake-behind-the-gateway)). Empty: nobody does."
        ),
    ] = ""
    gateway_stake_min: Annotated[
        Annotated[int, Meta(ge=0, le=1_000_000_000)],
        _doc(
            "Tokens that have to be at stake with who stands for a gateway; with fewer nothing goes through it. 0: it "
            "is let work without."
        ),
    ] = 0
    chain_port: Annotated[
        Port, _doc("Port of the embedded chain's JSON-RPC (preset `public`); 0 takes a free one and keeps it.")
    ] = 8422
    chain_rpc: Annotated[
        str,
        _doc(
            "JSON-RPC of an EVM chain to settle on (preset `public`), by `https` unless it is on this machine; nobody "
            "is shown it. Empty runs the embedded chain. See [operators](operators.md#settle-on-a-chain-of-others)."
        ),
    ] = ""
    chain_id: Annotated[
        Annotated[int, Meta(ge=0, le=(1 << 53) - 1)],
        _doc("Number (EIP-155) of that chain: nothing is signed for another."),
    ] = 0
    chain_depth: Annotated[
        Annotated[int, Meta(ge=1, le=10_000)], _doc("Blocks after which what happened on that chain counts as final.")
    ] = 12
    chain_settlement: Annotated[
        str,
        _doc(
            "Address of the asset there that backs paid credits: an ERC-20 worth a US dollar, with 6 decimals. `test` "
            "makes one that is play money."
        ),
    ] = ""
    chain_public_rpc: Annotated[
        str, _doc("JSON-RPC of that chain that members may use; empty leaves the choice to them.")
    ] = ""
    validators: Annotated[
        str,
        _doc(
            "Addresses of who signs roots, with commas, at most 31. Preset `public`: whom the contracts are made with, "
            "empty is the operator alone. Else: whose votes about the next epochs count."
        ),
    ] = ""
    activation_s: Annotated[
        Annotated[int, Meta(ge=0, le=30 * 86_400)],
        _doc("Seconds from a root's submission until claims count on it, when the contracts are made."),
    ] = 3600
    price_feeds: Annotated[
        str,
        _doc(
            "Addresses of who reports the token's price, with commas, at most 31. Fewer than a third of them may lie. "
            "Burned tokens become credits at their price; without feeds they wait."
        ),
    ] = ""
    price_age_s: Annotated[Annotated[int, Meta(ge=30, le=86_400)], _doc("Seconds that a feed's word counts.")] = 600
    price_jump_ppm: Annotated[
        Ppm, _doc("By how much, in millionths, the price may move at once before the operator has to look at it.")
    ] = 200_000
    bus_connections_max: Annotated[
        Annotated[int, Meta(ge=16, le=1_000_000)],
        _doc("Connections that the embedded bus takes, one a node; the limit of open files must be above it."),
    ] = 4096
    split_core: Annotated[bool, _doc("Run each core role in a process of its own, instead of all in one.")] = False
    postgres_url: Annotated[
        str, _doc("A PostgreSQL to use (`postgresql://...`); empty starts the embedded one in the data folder.")
    ] = ""
    backup_folder: Annotated[
        str,
        _doc(
            "Folder on another disk that the embedded PostgreSQL is backed up to, all the time: a copy a day, and all "
            "changes within a minute ([operators](operators.md#backups)). Empty: nowhere."
        ),
    ] = ""
    backup_days: Annotated[
        Annotated[int, Meta(ge=1, le=3650)], _doc("How many days back any time can be restored; older copies go.")
    ] = 14
    nats_url: Annotated[
        str,
        _doc(
            "A NATS server or cluster to use (`tls://HOST:4222`), set up with what `fallow serve nats-config` prints; "
            "empty starts the embedded one. Plain `nats://` only on this very machine."
        ),
    ] = ""
    nats_ca: Annotated[
        str, _doc("Certificate file (PEM) of the authority that vouches for it; empty asks the system's.")
    ] = ""
    engine_user: Annotated[
        str, _doc("User that embedded engines run as when started by root; empty takes `postgres`, else `nobody`.")
    ] = ""
    fee_ppm: Annotated[
        FeePpm,
        _doc(
            "The fee that a new network begins with, in millionths of what buyers pay; at most half. Its first start "
            "writes it down, later ones change nothing: `fallow price fee` does."
        ),
    ] = 100_000
    reserve_ppm: Annotated[Ppm, _doc("Part of that fee that goes to the reserve, in millionths; in the same way.")] = (
        200_000
    )
    checks_usd: Annotated[
        Annotated[int, Meta(ge=0, le=1_000_000)],
        _doc(
            "TEST credits for checks that their buyer's fees do not cover: a hundredth for one node, a tenth in a day. "
            "They are given at the first start; more later brings none."
        ),
    ] = 10
    roll_calls_a_day: Annotated[
        Annotated[int, Meta(ge=0, le=17_280)],
        _doc("How often a day a node that is free shows what it has, a second each, at drawn moments; 0: never."),
    ] = 24
    reserve_usd: Annotated[
        Annotated[int, Meta(ge=0, le=1_000_000)], _doc("TEST credits that the network's reserve starts with.")
    ] = 10
    blob_days: Annotated[
        Annotated[int, Meta(ge=1, le=3650)],
        _doc("Days that inputs and results are kept after their job has ended."),
    ] = 30
    window_s: Annotated[
        Annotated[int, Meta(ge=10, le=3600)], _doc("Length of a settlement window in seconds, at most an hour.")
    ] = 3600
    archive_url: Annotated[
        str,
        _doc(
            "Where epochs are archived: `s3://BUCKET/PREFIX` with keys and region in the environment as AWS's tools "
            "read them; empty keeps them in the data folder."
        ),
    ] = ""
    epoch_hours: Annotated[Annotated[int, Meta(ge=1, le=24 * 31)], _doc("Nominal length of an epoch in hours.")] = 24
    rewards: Annotated[
        str,
        _doc(
            "How incentives are given: `none`, `work_only`, `burn_and_mint`, or a TOML file with such a `model` and "
            "what is different from it ([operators](operators.md#choose-a-token-model)). Empty takes the preset's: "
            "`work_only` on `public`, else `none`. Statements pin it."
        ),
    ] = ""
    smtp_host: Annotated[
        str,
        _doc(
            "Mail server that members' alerts go through ([operators](operators.md#alerts-to-members)). Empty: none go "
            "by mail."
        ),
    ] = ""
    smtp_port: Annotated[Annotated[int, Meta(ge=1, le=65535)], _doc("Its port.")] = 587
    smtp_tls: Annotated[
        Literal["starttls", "tls", "none"],
        _doc("How the line to it is locked: `starttls`, `tls` from the first byte, `none` on this very machine alone."),
    ] = "starttls"
    smtp_from: Annotated[str, _doc("The address that these mails come from.")] = ""
    smtp_user: Annotated[str, _doc("Who signs in there; empty: nobody does.")] = ""
    smtp_secret: Annotated[str, _doc("File with the user's password, read for each mail.")] = ""
    alerts_anywhere: Annotated[
        bool,
        _doc(
            "Let members' webhooks lead into this machine's own networks, and be reached without TLS. Only where every "
            "member may reach what this machine reaches."
        ),
    ] = False
    test_credits_usd: Annotated[
        Annotated[int, Meta(ge=0, le=1_000_000)], _doc("TEST credits of the first buyer, in US dollars.")
    ] = 100


def load_settings(
    data: Path, environment: Mapping[str, str], flags: Mapping[str, object], *, beside: bool = False
) -> Settings:
    """Read `<data>/fallow.toml`, then FALLOW_* variables, then flags that are not None.

    `beside` a network that runs on `data`, what that one runs with takes the file's place.

    Raises:
        InvalidInput: an unknown name, or a value that does not fit; the message names it.
    """
    values: dict[str, Any] = {}
    effective = data / EFFECTIVE
    values.update(msgspec.json.decode(effective.read_bytes()) if beside and effective.exists() else _file(data / FILE))
    for name in Settings.__struct_fields__:
        if PREFIX + name.upper() in environment:
            values[name] = environment[PREFIX + name.upper()]
    values.update({name: value for name, value in flags.items() if value is not None})
    try:
        return msgspec.convert(values, Settings, strict=False)
    except msgspec.ValidationError as error:
        raise InvalidInput("settings.invalid", f"A setting is wrong: {error}.", "See docs/configuration.md.") from error


def _file(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text("utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InvalidInput("settings.file", f"{file} is not valid TOML: {error}.") from error


def reference() -> str:
    """Markdown table of all settings."""
    rows = ["| setting | variable | default | meaning |", "| --- | --- | --- | --- |"]
    for field in msgspec.inspect.type_info(Settings).fields:  # type: ignore[attr-defined]
        text = _description(field.type)
        default = msgspec.json.encode(field.default).decode()
        rows.append(f"| `{field.name}` | `{PREFIX}{field.name.upper()}` | `{default}` | {text} |")
    return "\n".join(rows) + "\n"


def _description(type_: Any) -> str:  # noqa: ANN401 - msgspec's own family of types
    extra = getattr(type_, "extra_json_schema", None) or {}
    return str(extra.get("description", ""))
