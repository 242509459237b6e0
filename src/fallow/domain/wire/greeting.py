"""How a session begins or goes on: the server greets with a nonce, the client signs who it is and where it stands.

    server: Hello      client: Introduction      server: Welcome, or Refusal and the end

A node signs with its own key; anyone else with a key made for the session, which is what keeps others from resuming
it. Each message is one message of the link, MessagePack.
"""

from __future__ import annotations

from typing import ClassVar, Final

import msgspec

from fallow.domain.decoding import UNREADABLE
from fallow.domain.errors import KINDS, FallowError, InvalidInput, NotAllowed, Unavailable, kind_of
from fallow.domain.signing import Sign, Signed

NONCE_BYTES: Final = 32
SESSION_BYTES: Final = 16
MESSAGE_BYTES_MAX: Final = 4096


class Claim(Signed, frozen=True, kw_only=True):
    """What a client signs. `received` counts the frames that it has in this session; with `fresh` it has none yet."""

    tag: ClassVar[str] = "fallow/session/1"
    net: str
    nonce: bytes
    session: bytes
    node: bool
    fresh: bool
    received: int


class Hello(msgspec.Struct, frozen=True, tag="hello"):
    """The server's first word."""

    net: str
    nonce: bytes


class Proof(Signed, frozen=True, kw_only=True):
    """What a node that is dialled itself signs: that it is the one that answers this claim of this client."""

    tag: ClassVar[str] = "fallow/session-proof/1"
    net: str
    nonce: bytes
    session: bytes


class Introduction(msgspec.Struct, frozen=True, tag="introduction", omit_defaults=True):
    """Who the client is: its Ed25519 public key, and a sealed Claim.

    A node lets nobody in without a `ticket`; relays ask for one with each stream.
    """

    key: bytes
    claim: bytes
    ticket: bytes = b""


class Welcome(msgspec.Struct, frozen=True, tag="welcome", omit_defaults=True):
    """The session is on. Unless it is `resumed`, it is new and both sides forget what they had.

    `received` counts the frames that the server has. `proof` is a node's sealed Proof; relays show none.
    """

    resumed: bool
    received: int
    proof: bytes = b""


class Refusal(msgspec.Struct, frozen=True, tag="refusal"):
    """Why there is no session."""

    kind: str
    code: str
    message: str
    hint: str


Message = Hello | Introduction | Welcome | Refusal


def refusal(error: FallowError) -> Refusal:
    """Tell an error."""
    return Refusal(kind_of(error).__name__, error.code, error.message, error.hint)


def write(message: Message) -> bytes:
    """Encode one message."""
    return msgspec.msgpack.encode(message)


def read(data: bytes) -> Message:
    """Decode one message.

    Raises:
        InvalidInput: it is none (`wire.greeting`).
        FallowError: what a Refusal tells.
    """
    try:
        message: Message = msgspec.msgpack.decode(data[: MESSAGE_BYTES_MAX + 1], type=Message)
    except UNREADABLE as error:
        raise InvalidInput("wire.greeting", "The other side does not greet as a session begins.") from error
    if isinstance(message, Refusal):
        raise KINDS.get(message.kind, Unavailable)(message.code, message.message, message.hint)
    return message


def introduce(key: bytes, sign: Sign, claim: Claim, ticket: bytes = b"") -> Introduction:
    """Sign a claim."""
    return Introduction(key, claim.seal(sign), ticket)


def prove(claim: Claim, sign: Sign) -> bytes:
    """Sign that this node is the one that answers a claim."""
    return Proof(net=claim.net, nonce=claim.nonce, session=claim.session).seal(sign)


def check_proof(welcome: Welcome, claim: Claim, node: bytes) -> None:
    """Check that it is this node which answered a claim.

    Raises:
        InvalidInput: there is no proof.
        NotAllowed: it is another's, or for another claim (`wire.proof`).
    """
    proof = Proof.open(welcome.proof, node)
    if (proof.net, proof.nonce, proof.session) != (claim.net, claim.nonce, claim.session):
        raise NotAllowed("wire.proof", "The node's proof was made for somebody else.")


def open_claim(said: Introduction, hello: Hello) -> Claim:
    """Check an introduction against the greeting that it answers.

    Raises:
        InvalidInput: malformed.
        NotAllowed: signed by another key, or for another greeting (`wire.claim`).
    """
    claim = Claim.open(said.claim, said.key)
    if claim.net != hello.net or claim.nonce != hello.nonce:
        raise NotAllowed("wire.claim", "The session's claim was signed for another greeting.")
    if len(claim.session) != SESSION_BYTES or claim.received < 0:
        raise InvalidInput("wire.greeting", "The session's claim is malformed.")
    return claim
