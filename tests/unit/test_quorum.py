"""Votes by what the contracts say of them: their hash, their quorum, whose signatures they take."""

from __future__ import annotations

from functools import cache
from itertools import combinations

import pytest
from coincurve import PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from fallow.domain.epochs.quorum import (
    VALIDATORS_MAX,
    Domain,
    Root,
    Vote,
    equivocator,
    faulty_max,
    quorum_of,
    tally,
    wrong_signer,
)
from fallow.domain.errors import InvalidInput
from fallow.domain.wallets import CURVE_ORDER, address_of
from fallow.ports.evm import Reverted
from tests.contract_calls import EPOCH, Contracts, epoch_words, words

KEYS = sorted((PrivateKey(bytes([n]) * 32) for n in range(1, VALIDATORS_MAX + 1)), key=address_of)
ADDRESSES = [address_of(key) for key in KEYS]
CHAIN_ID, GUARDIAN, NOBODY = 31337, b"\x6a" * 20, b"\x01" * 20
ROOT = Root(1, 0, bytes(range(32)), 0, 0, bytes(range(32, 64)))
OTHER = ROOT._replace(root=bytes(32))


class _Deployed:
    """The validators' and the distributor's real bytecode."""

    def __init__(self, chain_id: int, count: int) -> None:
        self._evm = Contracts(chain_id)
        self.validators = self._evm.deploy("Validators", words(ADDRESSES[:count], NOBODY))
        self.distributor = self._evm.deploy(
            "Distributor", words(NOBODY, NOBODY, self.validators, GUARDIAN, 60, 0, NOBODY)
        )
        self.domain = Domain(chain_id, self.distributor)

    def quorum(self) -> int:
        return int.from_bytes(self._evm.call(self.validators, "quorum()"))

    def digest(self, root: Root) -> bytes:
        return self._evm.call(self.distributor, f"digestOf({EPOCH})", epoch_words(root))

    def submit(self, root: Root, signatures: list[bytes]) -> None:
        data = epoch_words(root) + (7 * 32).to_bytes(32) + words(signatures)[32:]
        self._evm.send(self.distributor, f"submit({EPOCH},bytes[])", data)

    def last_epoch(self) -> int:
        return int.from_bytes(self._evm.call(self.distributor, "lastEpoch()"))


@cache
def _on_chain(chain_id: int) -> _Deployed:
    return _Deployed(chain_id, 1)


@settings(deadline=None)
@given(
    st.builds(
        Root,
        st.integers(0, (1 << 64) - 1),
        st.integers(0, (1 << 64) - 1),
        st.binary(min_size=32, max_size=32),
        st.integers(0, (1 << 96) - 1),
        st.integers(0, (1 << 96) - 1),
        st.binary(min_size=32, max_size=32),
    ),
    st.sampled_from([1, CHAIN_ID, 1 << 40]),
)
def test_what_is_signed_is_what_the_contract_checks(root: Root, chain_id: int) -> None:
    deployed = _on_chain(chain_id)
    assert root.digest(deployed.domain) == deployed.digest(root)


@pytest.mark.parametrize("count", range(1, VALIDATORS_MAX + 1))
def test_a_quorum_is_the_contracts_and_two_of_them_share_an_honest_validator(count: int) -> None:
    needed, faulty = quorum_of(count), faulty_max(count)
    assert needed == _Deployed(CHAIN_ID, count).quorum()
    assert count > 3 * faulty
    assert 2 * needed - count > faulty, "two quorums share more validators than may be faulty"
    assert count - faulty >= needed, "those who are honest are enough"


@pytest.mark.parametrize("count", [0, VALIDATORS_MAX + 1])
def test_no_quorum_of_nobody_or_of_more_than_the_contract_takes(count: int) -> None:
    with pytest.raises(InvalidInput, match="1 to 31 validators"):
        quorum_of(count)


