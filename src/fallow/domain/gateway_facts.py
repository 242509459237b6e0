"""Who stands with his stake for a vertical's hosted gateway, and what such a gateway overstated, as records."""

from __future__ import annotations

from typing import Annotated, ClassVar, Final

from msgspec import Meta

from fallow.domain.chain_facts import Holder
from fallow.domain.errors import InvalidInput
from fallow.domain.identity import address, address_text
from fallow.domain.records import COUNT_MAX, Body, Count
from fallow.domain.wallets import signer_of

Key = Annotated[bytes, Meta(min_length=32, max_length=32)]
SIGNATURE_BYTES: Final = 65


class GatewayVouched(Body, frozen=True, kw_only=True):
    """The `owner` signed (`vouch_text`) that his stake stands for what the gateway with this key signs.

    It does for orders under limits that were made from `from_ms` on and before `until_ms`.
    """

    kind: ClassVar[str] = "gateway.vouched"
    version: ClassVar[int] = 1
    vertical: Annotated[str, Meta(pattern="^[a-z]{1,20}$")]
    key: Key
    owner: Holder
    from_ms: Count
    until_ms: Count
    signature: Annotated[bytes, Meta(min_length=SIGNATURE_BYTES, max_length=SIGNATURE_BYTES)]

    def check(self, net: str) -> None:
        """Make sure that the owner signed it for this network.

        Raises:
            InvalidInput: he did not (`gateway.signature`).
        """
        text = vouch_text(net, self.vertical, self.key, self.owner, self.from_ms, self.until_ms)
        if signer_of(text, self.signature) != self.owner:
            raise InvalidInput("gateway.signature", f"{address_text(self.owner)} did not sign this for this gateway.")

    def written(self) -> str:
        """Write it as one word, which a gateway's operator puts into his settings."""
        return f"{self.vertical}:{address_text(self.owner)}:{self.from_ms}:{self.until_ms}:{self.signature.hex()}"


class GatewayOverstated(GatewayVouched, frozen=True, kw_only=True):
    """A gateway signed an `order` beyond what its `limit` allows, and who stood for it. All signatures are in here."""

    kind: ClassVar[str] = "gateway.overstated"
    version: ClassVar[int] = 1
    limit: Annotated[bytes, Meta(max_length=1024)]
    order: Annotated[bytes, Meta(max_length=1024)]


GATEWAY_FACTS: tuple[type[Body], ...] = (GatewayVouched, GatewayOverstated)


def vouch_text(net: str, vertical: str, key: bytes, owner: bytes, from_ms: int, until_ms: int) -> str:
    """What an owner signs, as wallets show it."""
    return (
        f"The gateway {key.hex()} of {vertical} on the network {net}\n"
        f"What is at stake with {address_text(owner)} stands for what it signs.\n"
        f"From {from_ms} until {until_ms}, in milliseconds since 1970"
    )


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
    vouched.check(net)
    return vouched


def _malformed() -> InvalidInput:
    return InvalidInput(
        "gateway.word",
        "This is not the word of somebody who stands for a gateway.",
        "He makes it so: fallow storage vouch KEY",
    )
