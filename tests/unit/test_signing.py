"""A signature says one thing: the same bytes under another tag are nothing."""

from __future__ import annotations

from typing import ClassVar

import pytest
from nacl.signing import SigningKey

from fallow.domain.batches import Promise
from fallow.domain.encoding import decode, encode
from fallow.domain.errors import FallowError, InvalidInput, NotAllowed
from fallow.domain.signing import Signed, signed_message
from fallow.domain.tickets import Ticket

KEY = SigningKey(bytes(32))
PUBLIC = bytes(KEY.verify_key)


class One(Signed, frozen=True, kw_only=True):
    """Something that is signed."""

    tag: ClassVar[str] = "test/one/1"
    value: int
    data: bytes = b""


class Other(Signed, frozen=True, kw_only=True):
    """Something else with the same fields."""

    tag: ClassVar[str] = "test/other/1"
    value: int
    data: bytes = b""


def sign(message: bytes) -> bytes:
    return KEY.sign(message).signature


def test_what_was_sealed_is_opened() -> None:
    assert One.open(One(value=7, data=b"x").seal(sign), PUBLIC) == One(value=7, data=b"x")


def test_one_thing_does_not_open_as_another() -> None:
    with pytest.raises(NotAllowed) as caught:
        Other.open(One(value=7).seal(sign), PUBLIC)
    assert caught.value.code == "signing.signature"


def test_a_promise_never_opens_as_a_ticket_nor_the_other_way_round() -> None:
    promise = Promise(net="n", epoch=1, node=PUBLIC, boot=1, seq=0, count=1, root=bytes(32), at=0).seal(sign)
    ticket = Ticket(
        net="n", node=PUBLIC, lease=bytes(16), owner=bytes(20), reads=[], write_bytes_max=0, expires_at=0
    ).seal(sign)
    with pytest.raises(NotAllowed):
        Ticket.open(promise, PUBLIC)
    with pytest.raises(NotAllowed):
        Promise.open(ticket, PUBLIC)


def test_tags_do_not_run_into_the_data() -> None:
    assert signed_message("a", b"bc") != signed_message("ab", b"c")


def test_another_key_opens_nothing() -> None:
    with pytest.raises(NotAllowed):
        One.open(One(value=7).seal(sign), bytes(SigningKey(b"1" * 32).verify_key))


def test_a_byte_that_was_changed_anywhere_is_noticed() -> None:
    data = One(value=7, data=b"payload").seal(sign)
    for at in range(len(data)):
        with pytest.raises(FallowError):
            One.open(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :], PUBLIC)


@pytest.mark.parametrize("value", [[], [b""], [b"", b"", b""], {"a": b""}, [b"", ""], 1, None, b""])
def test_other_envelopes_are_refused(value: object) -> None:
    with pytest.raises(InvalidInput) as caught:
        One.open(encode(value), PUBLIC)
    assert caught.value.code == "signing.malformed"


@pytest.mark.parametrize("body", [{"value": "7"}, {"value": 7, "more": 1}, {}, [7], {"value": True}])
def test_a_signed_body_of_another_form_is_refused(body: object) -> None:
    data = encode(body)
    with pytest.raises(InvalidInput) as caught:
        One.open(encode([data, sign(signed_message(One.tag, data))]), PUBLIC)
    assert caught.value.code == "signing.body"


def test_the_signature_covers_exactly_the_bytes_of_the_body() -> None:
    body, signature = decode(One(value=7).seal(sign))
    assert KEY.verify_key.verify(b"test/one/1\0" + body, signature)