@pytest.mark.parametrize("count", [1, 3, 4, 7])
def test_the_contract_takes_a_decision_as_it_is_and_nothing_less(count: int) -> None:
    deployed, needed = _Deployed(CHAIN_ID, count), quorum_of(count)
    votes = [Vote.cast(key, deployed.domain, ROOT) for key in KEYS[:count]]
    too_few = tally(votes[: needed - 1], ADDRESSES[:count], deployed.domain, 1, 0)
    assert too_few.decision is None
    decision = tally(reversed(votes), ADDRESSES[:count], deployed.domain, 1, 0).decision
    assert decision is not None
    for wrong in (OTHER, ROOT._replace(token_total=1), ROOT._replace(epoch=2), ROOT._replace(archive=bytes(32))):
        with pytest.raises(Reverted):
            deployed.submit(wrong, list(decision.signatures))
    with pytest.raises(Reverted):
        deployed.submit(ROOT, list(decision.signatures[: needed - 1]))
    deployed.submit(decision.root, list(decision.signatures))
    assert deployed.last_epoch() == 1


def test_a_signature_holds_for_one_contract_on_one_chain() -> None:
    here = _Deployed(CHAIN_ID, 1)
    for domain in (Domain(CHAIN_ID + 1, here.distributor), Domain(CHAIN_ID, NOBODY), Domain.without_chain("lab-1")):
        vote = Vote.cast(KEYS[0], domain, ROOT)
        assert tally([vote], ADDRESSES[:1], here.domain, 1, 0) == (None, {}, {})
        with pytest.raises(Reverted):
            here.submit(ROOT, [vote.signature])
    assert Domain.without_chain("lab-1") != Domain.without_chain("lab-2")


def test_a_signature_in_its_other_form_is_refused_as_the_contract_refuses_it() -> None:
    here = _Deployed(CHAIN_ID, 1)
    signature = Vote.cast(KEYS[0], here.domain, ROOT).signature
    s = CURVE_ORDER - int.from_bytes(signature[32:64])
    twin = signature[:32] + s.to_bytes(32) + bytes([27 + 28 - signature[64]])
    with pytest.raises(Reverted):
        here.submit(ROOT, [twin])
    vote = _with_signature(here.domain, twin)
    assert tally([vote], ADDRESSES[:1], here.domain, 1, 0) == (None, {}, {})


def _with_signature(domain: Domain, signature: bytes) -> Vote:
    vote = Vote.cast(KEYS[0], domain, ROOT)
    return Vote(
        **{name: getattr(vote, name) for name in Vote.__struct_fields__ if name != "signature"}, signature=signature
    )


DOMAIN = Domain.without_chain("test")


@settings(deadline=None)
@given(st.data(), st.integers(1, VALIDATORS_MAX))
def test_no_minority_decides_or_stops_a_root(data: st.DataObject, count: int) -> None:
    """Up to f validators lie, equivocate, are silent, vote for others' epochs; what the honest sign is decided."""
    faulty = data.draw(st.sets(st.integers(0, count - 1), max_size=faulty_max(count)))
    votes = [Vote.cast(key, DOMAIN, ROOT) for place, key in enumerate(KEYS[:count]) if place not in faulty]
    for place in sorted(faulty):
        lies = data.draw(st.lists(st.sampled_from([OTHER, ROOT, ROOT._replace(epoch=2), ROOT._replace(revision=1)])))
        votes += [Vote.cast(KEYS[place], DOMAIN, lie) for lie in lies]
    found = tally(data.draw(st.permutations(votes)), ADDRESSES[:count], DOMAIN, 1, 0)
    assert found.decision is not None
    assert found.decision.root == ROOT
    assert set(found.equivocations) <= {ADDRESSES[place] for place in faulty}
    for guilty, (first, second) in found.equivocations.items():
        assert equivocator(Vote.decode(first.encode()), Vote.decode(second.encode())) == guilty


