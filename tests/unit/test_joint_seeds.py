"""Seeds that the operator and validators make together."""

from __future__ import annotations

import pytest
from coincurve import PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from fallow.domain.draws import seed_of
from fallow.domain.epochs.seeds import Pledge, joint_seed
from fallow.domain.errors import InvalidInput
from fallow.domain.wallets import address_of

NET, OPERATOR = "test", seed_of(b"secret", 5)
KEYS = [PrivateKey(bytes([n]) * 32) for n in range(1, 5)]
ADDRESSES = [address_of(key) for key in KEYS]
PARTS = [bytes([n]) * 32 for n in range(1, 5)]
PLEDGES = [Pledge.make(key, address, NET, 5, part) for key, address, part in zip(KEYS, ADDRESSES, PARTS, strict=True)]
SHOWN = dict(zip(ADDRESSES, PARTS, strict=True))


def test_without_validators_it_is_the_operators_seed() -> None:
    assert joint_seed(OPERATOR, NET, [], [], {}) == (OPERATOR.value, {}, ())


@given(st.permutations(PLEDGES), st.sets(st.sampled_from(ADDRESSES)))
def test_every_part_changes_it_and_no_order_does(pledges: list[Pledge], shown: set[bytes]) -> None:
    joint = joint_seed(OPERATOR, NET, ADDRESSES, pledges, {who: SHOWN[who] for who in shown})
    assert set(joint.parts) == shown
    assert joint.silent == tuple(sorted(set(ADDRESSES) - shown))
    everything = joint_seed(OPERATOR, NET, ADDRESSES, PLEDGES, SHOWN)
    assert (joint.value == everything.value) == (len(shown) == 4)
    assert joint_seed(seed_of(b"another", 5), NET, ADDRESSES, pledges, SHOWN).value != everything.value


def test_a_part_that_fits_no_pledge_does_not_count() -> None:
    joint = joint_seed(OPERATOR, NET, ADDRESSES, PLEDGES, SHOWN | {ADDRESSES[0]: bytes(32)})
    assert joint.silent == (ADDRESSES[0],)
    assert joint == joint_seed(OPERATOR, NET, ADDRESSES, PLEDGES, {who: SHOWN[who] for who in ADDRESSES[1:]})


def test_who_copies_anothers_commitment_cannot_open_it() -> None:
    """The copy is over a commitment that holds for the other validator alone."""
    copied = Pledge.make(KEYS[1], ADDRESSES[0], NET, 5, PARTS[0])
    assert copied.commitment == PLEDGES[0].commitment
    assert copied.signer == ADDRESSES[1]
    joint = joint_seed(OPERATOR, NET, ADDRESSES, [PLEDGES[0], copied], SHOWN | {ADDRESSES[1]: PARTS[0]})
    assert joint.silent == (ADDRESSES[1],)


def test_two_pledges_of_one_validator_are_refused() -> None:
    with pytest.raises(InvalidInput, match="two parts"):
        joint_seed(OPERATOR, NET, ADDRESSES, [*PLEDGES, Pledge.make(KEYS[0], ADDRESSES[0], NET, 5, bytes(32))], SHOWN)


@pytest.mark.parametrize(("net", "number"), [("other", 5), (NET, 6)])
def test_a_pledge_for_something_else_is_refused(net: str, number: int) -> None:
    with pytest.raises(InvalidInput, match="does not belong"):
        joint_seed(OPERATOR, NET, ADDRESSES, [Pledge.make(KEYS[0], ADDRESSES[0], net, number, PARTS[0])], SHOWN)


def test_a_stranger_has_no_part_in_it() -> None:
    with pytest.raises(InvalidInput, match="does not belong"):
        joint_seed(OPERATOR, NET, ADDRESSES[1:], PLEDGES, SHOWN)


def test_a_pledge_survives_its_bytes_and_no_change() -> None:
    data = PLEDGES[0].encode()
    assert Pledge.decode(data) == PLEDGES[0]
    with pytest.raises(InvalidInput):
        Pledge.decode(data + b"\0")
    with pytest.raises(InvalidInput, match="32 bytes"):
        Pledge.make(KEYS[0], ADDRESSES[0], NET, 5, b"short")
