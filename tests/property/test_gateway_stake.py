"""Stake behind a gateway is taken for what it signed beyond a limit, and for nothing that an honest one ever signs."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest
from coincurve import PrivateKey
from hypothesis import given
from hypothesis import strategies as st
from nacl.signing import SigningKey

from fallow.domain.epochs.offences import OVERSTATED, Offence, of_gateways
from fallow.domain.errors import InvalidInput
from fallow.domain.gateway_facts import GatewayOverstated
from fallow.domain.vouching import read_vouch
from fallow.domain.wallets import address_of
from fallow.verticals.storage.client.pieces import Mover
from fallow.verticals.storage.plugin import VERTICAL
from tests.epoch_files import NET, NETWORK_KEY
from tests.epoch_world import filed
from tests.gateway_stake import FROM_MS, GATEWAY, KEY, OWNER, UNTIL_MS, limit, overstated, vouched

STRANGER = SigningKey(b"s" * 32)
SIZES = st.integers(0, 1 << 40)
outside: Any = None
"""What moves bytes: nothing is moved here."""


def found(*bodies: GatewayOverstated, node: bytes = NETWORK_KEY) -> list[Offence]:
    records = [filed(node, body, place) for place, body in enumerate(bodies)]
    return of_gateways(records, NET, NETWORK_KEY, {"storage": VERTICAL.limit_made})


@given(allowed=SIZES, asked=SIZES)
def test_whatever_a_gateway_is_made_to_order_its_client_signs_nothing_that_convicts(allowed: int, asked: int) -> None:
    mover = Mover(NET, NETWORK_KEY, KEY, lambda data: GATEWAY.sign(data).signature, outside, outside, outside)
    try:
        order = mover.order(limit(allowed), asked)
    except InvalidInput:
        assert asked > allowed
        return
    assert order == sealed_order(asked)
    assert found(overstated(limit(allowed), asked)) == []


@given(allowed=SIZES)
def test_one_byte_beyond_convicts_and_the_last_one_within_does_not(allowed: int) -> None:
    assert found(overstated(limit(allowed), allowed)) == []
    evidence = hashlib.sha256(sealed_order(allowed + 1)).digest()
    assert found(overstated(limit(allowed), allowed + 1)) == [Offence(address_of(OWNER), OVERSTATED, evidence)]


@given(made=st.integers(0, 2 * UNTIL_MS))
def test_who_stands_for_it_does_so_for_the_time_that_he_signed(made: int) -> None:
    assert bool(found(overstated(limit(5, made_ms=made), 6))) == (FROM_MS <= made < UNTIL_MS)


@pytest.mark.parametrize(
    "body",
    [
        overstated(limit(5), 6, vouched(by=PrivateKey(b"\x0f" * 32))),
        overstated(limit(5), 6, vouched(net="lab-2")),
        overstated(limit(5), 6, vouched(key=bytes(STRANGER.verify_key))),
        overstated(limit(5), 6, network=STRANGER),
        overstated(limit(5), 6, by=STRANGER),
        overstated(limit(5), 6, serial=b"x" * 16),
        overstated(limit(5, net="lab-2"), 6),
        overstated(limit(5, client=bytes(STRANGER.verify_key)), 6, by=STRANGER),
    ],
    ids=["owner", "owners net", "gateway", "network", "order", "serial", "net", "client"],
)
def test_what_others_signed_or_for_another_convicts_nobody(body: GatewayOverstated) -> None:
    assert found(overstated(limit(5), 6)), "all the rest is as it should be"
    assert found(body) == []


def test_it_is_slashed_once_an_epoch_and_the_same_order_once_for_all() -> None:
    first, second = overstated(limit(5), 6), overstated(limit(5), 7)
    assert found(first, second) == found(first)
    assert [one.id for one in found(first)] == [one.id for one in found(first, first)]
    assert found(first, node=KEY) == [], "the network files it"


def test_a_word_is_read_as_it_was_written_and_for_no_other_gateway() -> None:
    word = vouched().written()
    assert read_vouch(word, NET, KEY) == vouched()
    later = word.replace(str(UNTIL_MS), str(UNTIL_MS + 1))
    for net, key, said in [(NET, bytes(32), word), ("lab-2", KEY, word), (NET, KEY, later)]:
        with pytest.raises(InvalidInput, match=r"gateway\.signature"):
            read_vouch(said, net, key)
    for said in ("", "storage", word.replace(":1000:", ":x:"), word.replace(":1000:", ":99999:")):
        with pytest.raises(InvalidInput, match=r"gateway\.word"):
            read_vouch(said, NET, KEY)


def sealed_order(size: int) -> bytes:
    return overstated(limit(0), size).order
