"""Custodial accounts: Ethereum's addresses and signatures, from one seed."""

from __future__ import annotations

import pytest
from coincurve import PrivateKey

from fallow.domain.bindings import binding_text
from fallow.domain.errors import InvalidInput
from fallow.domain.wallets import CURVE_ORDER, address_of, signer_of
from fallow.services.registry.custody import Custody

# The example that Ethereum's libraries share.
PRIVATE = bytes.fromhex("4c0883a69102937d6231471b5dbb6204fe5129617082792ae468d01a3f362318")
ADDRESS = bytes.fromhex("2c7536e3605d9c16a7a3d7b1898e529396a65c23")
TEXT = "Some data"
SIGNATURE = bytes.fromhex(
    "b91467e570a6466aa9e9876cbcd013baba02900b8979d43fe208a4a4f339f5fd"
    "6007e74cd82e037b800186422fc2da167c747ef045e5d18a5f5d4300f8e1a029"
    "1c"
)


def test_a_known_address() -> None:
    assert address_of(PrivateKey(PRIVATE)) == ADDRESS


def test_a_known_signature() -> None:
    assert signer_of(TEXT, SIGNATURE) == ADDRESS


def test_what_custody_signs_is_found_to_be_its_account() -> None:
    custody = Custody(bytes(32))
    for index in (0, 1, 2**64 - 1):
        for text in ("", "x", "ü" * 1000):
            signature = custody.sign(index, text)
            assert len(signature) == 65
            assert signature[64] in {27, 28}
            assert signer_of(text, signature) == custody.address(index)


def test_the_same_seed_gives_the_same_accounts() -> None:
    """A backup of the seed is a backup of all: these must never change."""
    custody = Custody(bytes(range(32)))
    assert custody.address(0).hex() == "9005486e72ee79ac5fa9954068c9f57913942ea8"
    assert custody.address(1).hex() == "94db0d271b9e4e7a867519ad926d42ba2ae588ea"
    assert custody.sign(0, TEXT) == Custody(bytes(range(32))).sign(0, TEXT)


def test_accounts_differ_by_index_and_seed() -> None:
    addresses = {Custody(bytes([seed]) * 32).address(index) for seed in range(4) for index in range(4)}
    assert len(addresses) == 16


def test_another_text_has_another_signer() -> None:
    assert signer_of(TEXT + "!", SIGNATURE) != ADDRESS


@pytest.mark.parametrize("v", [0, 1, 26, 29, 255])
def test_a_wrong_v_is_refused(v: int) -> None:
    assert refused(SIGNATURE[:64] + bytes([v])) == "account.signature"


def test_the_other_v_is_another_signer() -> None:
    assert signer_of(TEXT, SIGNATURE[:64] + bytes([27])) != ADDRESS


@pytest.mark.parametrize(
    "signature",
    [
        b"",
        SIGNATURE[:64],
        SIGNATURE + b"\0",
        bytes(64) + b"\x1b",
        b"\xff" * 64 + b"\x1b",
        CURVE_ORDER.to_bytes(32, "big") + SIGNATURE[32:],
        SIGNATURE[:32] + CURVE_ORDER.to_bytes(32, "big") + b"\x1b",
        (5).to_bytes(32, "big") + SIGNATURE[32:],  # no point of the curve has this x
    ],
)
def test_what_is_no_signature_is_refused(signature: bytes) -> None:
    assert refused(signature) == "account.signature"


@pytest.mark.parametrize("length", [0, 31, 33])
def test_a_seed_has_32_bytes(length: int) -> None:
    with pytest.raises(InvalidInput) as caught:
        Custody(bytes(length))
    assert caught.value.code == "custody.seed"


def test_the_binding_names_network_node_and_account() -> None:
    text = binding_text("mine", bytes(32), ADDRESS)
    assert text == (
        f"Fallow network mine: node {'00' * 32} belongs to account 0x2c7536e3605d9c16a7a3d7b1898e529396a65c23."
    )


def refused(signature: bytes) -> str:
    with pytest.raises(InvalidInput) as caught:
        signer_of(TEXT, signature)
    return caught.value.code
