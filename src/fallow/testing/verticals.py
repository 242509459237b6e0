"""What every vertical's policy has to keep, as tests that any plugin can run: one class to derive from.

    from fallow.testing.verticals import NODES, Said, VerticalContract

    class TestMine(VerticalContract):
        vertical = VERTICAL

        def honest(self, chance):
            return [Said(chance.choice(NODES), Reading(...), at=...) for _ in range(20)]

pytest collects the derived class like any other; nothing of pytest is imported here. Every test runs over several
epochs that `honest` makes, each from another seed. A test that fails names the seed, the record and what was wrong.
"""

from __future__ import annotations

import hashlib
import os
import pickle
import random
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import ClassVar, Final, NamedTuple

import msgspec

from fallow.domain.epochs.closing import Closing, close
from fallow.domain.epochs.core import Epoch
from fallow.domain.epochs.metering import Known, Metering, Use
from fallow.domain.epochs.plugins import SCORE_MAX, Contained, check_rows, score_of
from fallow.domain.epochs.reading import Filed, Share
from fallow.domain.epochs.rules import Rules
from fallow.domain.epochs.state import NOTHING, Row, State, read_state, write_state
from fallow.domain.records import Body, Record, make_record
from fallow.domain.verification import Standing, Verdict
from fallow.ports.vertical.plugin import Vertical
from fallow.testing.hostile import twisted

NET: Final = "contract"
DAY_MS: Final = 86_400_000
EPOCH: Final = 20_000
FROM_MS: Final = EPOCH * DAY_MS
UNTIL_MS: Final = FROM_MS + DAY_MS
"""The epoch's bounds, in milliseconds since 1970; its number is the calendar's, as where epochs last a day."""

NETWORK: Final = hashlib.sha256(b"network").digest()
"""The key that signs the network's own records."""
NODES: Final = tuple(hashlib.sha256(b"node %d" % number).digest() for number in range(4))
OWNERS: Final = {node: hashlib.sha256(node).digest()[:20] for node in NODES}
"""Four nodes, and the accounts that they belong to."""

SEEDS: Final = 12
TWISTED: Final = 200
PAID: Final = Rules(credit=2, settlement=bytes([2]) * 20)
STANDINGS: Final = (
    Standing(),
    Standing(confirmed=10),
    Standing(confirmed=1 << 62),
    Standing(wrong=1, wrong_at=UNTIL_MS, why="result.wrong"),
    Standing(wrong=1 << 30, wrong_at=0, why="x", missed=16),
    Standing(missed=16),
)


class Said(NamedTuple):
    """A record: who signs it (one of `NODES`, or `NETWORK`), what it says, and when that was: it came in at once."""

    node: bytes
    body: Body
    at: int = FROM_MS


