"""API keys and join tokens as texts."""

from __future__ import annotations

import hashlib

import pytest

from fallow.domain.api_keys import new_key, read_key
from fallow.domain.errors import NotAllowed
from fallow.services.registry.secrets_format import new_token, token_digest


def test_a_key_is_read_as_it_was_made() -> None:
    key = new_key(bytes(5), bytes(range(20)))
    assert key.text == "fk_aaaaaaaa_aaaqeayeaudaocajbifqydiob4ibceqt"
    assert read_key(key.text) == key
    assert key.digest == hashlib.sha256(key.text.encode()).digest()


def test_the_public_part_says_nothing_of_the_secret() -> None:
    assert new_key(bytes(5), b"a" * 20).key_id == new_key(bytes(5), b"b" * 20).key_id
    assert new_key(bytes(5), b"a" * 20).digest != new_key(bytes(5), b"b" * 20).digest


def test_a_token_is_no_key() -> None:
    token = new_token(bytes(20))
    assert token.text == "fj_" + "a" * 32
    assert token_digest(token.text) == hashlib.sha256(token.text.encode()).digest()
    with pytest.raises(NotAllowed):
        read_key(token.text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "fk",
        "fk_",
        "fk__",
        "fk_aaaaaaaa",
        "fk_aaaaaaaa_aaaqeayeaudaocajbifqydiob4ibceqt_x",
        "fj_aaaaaaaa_aaaqeayeaudaocajbifqydiob4ibceqt",
        "fk_aaaaaaa\0_aaaqeayeaudaocajbifqydiob4ibceqt",
        "fk_aaaaaaaa_aaaqeayeaudaocajbifqydiob4ibceqt\n",
        "fk_aaaaaaaa_aaaqeayeaudaocajbifqydiob4ibceq\u00e9",
        "fk_" + "a" * 10_000 + "_" + "a" * 32,
        "Bearer fk_aaaaaaaa_aaaqeayeaudaocajbifqydiob4ibceqt",
    ],
)
def test_what_does_not_look_like_a_key_is_refused(text: str) -> None:
    with pytest.raises(NotAllowed) as caught:
        read_key(text)
    assert caught.value.code == "auth.key"
