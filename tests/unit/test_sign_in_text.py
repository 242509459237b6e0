"""What a wallet signs to sign its holder in, against the standards' own examples."""

from __future__ import annotations

import pytest

from fallow.domain.wallets import checksum_address
from fallow.ports.sign_in_text import SignInText


@pytest.mark.parametrize(
    "shown",
    [
        "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed",
        "0xfB6916095ca1df60bB79Ce92cE3Ea74c37c5d359",
        "0xdbF03B407c01E7cD3CBea99509d93f8DDDC8C6FB",
        "0xD1220A0cf47c7B9Be7A2E6BA89F429762e7b9aDb",
        "0x52908400098527886E0F7030069857D2E4169EE7",
        "0xde709f2102306220921060314715629080e2fb77",
    ],
)
def test_addresses_are_shown_with_their_checksum(shown: str) -> None:
    """The examples of EIP-55."""
    assert checksum_address(bytes.fromhex(shown[2:])) == shown


def test_the_text_is_what_the_standard_says() -> None:
    """Its grammar (EIP-4361, "ABNF Message Format"), line by line."""
    account = bytes.fromhex("c02aaa39b223fe8d0a0e5c4f27ead9083c756cc2")
    text = SignInText("https", "fallow.example:8443", account, 31337, "32891756" * 4, asked_at=1_633_006_800_999)
    assert str(text).split("\n") == [
        "fallow.example:8443 wants you to sign in with your Ethereum account:",
        "0xC02aaA39b223FE8D0A0e5C4F27eAD9083C756Cc2",
        "",
        "Sign in to this Fallow network. It costs nothing, and moves no money.",
        "",
        "URI: https://fallow.example:8443",
        "Version: 1",
        "Chain ID: 31337",
        "Nonce: 32891756328917563289175632891756",
        "Issued At: 2021-09-30T13:00:00Z",
        "Expiration Time: 2021-09-30T13:10:00Z",
    ]