class VerticalContract:
    """Derive from it, name the vertical, and say what honest nodes and the network sign."""

    vertical: ClassVar[Vertical]

    def honest(self, chance: random.Random) -> Sequence[Said]:
        """Records of one epoch in the order of ingest, all of which hold; others for another `chance`."""
        raise NotImplementedError

    @property
    def policy(self) -> Metering:
        """What is tested."""
        policy = self.vertical.metering
        assert policy is not None, "the vertical has no policy to test"
        return policy

    def test_a_policy_names_itself_and_its_records(self) -> None:
        """A statement pins it by name, version and digest; nothing else says what it was."""
        policy = self.policy
        assert policy.name == self.vertical.name
        assert policy.name.isascii()
        assert policy.version >= 1
        assert len(policy.digest) == 32
        assert policy.kinds, "it reads no records"
        said = {each.body.kind for seed in range(SEEDS) for each in self._said(seed)}
        assert said <= policy.kinds, f"honest nodes sign kinds that it does not read: {sorted(said - policy.kinds)}"

    def test_honest_records_hold(self) -> None:
        """An honest provider loses nothing, and is metered."""
        for seed, records in self._epochs():
            contained, uses = self._begin(), 0
            for filed in records:
                found, use = contained.judge(filed)
                assert found.verdict is not Verdict.REJECTED, f"seed {seed}: {found.code} {_told(filed)}"
                uses += use is not None
            assert uses, f"seed {seed}: nothing was metered"

    def test_the_same_records_give_the_same_files(self) -> None:
        """Whoever computes an epoch again, in whatever process, comes to the same bytes."""
        for seed, records in self._epochs():
            mixed = self._with_twisted(records, seed)
            files = self._close(mixed).files
            assert self._close(mixed).files == files, f"seed {seed}"
        jobs = [(NOTHING._replace(owners=OWNERS), records) for _, records in self._epochs()]
        given = pickle.dumps((jobs, self.policy))
        found = {_digest_elsewhere(given, hash_seed, self.policy) for hash_seed in (1, 2)}
        assert found == {digest_of(*pickle.loads(given))}, "it depends on the order of a set or on Python's hashes"

    def test_nothing_that_can_be_signed_makes_it_fail(self) -> None:
        """Forged, replayed, huge, negative, of another type or network: a verdict for each, whatever came before."""
        for seed, records in self._epochs():
            contained = self._begin()
            for filed in self._with_twisted(records, seed):
                _, use = contained.judge(filed)
                assert not contained.error, f"seed {seed}: {contained.error} at {_told(filed)}"
                own = use is None or filed.node in {use.node, NETWORK}
                assert own, f"seed {seed}: a node speaks for another one: {_told(filed)}"
            contained.carried()
            assert not contained.error, f"seed {seed}: {contained.error} when it was asked what it carries"

    def test_a_node_speaks_for_itself_only(self) -> None:
        """What another one has said, or the network, earns a node nothing, and nobody else either."""
        for seed, records in self._epochs():
            contained = self._begin()
            chance = random.Random(seed)
            for filed in records:
                contained.judge(filed)
                thief = chance.choice([node for node in NODES if node != filed.node])
                found, use = contained.judge(_filed(filed.batch, thief, filed.record, filed.received_ms))
                if found.verdict is Verdict.ACCEPTED and use is not None:
                    assert use.node == thief, f"seed {seed}: a node speaks for another one: {_told(filed)}"
                    assert not (filed.node == NETWORK and use.moved), f"seed {seed}: as the network: {_told(filed)}"

    def test_saying_it_again_earns_nothing_more(self) -> None:
        """All that nodes have signed is signed again, in this epoch and in the next one."""
        for seed, records in self._epochs():
            last_ms = records[-1].received_ms
            again = [
                _filed(len(records) + filed.batch, filed.node, filed.record, last_ms)
                for filed in records
                if filed.node != NETWORK
            ]
            once, twice = self._close(records), self._close([*records, *again])
            assert _earned(twice) == _earned(once), f"seed {seed}: in the same epoch"
            again = [filed._replace(received_ms=UNTIL_MS) for filed in again]
            later = self._close(again, once.files["state"], EPOCH + 1)
            assert not any(_earned(later).values()), f"seed {seed}: in the next epoch"

    def test_what_is_carried_goes_on(self) -> None:
        """It comes back from the file as it was written, and an epoch in which nothing happens changes nothing."""
        for seed, records in self._epochs():
            rows = self._carried(self._with_twisted(records, seed))
            check_rows(rows, by_node=self.policy.by_node)
            state = NOTHING._replace(owners=OWNERS, carried={self.policy.name: rows})
            read = read_state(write_state(state)).carried.get(self.policy.name, ())
            assert sorted(read) == sorted(rows), f"seed {seed}: it is read back as something else"
            verifier = self.policy.verifier(read, self._known())
            assert sorted(verifier.carried()) == sorted(rows), f"seed {seed}: it forgets or invents something"

    def test_other_nodes_change_nothing_where_it_says_so(self) -> None:
        """`by_node`: in whatever order nodes come, and in however many parts they are judged, lines are the same."""
        if not self.policy.by_node:
            return
        assert pickle.dumps(self.policy), "other processes are given it"
        for seed, records in self._epochs():
            mixed = self._with_twisted(records, seed)
            by_node: defaultdict[bytes, list[Filed]] = defaultdict(list)
            for filed in mixed:
                by_node[filed.node].append(filed)
            lines = self._close(mixed).folded.lines
            one_after_the_other = [filed for node in sorted(by_node) for filed in by_node[node]]
            assert self._close(one_after_the_other).folded.lines == lines, f"seed {seed}: another order"
            shares = [Share(self.policy.kinds, part, 3) for part in range(3)]
            parts = [self._close([filed for filed in mixed if share.has(filed.node)]) for share in shares]
            assert sorted(line for part in parts for line in part.folded.lines) == sorted(lines), f"seed {seed}: parts"

    def test_scores_are_millionths(self) -> None:
        """Of every standing that a node can have, at any time."""
        for standing in STANDINGS:
            for at in (0, UNTIL_MS, 1 << 62):
                errors: dict[str, str] = {}
                assert 0 <= score_of(self.policy, standing, at, errors) <= SCORE_MAX
                assert not errors, f"{standing} at {at}: {errors}"

    def test_lines_add_up_to_what_was_metered(self) -> None:
        """No unit and no micro-dollar is lost or made between the records and what is owed."""
        for seed, records in self._epochs():
            mixed = self._with_twisted(records, seed)
            contained = self._begin()
            uses = [use for _, use in map(contained.judge, mixed) if use is not None]
            made = self._close(mixed)
            lines = made.folded.lines
            assert sum(line.units for line in lines) == sum(use.units for use in uses), f"seed {seed}"
            usage = sum(int.from_bytes(line.usage) for line in lines)
            assert usage == sum(_income(use) for use in uses), f"seed {seed}"
            counted = sum(count for line in lines for _, _, count in line.verdicts)
            assert counted == sum(filed.record.kind in self.policy.kinds for filed in mixed), f"seed {seed}"

    def _said(self, seed: int) -> Sequence[Said]:
        said = self.honest(random.Random(seed))
        assert said, "honest nodes say nothing"
        return said

    def _epochs(self) -> Iterable[tuple[int, list[Filed]]]:
        for seed in range(SEEDS):
            yield seed, [_record(place, said) for place, said in enumerate(self._said(seed))]

    def _with_twisted(self, records: Sequence[Filed], seed: int) -> list[Filed]:
        """Put hostile records of all nodes between honest ones."""
        chance = random.Random(seed)
        mixed = [(chance.random(), filed) for filed in records]
        for number in range(TWISTED):
            filed = chance.choice(records)
            node = chance.choice([filed.node, *NODES])
            made = _filed(len(records) + number, node, twisted(filed.record, chance), filed.received_ms)
            mixed.append((chance.random(), made))
        return [filed for _, filed in sorted(mixed, key=lambda each: each[0])]

    def _known(self, epoch: int = EPOCH) -> Known:
        return Known(epoch, NETWORK, OWNERS)

    def _begin(self) -> Contained:
        return Contained(self.policy, (), self._known())

    def _carried(self, records: Iterable[Filed]) -> list[Row]:
        contained = self._begin()
        for filed in records:
            contained.judge(filed)
        return list(contained.carried())

    def _close(self, records: Sequence[Filed], opening: bytes = b"", epoch: int = EPOCH) -> Closing:
        return close_with(self.policy, records, opening or write_state(NOTHING._replace(owners=OWNERS)), epoch)


