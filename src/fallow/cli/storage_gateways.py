"""`fallow storage gateways` and `vouch`: who stands with his stake for the network's own S3 gateway."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

import msgspec
from cyclopts import Parameter

from fallow.cli import profiles
from fallow.cli.account_key import KeyFile, default_file
from fallow.cli.show import Json, say, show_json, table, tell
from fallow.cli.units import seconds, tokens, when
from fallow.domain.errors import InvalidInput, NotFound
from fallow.domain.gateway_facts import GatewayVouched
from fallow.domain.identity import address_text
from fallow.sdk.sync import Client
from fallow.verticals.storage.core.hosted import GatewayView, GetGateways
from fallow.verticals.storage.core.tariff import VERTICAL

MS = 1000
ALONE = "nobody: the operator's word alone"
KEY_HEX = 64


def gateways(*, json: Json = False) -> None:
    """Show by which key the network's own S3 gateway signs what you read through it, and whose stake stands for that.

    For an order beyond its limit a part of that stake is taken.
    """
    with profiles.connect() as client:
        found = _listed(client)
    if json:
        show_json([{**msgspec.structs.asdict(one), "key": one.key.hex()} for one in found])
        return
    rows = [
        (
            one.key.hex(),
            one.owner or ALONE,
            when(one.until_ms) if one.owner else "",
            tokens(int(one.staked_units)) if one.staked_units else "not known",
            tokens(int(one.least_units)),
        )
        for one in found
    ]
    table(["KEY", "WHO STANDS FOR IT", "UNTIL (UTC)", ">TOKENS AT STAKE", ">AT LEAST"], rows, empty="There is none.")


def vouch(
    gateway: str,
    /,
    *,
    valid: Annotated[str, Parameter(help="How long your word holds, from now on: 90d.")] = "365d",
    key: KeyFile = None,
    json: Json = False,
) -> None:
    """Sign that your stake stands for a gateway, by its key (`fallow storage gateways`), and show what was signed.

    You then answer for whoever runs it: 5 % of your pool are taken for an order beyond its limit. Only a gateway that
    the network lists can be meant.
    """
    from fallow.bootstrap.account_key import account_signer, signed_text  # noqa: PLC0415 - not installed with every part
    from fallow.domain.vouching import vouch_text  # noqa: PLC0415 - the same

    path, of, ms = key or default_file(), _key(gateway), seconds(valid) * MS
    if not ms:
        raise InvalidInput("gateway.valid", "A word that holds for no time stands for nothing.", "Write --valid 90d.")
    owner, now = account_signer(path).address, int(datetime.now(UTC).timestamp() * MS)
    with profiles.connect() as client:
        network = client.network()
        if network.contracts is None:
            hint = "Networks of the preset public have one."
            raise NotFound("wallet.no_chain", f"{network.net} has no chain, and so nobody has a stake there.", hint)
        if of not in {one.key for one in _listed(client)}:
            raise NotFound("gateway.unknown", f"{network.net} has no gateway with this key.", "fallow storage gateways")
    text = vouch_text(network.net, VERTICAL, of, owner, now, now + ms)
    signature = signed_text(path, text)
    word = GatewayVouched(
        vertical=VERTICAL, key=of, owner=owner, from_ms=now, until_ms=now + ms, signature=signature
    ).written()
    if json:
        show_json({"word": word, "owner": address_text(owner), "until_ms": now + ms})
        return
    tell(text)
    say(word)
    tell(f"Until {when(now + ms)} (UTC) what is at stake with {address_text(owner)} stands for this gateway, once its")
    tell('operator has this word in his settings: gateway_words = "…". It cannot be taken back before.')


def _listed(client: Client) -> list[GatewayView]:
    """What the network says of its gateways."""
    asked = msgspec.msgpack.encode(GetGateways(account=""))
    answer = client.ask_vertical(VERTICAL, GetGateways.name, asked, again=True)
    return msgspec.msgpack.decode(answer, type=list[GatewayView])


def _key(text: str) -> bytes:
    if len(text) != KEY_HEX or set(text) - set("0123456789abcdef"):
        raise InvalidInput(
            "gateway.key", f"{text[:KEY_HEX]!r} is no gateway's key: 64 hex digits.", "fallow storage gateways"
        )
    return bytes.fromhex(text)
