"""A validator on right epochs, on those that somebody has had his hands on, and among validators that lie."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from coincurve import PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from fallow.domain.batches import split_batch
from fallow.domain.epochs.leaves import totals_of, tree_over, write_leaves
from fallow.domain.epochs.quorum import Domain, Root, Vote, equivocator, faulty_max, tally, wrong_signer
from fallow.domain.errors import Unavailable
from fallow.domain.rewards.tree import root_of
from fallow.services.validator.book import Book
from tests.closed_epochs import ADDRESSES, LEAVES, SETTLEMENT, TOKEN, VALIDATORS, ClosedEpoch
from tests.epoch_files import NETWORK_KEY
from tests.validators import FIRST, History, Network, judged, validator


@pytest.fixture
def history() -> History:
    made = History()
    for _ in range(3):
        made.close()
    return made


def refused(network: Network, folder: Path, code: str) -> str:
    """Check that nothing but a refusal comes of the next epoch; returns its sentence."""
    seen = judged(network, folder)[-1]
    assert seen.refusal is not None
    assert (seen.refusal.code, seen.vote) == (code, None)
    assert seen.epoch not in {vote.epoch for vote in network.votes}
    return seen.refusal.message


def test_epochs_that_are_right_are_signed_and_a_quorum_decides(history: History, tmp_path: Path) -> None:
    network = history.published()
    for number, key in enumerate(VALIDATORS):
        seen = list(validator(network, tmp_path / str(number), key).look())
        assert [each.epoch for each in seen] == [FIRST, FIRST + 1, FIRST + 2]
        assert all(each.listed for each in seen)
    for closed in history.epochs:
        decision = tally(network.votes, ADDRESSES, closed.domain, closed.epoch, 0).decision
        assert decision is not None
        assert decision.root == closed.root
        assert decision.signers == tuple(ADDRESSES)


def test_it_goes_on_where_it_was_and_fetches_nothing_twice(history: History, tmp_path: Path) -> None:
    network = history.published()
    assert len(judged(network, tmp_path)) == 3
    for files in network.files.values():
        files.clear()
    history.close()
    network.files |= history.published().files
    assert [seen.epoch for seen in judged(network, tmp_path)] == [FIRST + 3]
    assert not list((tmp_path / "epochs").iterdir())


def test_a_network_without_epochs_is_waited_for(tmp_path: Path) -> None:
    assert judged(Network({}), tmp_path) == []


@pytest.mark.parametrize("name", ["manifest", "batches", "records/lease.accepted"])
def test_a_missing_file_is_refused_until_it_is_there(history: History, tmp_path: Path, name: str) -> None:
    network = history.published()
    del network.files[FIRST + 1][name]
    mine = validator(network, tmp_path)
    first, second = mine.look()
    assert first.vote
    assert second.refusal
    assert list(mine.look()) == [], "the same refusal is told once"
    network.files = history.published().files
    assert [seen.epoch for seen in mine.look()] == [FIRST + 1, FIRST + 2]
    assert Book(tmp_path / "book", NETWORK_KEY).refusals() == []


@settings(max_examples=50, deadline=None)
@given(st.data())
def test_a_flipped_bit_anywhere_is_never_signed(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    history = History()
    history.close()
    network = history.published()
    name = data.draw(st.sampled_from(sorted(name for name, file in network.files[FIRST].items() if file)))
    changed = bytearray(network.files[FIRST][name])
    changed[data.draw(st.integers(0, len(changed) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    network.files[FIRST][name] = bytes(changed)
    (seen,) = judged(network, tmp_path_factory.mktemp("validator"))
    assert seen.refusal
    assert network.votes == []


def test_another_epochs_manifest_is_refused(history: History, tmp_path: Path) -> None:
    network = history.published()
    network.files[FIRST]["manifest"] = network.files[FIRST + 1]["manifest"]
    refused(network, tmp_path, "archive.manifest")


@pytest.mark.parametrize(
    ("lie", "said"),
    [
        ({"token_total": (5).to_bytes(32)}, "token_total is"),
        ({"root": b"\1" * 32}, "root is 0101"),
        ({"leaf_count": 7}, "leaf_count is 7 in the statement, and 0 by computing it"),
        ({"closing": b"\2" * 32}, "closing is 0202"),
        ({"totals": {"usage": (9).to_bytes(32)}}, "totals is"),
    ],
)
def test_what_the_records_do_not_give_is_refused_in_words(tmp_path: Path, lie: dict[str, Any], said: str) -> None:
    history = History()
    history.close(**lie)
    assert said in refused(history.published(), tmp_path, "epoch.wrong")


def test_leaves_that_come_from_nowhere_are_refused(tmp_path: Path) -> None:
    """The root, the leaves and the totals fit one another: only computing them again shows that nobody earned this."""
    data, totals = write_leaves(LEAVES), totals_of(LEAVES)
    file = {"name": "leaves", "size": len(data), "sha256": hashlib.sha256(data).digest(), "count": len(LEAVES)}
    history = History()
    closed = history.close(
        files=[file],
        root=root_of(tree_over(LEAVES)),
        leaf_count=len(LEAVES),
        settlement=SETTLEMENT,
        token=TOKEN,
        token_total=totals[TOKEN].to_bytes(32),
    )
    closed.files["leaves"] = data
    assert "nothing by computing it" in refused(history.published(), tmp_path, "epoch.wrong")


def test_policies_that_it_does_not_have_are_not_signed(tmp_path: Path) -> None:
    history = History()
    history.close(policies=[{"name": "pool", "version": 9, "digest": bytes(32), "parameters": {}}])
    assert "pool 9" in refused(history.published(), tmp_path, "epoch.policy")


@pytest.mark.parametrize(
    ("alter", "code"),
    [
        (lambda said: [said[1], said[2]], "epoch.gap"),
        (lambda said: said[:2], "epoch.gap"),
        (lambda said: [said[2], said[1], said[0]], "epoch.gap"),
        (lambda said: [said[0], said[0], said[1], said[2]], "archive.order"),
    ],
    ids=["the first batch of an epoch", "the last one", "in another order", "one twice"],
)
def test_an_ingest_that_drops_or_moves_records_is_found(
    tmp_path: Path, alter: Callable[[list[bytes]], list[bytes]], code: str
) -> None:
    """The operator signs an archive that is whole in itself; what is missing shows where the node goes on."""
    history = History()
    history.close()
    history.close(alter=alter)
    history.close()
    refused(history.published(), tmp_path, code)


def test_records_that_no_node_signed_are_found(tmp_path: Path) -> None:
    history = History()
    history.close(forge=lambda said: [batch.replace(_signature(batch), bytes(64)) for batch in said])
    refused(history.published(), tmp_path, "archive.batch")


def test_a_batch_that_was_promised_to_another_is_found(tmp_path: Path) -> None:
    history = History()
    history.close(forge=lambda said: [said[0], said[2], said[1]])
    refused(history.published(), tmp_path, "archive.promise")


def _signature(batch: bytes) -> bytes:
    return split_batch(batch).sig


@pytest.mark.parametrize(
    ("lie", "code"),
    [
        ({"previous": b"\3" * 32}, "archive.chain"),
        ({"from_ms": 0}, "epoch.order"),
        ({"net": "another"}, "archive.manifest"),
    ],
)
def test_an_epoch_that_does_not_follow_is_refused(tmp_path: Path, lie: dict[str, Any], code: str) -> None:
    history = History()
    history.close()
    history.close(**lie)
    refused(history.published(), tmp_path, code)


def test_an_epoch_that_is_shown_again_is_refused(history: History, tmp_path: Path) -> None:
    network = history.published()
    network.files[FIRST + 1] = network.files[FIRST]
    refused(network, tmp_path, "archive.chain")


def test_a_history_without_its_beginning_is_not_signed(history: History, tmp_path: Path) -> None:
    network = history.published()
    del network.files[FIRST]
    refused(network, tmp_path, "epoch.order")


def test_a_vote_that_did_not_arrive_is_sent_again_as_it_was(history: History, tmp_path: Path) -> None:
    network = history.published()
    network.away = 1
    with pytest.raises(Unavailable):
        judged(network, tmp_path)
    assert network.votes == []
    assert len(judged(network, tmp_path)) == 3
    assert len(network.votes) == 3
    assert list(Book(tmp_path / "book", NETWORK_KEY).votes()) == network.votes


def test_it_starts_after_it_was_killed_while_it_wrote(history: History, tmp_path: Path) -> None:
    network = history.published()
    del network.files[FIRST + 1]["manifest"]
    assert judged(network, tmp_path)
    for folder in ("votes", "refused"):
        (tmp_path / "book" / folder / ".7.0f9a").write_bytes(b"half")
    book = Book(tmp_path / "book", NETWORK_KEY)
    assert [refusal.epoch for refusal in book.refusals()] == [FIRST + 1]
    assert list(book.votes()) == network.votes
    network.files = history.published().files
    assert [seen.epoch for seen in judged(network, tmp_path)] == [FIRST + 1, FIRST + 2]


def test_it_never_signs_two_roots_of_one_epoch(tmp_path: Path) -> None:
    """Its first vote was signed and lost on the way; meanwhile the operator shows another truth."""
    one, other = History(), History()
    one.close()
    other.close(seed=b"another")
    network = one.published()
    network.away = 1
    with pytest.raises(Unavailable):
        judged(network, tmp_path)
    network.files = other.published().files
    assert "another root" in refused(network, tmp_path, "validator.signed_other")
    network.files = one.published().files
    (seen,) = judged(network, tmp_path)
    assert seen.vote
    assert seen.vote.about == one.epochs[0].root


def test_it_signs_for_one_contract_only(tmp_path: Path) -> None:
    history = History()
    history.close()
    history.close(chain_id=5, contract=b"\x55" * 20)
    assert "on chain 5" in refused(history.published(), tmp_path, "validator.other_contract")


def test_who_is_not_listed_sends_nothing(tmp_path: Path) -> None:
    history = History()
    history.close(validators=ADDRESSES[1:])
    network = history.published()
    (seen,) = judged(network, tmp_path)
    assert seen.vote
    assert not seen.listed
    assert network.votes == []


Lie = Callable[[PrivateKey, ClosedEpoch], list[Vote]]


def _silent(_key: PrivateKey, _closed: ClosedEpoch) -> list[Vote]:
    return []


def _wrong_total(key: PrivateKey, closed: ClosedEpoch) -> list[Vote]:
    return [Vote.cast(key, closed.domain, closed.root._replace(token_total=10**20))]


def _both(key: PrivateKey, closed: ClosedEpoch) -> list[Vote]:
    return [Vote.cast(key, closed.domain, closed.root), *_wrong_total(key, closed)]


def _elsewhere(key: PrivateKey, closed: ClosedEpoch) -> list[Vote]:
    return [Vote.cast(key, Domain.without_chain("elsewhere"), closed.root)]


@settings(max_examples=20, deadline=None)
@given(
    st.integers(4, 7),
    st.lists(st.sampled_from([_silent, _wrong_total, _both, _elsewhere]), max_size=2),
    st.randoms(use_true_random=False),
)
def test_a_minority_that_lies_is_silent_or_equivocates_changes_nothing(
    tmp_path_factory: pytest.TempPathFactory, count: int, lies: list[Lie], random: Any
) -> None:
    keys = [PrivateKey(bytes([100 + number]) * 32) for number in range(count)]
    addresses = [_address(key) for key in keys]
    history = History()
    closed = history.close(validators=sorted(addresses))
    network = history.published()
    faulty = dict(zip(keys, lies[: faulty_max(count)], strict=False))
    random.shuffle(keys)
    votes: list[Vote] = []
    for key in keys:
        if key in faulty:
            votes += faulty[key](key, closed)
        else:
            list(validator(network, tmp_path_factory.mktemp("validator"), key).look())
    votes += network.votes
    random.shuffle(votes)
    found = tally(votes, addresses, closed.domain, FIRST, 0)
    assert found.decision is not None
    assert found.decision.root == closed.root
    for vote in votes:
        liar = _address_of_wrong(vote, closed.root)
        if liar is not None:
            assert liar in {_address(key) for key in faulty}
    equivocated = {_address(key) for key, lie in faulty.items() if lie is _both}
    assert set(found.equivocations) == equivocated
    assert {equivocator(*pair) for pair in found.equivocations.values()} == equivocated


def _address(key: PrivateKey) -> bytes:
    return Vote.cast(key, Domain(1, bytes(20)), Root(1, 0, bytes(32), 0, 0, bytes(32))).signer


def _address_of_wrong(vote: Vote, right: Root) -> bytes | None:
    return wrong_signer(vote, right) if vote.about != right else None