def close_with(policy: Metering, records: Sequence[Filed], opening: bytes, epoch: int = EPOCH) -> Closing:
    """Close an epoch with this vertical alone."""
    at = Epoch(NET, epoch, (epoch + 1) * DAY_MS, NETWORK)
    return close(opening, at, records, PAID, {policy.name: policy})


def digest_of(jobs: Sequence[tuple[State, Sequence[Filed]]], policy: Metering) -> str:
    """A hash over the files of some epochs."""
    files = [close_with(policy, records, write_state(opening)).files for opening, records in jobs]
    return hashlib.sha256(b"".join(each[name] for each in files for name in sorted(each))).hexdigest()


def _digest_elsewhere(given: bytes, hash_seed: int, policy: Metering) -> str:
    """Have a fresh Python, in which texts and bytes have other hashes, say the same."""
    code = (
        "import pickle, sys; from fallow.testing.verticals import digest_of;"
        "print(digest_of(*pickle.load(sys.stdin.buffer)))"
    )
    where = Path(sys.modules[type(policy).__module__].__file__ or "").parent
    paths = os.pathsep.join([*filter(None, sys.path), str(where)])
    done = subprocess.run(
        [sys.executable, "-c", code],
        input=given,
        env={**os.environ, "PYTHONPATH": paths, "PYTHONHASHSEED": str(hash_seed)},
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode().strip()


def _record(place: int, said: Said) -> Filed:
    record, _ = make_record(
        said.body, net=NET, node=said.node, boot=1, seq=place, at=said.at, new_salt=lambda: bytes(32)
    )
    return _filed(place, said.node, record, said.at)


def _filed(place: int, node: bytes, record: Record, received_ms: int) -> Filed:
    """A record as it stands in an archive: signed by this node, under its next number."""
    signed = msgspec.structs.replace(record, node=node, seq=place)
    return Filed(place, 0, node, signed, signed.encode(), received_ms)


def _income(use: Use) -> int:
    return sum(moved.income + moved.made_good for moved in use.moved if moved.credit == PAID.credit)


def _earned(closing: Closing) -> Counter[bytes]:
    """Units and micro-US-dollars of each node."""
    earned: Counter[bytes] = Counter()
    for line in closing.folded.lines:
        earned[line.node] += line.units + int.from_bytes(line.usage)
    return earned


def _told(filed: Filed) -> str:
    return f"{filed.record.kind} of {filed.node.hex()[:8]}: {filed.record.body!r:.300}"