@settings(deadline=None)
@given(st.integers(1, 7), st.data())
def test_two_roots_are_never_both_decided_unless_more_than_f_sign_both(count: int, data: st.DataObject) -> None:
    for_one = data.draw(st.sets(st.integers(0, count - 1)))
    for_other = data.draw(st.sets(st.integers(0, count - 1)))
    enough = [len(signers) >= quorum_of(count) for signers in (for_one, for_other)]
    assert not all(enough) or len(for_one & for_other) > faulty_max(count)


def test_strangers_votes_and_broken_ones_count_nothing() -> None:
    stranger = Vote.cast(KEYS[4], DOMAIN, OTHER)
    broken = _with_signature(DOMAIN, bytes(64) + b"\x1b")
    found = tally([stranger, broken], ADDRESSES[:4], DOMAIN, 1, 0)
    assert found == (None, {}, {})


def test_evidence_shows_who_signed_two_roots_and_nothing_else() -> None:
    vote, lie = Vote.cast(KEYS[0], DOMAIN, ROOT), Vote.cast(KEYS[0], DOMAIN, OTHER)
    assert equivocator(vote, lie) == ADDRESSES[0]
    innocent = [
        (vote, vote),
        (vote, Vote.cast(KEYS[1], DOMAIN, OTHER)),
        (vote, Vote.cast(KEYS[0], DOMAIN, OTHER._replace(revision=1))),
        (vote, Vote.cast(KEYS[0], DOMAIN, OTHER._replace(epoch=2))),
        (vote, Vote.cast(KEYS[0], Domain.without_chain("elsewhere"), OTHER)),
    ]
    for first, second in innocent:
        with pytest.raises(InvalidInput, match="evidence"):
            equivocator(first, second)


def test_a_wrong_total_under_the_right_archive_is_evidence() -> None:
    for wrong in (ROOT._replace(settlement_total=1), ROOT._replace(token_total=1), OTHER):
        assert wrong_signer(Vote.cast(KEYS[0], DOMAIN, wrong), ROOT) == ADDRESSES[0]
    for innocent in (ROOT, OTHER._replace(archive=bytes(32)), OTHER._replace(epoch=2), OTHER._replace(revision=1)):
        with pytest.raises(InvalidInput, match="evidence"):
            wrong_signer(Vote.cast(KEYS[0], DOMAIN, innocent), ROOT)


@settings(deadline=None)
@given(st.integers(0, 300), st.integers(1, 255))
def test_a_vote_that_was_changed_is_nobodys_or_anothers(place: int, flip: int) -> None:
    """A flipped bit anywhere gives a malformed vote, or one that no validator signed."""
    data = bytearray(Vote.cast(KEYS[0], DOMAIN, ROOT).encode())
    data[place % len(data)] ^= flip
    try:
        signer = Vote.decode(bytes(data)).signer
    except InvalidInput:
        return
    assert signer not in ADDRESSES


def test_differences_are_told_in_words() -> None:
    wrong = ROOT._replace(settlement_total=1_000_000, archive=bytes(32))
    assert ROOT.differences(wrong) == [
        "settlement_total is 1,000,000 there, and 0 here",
        f"archive is {'00' * 32} there, and {ROOT.archive.hex()} here",
    ]


@pytest.mark.parametrize("root", [ROOT._replace(token_total=1 << 96), ROOT._replace(epoch=-1), ROOT._replace(root=b"")])
def test_what_does_not_fit_the_contract_is_not_signed(root: Root) -> None:
    with pytest.raises(InvalidInput):
        root.digest(DOMAIN)


def test_all_pairs_of_quorums_of_seven_intersect_honestly() -> None:
    """By brute force, what the inequality says: any two quorums, any faulty set of f, one honest in both."""
    people = range(7)
    quorums = [set(each) for each in combinations(people, quorum_of(7))]
    faulty = [set(each) for each in combinations(people, faulty_max(7))]
    assert all((one & other) - bad for one in quorums for other in quorums for bad in faulty)
