"""How somebody signs that his stake stands for a hosted gateway. Apart from its records: agents know no wallets."""

from __future__ import annotations

from fallow.domain.errors import InvalidInput
from fallow.domain.gateway_facts import GatewayVouched
from fallow.domain.identity import address, address_text
from fallow.domain.records import COUNT_MAX
from fallow.domain.wallets import signer_of


def vouch_text(net: str, vertical: str, key: bytes, owner: bytes, from_ms: int, until_ms: int) -> str:
    """What an owner signs, as wallets show it."""
    return (
        f"The gateway {key.hex()} of {vertical} on the network {net}\n"
        f"What is at stake with {address_text(owner)} stands for what it signs.\n"
        f"From {from_ms} until {until_ms}, in milliseconds since 1970"
    )


def check_vouch(vouched: GatewayVouched, net: str) -> None:
    """Make sure that the owner signed it for this network.

    Raises:
        InvalidInput: he did not (`gateway.signature`).
    """
    text = vouch_text(net, vouched.vertical, vouched.key, vouched.owner, vouched.from_ms, vouched.until_ms)
    if signer_of(text, vouched.signature) != vouched.owner:
        raise InvalidInput("gateway.signature", f"{address_text(vouched.owner)} did not sign this for this gateway.")


def read_vouch(word: str, net: str, key: bytes) -> GatewayVouched:
    """Read what `written` wrote, for the gateway with this key.

    Raises:
        InvalidInput: it is malformed (`gateway.word`), or the owner did not sign it for this gateway and network.
    """
    try:
        vertical, owner, from_ms, until_ms, signature = word.split(":")
        vouched = GatewayVouched(
            vertical=vertical,
            key=key,
            owner=address(owner),
            from_ms=int(from_ms),
            until_ms=int(until_ms),
            signature=bytes.fromhex(signature),
        )
    except ValueError as error:
        raise _malformed() from error
    if not 0 <= vouched.from_ms < vouched.until_ms <= COUNT_MAX:
        raise _malformed()
    check_vouch(vouched, net)
    return vouched


def _malformed() -> InvalidInput:
    return InvalidInput(
        "gateway.word",
        "This is not the word of somebody who stands for a gateway.",
        "He makes it so: fallow storage vouch KEY",
    )
