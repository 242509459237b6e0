"""Names of nodes and accounts, and Ed25519 signatures."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from fallow.domain.errors import InvalidInput
from fallow.domain.identity import address, address_text, node_id, verify

# RFC 8032, section 7.1, test 2
PUBLIC = bytes.fromhex("3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c")
SIGNATURE = bytes.fromhex(
    "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da"
    "085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00"
)
ORDER = 2**252 + 27742317777372353535851937790883648493


def test_a_known_signature_holds() -> None:
    assert verify(PUBLIC, b"\x72", SIGNATURE)


def test_others_do_not() -> None:
    assert not verify(PUBLIC, b"\x73", SIGNATURE)
    assert not verify(PUBLIC, b"\x72", SIGNATURE[:-1] + b"\x01")
    assert not verify(PUBLIC, b"\x72", SIGNATURE[:-1])
    assert not verify(PUBLIC, b"\x72", SIGNATURE + b"\0")
    assert not verify(PUBLIC[:-1], b"\x72", SIGNATURE)
    assert not verify(b"", b"\x72", SIGNATURE)


def test_a_second_form_of_a_signature_does_not_hold() -> None:
    """S + L verifies in careless implementations: two signatures for one message."""
    s = int.from_bytes(SIGNATURE[32:], "little") + ORDER
    assert not verify(PUBLIC, b"\x72", SIGNATURE[:32] + s.to_bytes(32, "little"))


def test_keys_of_small_order_sign_nothing() -> None:
    for key in (bytes(32), b"\1" + bytes(31)):
        assert not verify(key, b"anything", bytes(64))
        assert not verify(key, b"anything", b"\1" + bytes(63))


def test_texts_and_back() -> None:
    assert node_id(PUBLIC.hex()) == PUBLIC
    text = "0x2c7536e3605d9c16a7a3d7b1898e529396a65c23"
    assert address_text(address(text)) == text


@pytest.mark.parametrize(
    "text",
    ["", PUBLIC.hex()[:-2], PUBLIC.hex() + "00", PUBLIC.hex().upper(), PUBLIC.hex()[:-1] + "g", " " + PUBLIC.hex()],
)
def test_other_node_ids_are_refused(text: str) -> None:
    assert code(node_id, text) == "identity.malformed"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "0x",
        "2c7536e3605d9c16a7a3d7b1898e529396a65c23",
        "0X2c7536e3605d9c16a7a3d7b1898e529396a65c23",
        "0x2C7536E3605D9C16A7A3D7B1898E529396A65C23",
        "0x2c7536e3605d9c16a7a3d7b1898e529396a65c2",
        "0x2c7536e3605d9c16a7a3d7b1898e529396a65c23\n",
        "0x 2c7536e3605d9c16a7a3d7b1898e529396a65c23",
    ],
)
def test_other_addresses_are_refused(text: str) -> None:
    assert code(address, text) == "identity.malformed"


def code(read: Callable[[str], bytes], text: str) -> str:
    with pytest.raises(InvalidInput) as caught:
        read(text)
    return caught.value.code
