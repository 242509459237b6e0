"""Nodes that do not have what they are paid for: how often audits find it, and whom else they hit.

The network's side on PostgreSQL and real workers on real folders: ten nodes, one of which cheats. Each test prints its
rates with 95 % intervals; the table in storage's README is taken from here.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from itertools import cycle

import msgspec
import pytest
from blake3 import blake3

from fallow.adapters.postgres.decisions import PostgresDecisionStore
from fallow.domain.calls.base import AccountRef
from fallow.domain.errors import FallowError, InvalidInput, NotFound, Unavailable
from fallow.domain.identity import address_text
from fallow.domain.network_facts import LendingForfeited
from fallow.ports.alert_text import sentence
from fallow.ports.tasks import background
from fallow.verticals.storage.control.audits import APART_MIN_MS
from fallow.verticals.storage.control.lenders import NODES
from fallow.verticals.storage.control.limits import Secrets
from fallow.verticals.storage.control.questioning import Contained
from fallow.verticals.storage.control.verdicts import RETRY_MS
from fallow.verticals.storage.core.lenders import WARNED_MS, GetLenders, LenderView
from fallow.verticals.storage.core.orders import PieceClaim
from fallow.verticals.storage.core.questions import CLOCK, Prove
from tests.attacks.cheating import Rate
from tests.audit_world import ROUND_MS, Audited, Keeper, Piece, audited, late
from tests.epoch_files import NET
from tests.integration.test_storage_lists import explained
from tests.network import until_async
from tests.places_world import BUCKET, STREAM, signing

ROUNDS = 24
OTHER = b"o" * 16
FAILED, UNKNOWN, AWAY = "storage.audits_failed", "storage.audits_unknown", "storage.away"


@pytest.fixture
async def network(postgres_dsn: str) -> AsyncIterator[Audited]:
    """Nobody cheats yet."""
    async with audited(postgres_dsn) as made:
        yield made


async def caught(network: Audited, name: str, rounds: int = ROUNDS) -> Rate:
    """Audit, and return how many audits of the cheat did not succeed; none of an honest node may fail."""
    before = (await network.score(network.cheat)).audits
    honest_before = sum([(await network.score(keeper)).audits for keeper in network.honest])
    await network.audit(rounds)
    rate = Rate(len(await network.found(network.cheat)), (await network.score(network.cheat)).audits - before)
    hit = sum([len(await network.found(keeper)) for keeper in network.honest])
    audits = sum([(await network.score(keeper)).audits for keeper in network.honest]) - honest_before
    print(f"\n{name}: {rate} of its audits; of honest nodes' {Rate(hit, audits)}")
    assert audits > 8 * rounds
    assert hit == 0
    return rate


def words(found: list[tuple[str, str]]) -> set[str]:
    return {text for _, text in found}


async def test_who_deletes_everything_fails_each_audit(network: Audited) -> None:
    await network.cheat.rewrite({})
    rate = await caught(network, "all deleted")
    assert rate.hits == rate.cases == ROUNDS
    assert words(await network.found(network.cheat)) == {"failed: storage.no_piece"}


async def test_a_piece_that_an_audit_finds_missing_counts_no_more_while_enough_others_are_left(
    network: Audited,
) -> None:
    alias = await network.alias(network.cheat)
    await network.cheat.rewrite({})
    await network.audit(1)
    named = await network.named()
    (lost,) = [segment for segment, nodes in network.nodes.items() if named[segment] != nodes]
    assert named[lost] == [0 if one == alias else one for one in network.nodes[lost]]
    async with network.world.database.transaction() as tx:
        rows = await tx.fetch("SELECT alias, segment FROM storage.garbage WHERE due_ms <= $1", network.world.clock.ms)
    assert [(row["alias"], row["segment"]) for row in rows] == [(alias, lost)], "and it is told to delete it"
    others = {segment: [one for one in nodes if one != alias] for segment, nodes in network.nodes.items()}
    network.nodes = {
        segment: [alias, *others[segment][:3]] for segment, nodes in network.nodes.items() if alias in nodes
    }
    await network.audit(1)
    assert network.nodes.items() <= (await network.named()).items(), "who still finds it shall be asked for it"
    assert len(await network.found(network.cheat)) == 2


async def test_who_deletes_a_part_fails_as_many(network: Audited) -> None:
    kept = dict([*network.cheat.pieces.items()][::2])
    share = 1 - len(kept) / len(network.cheat.pieces)
    await network.cheat.rewrite(kept)
    low, high = (await caught(network, f"{share:.0%} deleted", 3 * ROUNDS)).interval
    assert low < share < high


async def test_who_alters_bytes_fails_each_audit(network: Audited) -> None:
    pieces = network.cheat.pieces
    await network.cheat.rewrite({name: Piece(bytes(len(one.data)), one.claim) for name, one in pieces.items()})
    rate = await caught(network, "all altered")
    assert rate.hits == rate.cases == ROUNDS
    assert words(await network.found(network.cheat)) == {"failed: bytes"}


async def test_who_truncates_pieces_fails_each_audit(network: Audited) -> None:
    pieces = network.cheat.pieces
    await network.cheat.rewrite({name: Piece(one.data[:2048], one.claim) for name, one in pieces.items()})
    rate = await caught(network, "all cut short")
    assert rate.hits == rate.cases == ROUNDS
    assert words(await network.found(network.cheat)) <= {"failed: bytes", "failed: storage.question"}


async def test_who_shows_one_piece_in_place_of_all_fails_nearly_each_audit(network: Audited) -> None:
    pieces = network.cheat.pieces
    one = next(iter(pieces.values()))
    await network.cheat.rewrite(dict.fromkeys(pieces, one))
    rate = await caught(network, "one piece in place of all")
    assert rate.hits >= rate.cases / 2
    assert words(await network.found(network.cheat)) == {"failed: other_piece"}


async def test_who_shows_the_copy_of_another_identity_fails_each_audit(network: Audited) -> None:
    """Each node has another piece of a segment, under a name of its own, which the claim says."""
    other = cycle(network.honest[0].pieces.values())
    await network.cheat.rewrite({name: next(other) for name in network.cheat.pieces})
    rate = await caught(network, "another identity's pieces")
    assert rate.hits == rate.cases == ROUNDS
    assert words(await network.found(network.cheat)) == {"failed: other_piece"}


async def test_who_signs_claims_himself_fails_each_audit(network: Audited) -> None:
    def own(name: bytes) -> Piece:
        data = bytes(1)
        claim = PieceClaim(net=NET, piece=name, length=len(data), hash=blake3(data).digest())
        return Piece(data, claim.seal(signing(network.cheat.key)))

    await network.cheat.rewrite({name: own(name) for name in network.cheat.pieces})
    rate = await caught(network, "claims of its own")
    assert rate.hits == rate.cases == ROUNDS
    assert words(await network.found(network.cheat)) <= {"failed: claim", "failed: storage.question"}


async def test_who_keeps_half_of_each_piece_with_a_client_in_league_fails_each_audit(network: Audited) -> None:
    """The claim is good, and shows each chunk that is there: it is of less than the network counts on."""

    def half(name: bytes, one: Piece) -> Piece:
        data = one.data[: len(one.data) // 2]
        claim = PieceClaim(net=NET, piece=name, length=len(data), hash=blake3(data).digest())
        return Piece(data, claim.seal(signing(network.world.client)))

    await network.cheat.rewrite({name: half(name, one) for name, one in network.cheat.pieces.items()})
    rate = await caught(network, "half of each, claimed by a client in league")
    assert rate.hits == rate.cases == ROUNDS
    assert words(await network.found(network.cheat)) == {"failed: length", "failed: storage.question"}


async def test_who_keeps_pieces_elsewhere_and_is_in_time_is_not_found(network: Audited) -> None:
    """What remains: audits show that a node can give the bytes, not where they lie."""
    elsewhere = Keeper(99, network.cheat.lent.parent, network.world)
    elsewhere.pieces = network.cheat.pieces
    await elsewhere.write()
    await network.cheat.rewrite({})
    network.cheat.cheat = lambda asked: elsewhere.worker.answer(msgspec.msgpack.encode(asked))
    assert (await caught(network, "kept elsewhere, in time")).hits == 0
    elsewhere.worker.close()


async def test_who_never_answers_in_time_is_asked_the_same_again_and_then_fails(network: Audited) -> None:
    asked: list[Prove] = []

    async def slow(question: Prove) -> bytes:
        asked.append(question)
        return await late(question)

    network.cheat.cheat = slow
    await network.audit(8)
    assert asked == [*[asked[0]] * 4, *[asked[4]] * 4]
    assert [text for _, text in await network.found(network.cheat)] == [
        *["unknown: bus.timeout", "nothing: bus.timeout", "nothing: bus.timeout", "failed: bus.timeout"] * 2
    ]


async def test_nobody_who_was_late_knows_when_he_is_asked_again(network: Audited) -> None:
    for keeper in network.keepers:
        keeper.cheat = late
    await network.audit(1)
    async with network.world.database.transaction() as tx:
        rows = await tx.fetch("SELECT next_ms FROM storage.reputation WHERE contained IS NOT NULL")
    waits = {row["next_ms"] - network.world.clock.now_ms() for row in rows}
    assert len(rows) == len(waits) == len(network.keepers)
    assert min(waits) >= RETRY_MS + APART_MIN_MS


async def test_who_errs_in_place_of_what_he_deleted_fails_at_the_fourth_time(network: Audited) -> None:
    await network.cheat.rewrite(dict([*network.cheat.pieces.items()][::2]))

    async def errs(question: Prove) -> bytes:
        try:
            return await network.cheat.worker.answer(msgspec.msgpack.encode(question))
        except NotFound as error:
            raise Unavailable("storage.disk_failing", "The disk makes errors.") from error

    network.cheat.cheat = errs
    await network.audit(ROUNDS)
    found = [text for _, text in await network.found(network.cheat)]
    once = [*["unknown: storage.disk_failing"] * 3, "failed: storage.disk_failing"]
    assert len(found) >= 4
    assert found == (once * ROUNDS)[: len(found)]
    score = await network.score(network.cheat)
    assert score.score < 1
    assert score.unknown_score < 0.8


async def test_who_gave_something_else_and_hid_its_claim_is_held_to_the_claim_that_he_shows_an_auditor(
    network: Audited,
) -> None:
    """His answer is right; that of a node that was only slow with its claim is, too."""
    secrets = Secrets(network.world.ground().secret)
    cheat, slow = network.keepers[:2]
    async with network.world.database.transaction() as tx:
        segments = [row["id"] for row in await tx.fetch("SELECT id FROM storage.segment")]
        for keeper in (cheat, slow):
            segment = next(one for one in segments if secrets.piece(one, keeper.id) in keeper.pieces)
            right = keeper.pieces[secrets.piece(segment, keeper.id)].data
            given = blake3(right if keeper is slow else b"other").digest()
            await tx.execute(
                "UPDATE storage.reputation r SET contained = $2 FROM storage.node n"
                " WHERE n.alias = r.alias AND n.node = $1",
                keeper.id,
                msgspec.msgpack.encode(Contained(segment, -1, 0, given)),
            )
    cheat.cheat = late
    await network.audit(1)
    cheat.cheat = None
    await network.audit(1)
    assert [text for _, text in await network.found(cheat)] == ["unknown: bus.timeout", "failed: given"]
    assert await network.found(slow) == []


async def test_who_fetches_what_he_was_asked_for_until_he_is_asked_again_is_suspended(network: Audited) -> None:
    seen: set[bytes] = set()

    async def fetched(question: Prove) -> bytes:
        if question.piece in seen:
            return await network.cheat.worker.answer(msgspec.msgpack.encode(question))
        seen.add(question.piece)
        return await late(question)

    network.cheat.cheat = fetched
    for _ in range(40):
        seen.clear()
        await network.audit(1)
        if (await network.score(network.cheat)).standing:
            break
        seen.update(network.cheat.pieces)
        await network.audit(1)
    score = await network.score(network.cheat)
    print(f"\nlate once, then in time: suspended after {score.audits} audits")
    assert (score.standing, score.score) == ("suspended", 1.0)
    assert not {piece.node for piece in (await network.world.begin(stream=OTHER)).places} & {network.cheat.id}


async def test_what_makes_no_sense_is_booked_like_the_rest(network: Audited) -> None:
    said: cycle[bytes | FallowError] = cycle(
        [b"", b"\xff" * 5000, Unavailable("x\0\ud800", "\0"), NotFound("storage.no_piece", ""), b"\x80"]
    )

    async def nonsense(_: Prove) -> bytes:
        answer = next(said)
        if isinstance(answer, FallowError):
            raise answer
        return answer

    network.cheat.cheat = nonsense
    rate = await caught(network, "nonsense", 5)
    assert rate.hits == rate.cases == 5
    assert (await network.score(network.cheat)).unknown_score < 1


async def test_who_pretends_that_the_bus_failed_gains_nothing(network: Audited) -> None:
    """The network goes on hearing him meanwhile."""

    async def lie(_: Prove) -> bytes:
        raise Unavailable("bus.disconnected", "The connection to the bus is down.")

    network.cheat.cheat = lie
    async with asyncio.TaskGroup() as group:
        auditing = group.create_task(network.audit(1))
        while not auditing.done():
            await asyncio.sleep(0)
            network.world.clock.advance(1000)
            await network.world.tell()
    assert (await network.found(network.cheat))[-1][1] == "unknown: bus.disconnected"


async def test_who_is_away_is_asked_nothing_and_fails_nothing(network: Audited) -> None:
    network.cheat.away = True
    await network.audit(30)
    score = await network.score(network.cheat)
    assert (score.score, score.unknown_score) == (1, 1)
    assert score.online_score < 0.99
    assert {code for code, _ in await network.found(network.cheat)} == {"storage.audit_offline"}


async def test_an_owner_who_needs_his_machine_is_away_and_fails_nothing(network: Audited) -> None:
    network.cheat.closed.append("owner.paused")
    await network.audit(ROUNDS)
    score = await network.score(network.cheat)
    assert (score.score, score.unknown_score, score.standing) == (1, 1, "")
    assert score.online_score < 1


async def test_where_the_network_hears_nobody_nobody_is_away(network: Audited) -> None:
    for keeper in network.keepers:
        keeper.away = True
    await network.audit(ROUNDS)
    assert {score.online_score for score in await network.world.places.audits.scores()} == {1}


async def test_what_was_dropped_meanwhile_is_no_failure(network: Audited) -> None:
    async def drops_first(question: Prove) -> bytes:
        async with network.world.database.transaction() as tx:
            await network.world.places.segments.drop(tx, BUCKET.id, [STREAM], purge=True)
        raise NotFound("storage.no_piece", f"{question.piece.hex()} is gone.")

    for keeper in network.keepers:
        keeper.cheat = drops_first
    await network.audit(2)
    assert [await network.found(keeper) for keeper in network.keepers] == [[]] * 10


async def test_a_cheat_is_warned_and_told_why_before_his_pieces_count_as_lost(network: Audited) -> None:
    cheat = network.cheat
    await cheat.rewrite({})
    await network.audit(2)
    await network.tell()
    (note,) = cheat.notes
    assert (note.kind, note.code, len(note.evidence)) == ("warning", FAILED, 2)
    assert {one.found for one in note.evidence} == {"failed: storage.no_piece"}
    lent = await cheat.worker.lent()
    assert lent is not None
    assert lent.trouble.startswith("storage.audits_failed (warning): Pieces are missing or wrong here")
    (shown,) = await lenders(network, cheat)
    assert [(alert.kind, alert.code) for alert in shown.alerts] == [("warning", FAILED)]
    assert {(one.found, one.answer) for one in shown.alerts[0].evidence} == {("failed: storage.no_piece", b"")}
    assert (shown.node, shown.statement.node, shown.statement.standing) == (cheat.id, cheat.id, "")
    assert shown.lost_below_ppm < shown.statement.score_ppm < 1_000_000
    honest = next(keeper for keeper in network.keepers if keeper is not cheat)
    assert [one.alerts for one in await lenders(network, honest)] == [[]]
    await network.audit(39)
    await network.tell()
    assert [note.kind for note in cheat.notes] == ["warning", "warning", "disqualified"]
    assert (await network.score(cheat)).standing == "disqualified"
    async with network.world.database.transaction() as tx:
        ((_, decided),) = await PostgresDecisionStore().pending(tx, LendingForfeited.kind, 0, 10)
    assert isinstance(decided.body, LendingForfeited)
    assert (decided.body.node, decided.body.code, len(decided.body.evidence)) == (cheat.id, FAILED, 41)
    hashes = [hashlib.sha256(msgspec.msgpack.encode(one)).digest() for one in cheat.notes[-1].evidence]
    assert decided.body.evidence[-len(hashes) :] == hashes[::-1], "what it forfeits for is what it was shown"
    assert {one.node: one.standing for one in network.world.places.nodes.all()}[cheat.id] == "disqualified"
    assert cheat.id not in {place.node for place in (await network.world.begin(stream=OTHER)).places}
    again = network.world.process()
    await network.world.tell(again)
    assert {one.node: one.standing for one in again.nodes.all()}[cheat.id] == "disqualified"
    asked = (await network.score(cheat)).audits
    await network.audit(1)
    assert (await network.score(cheat)).audits == asked
    lent = await cheat.worker.lent()
    assert lent is not None
    assert "(disqualified)" in lent.trouble
    (shown,) = await lenders(network, cheat)
    assert [(alert.kind, alert.code) for alert in shown.alerts] == [("disqualified", FAILED)]
    told = await network.world.places.lenders.alerts(AccountRef(account=address_text(cheat.account)))
    assert [(alert.code, alert.subject) for alert in told] == [("lent.warned", cheat.id.hex())]
    assert sentence(told[0], "en") == f"{shown.alerts[0].text} ({FAILED})"
    assert sentence(told[0], "ja").startswith("失格: ")
    assert await network.world.places.lenders.alerts(AccountRef(account=address_text(honest.account))) == []


async def lenders(network: Audited, keeper: Keeper) -> list[LenderView]:
    """What the console shows the owner of a node."""
    return await network.world.places.lenders.get(GetLenders(account=address_text(keeper.account)))


async def test_an_owner_sees_what_was_found_of_each_of_his_disks_and_reads_no_others(network: Audited) -> None:
    mine, second, stranger = network.keepers[:3]
    now = network.world.clock.now_ms()
    found = [
        (mine.id, now, "warning", AWAY), (mine.id, now - WARNED_MS, "warning", UNKNOWN), (mine.id, now, "", FAILED),
        (second.id, 0, "suspended", AWAY), (second.id, 1, "reinstated", AWAY), (second.id, 1, "suspended", UNKNOWN),
        (stranger.id, now, "warning", AWAY),
    ]  # fmt: skip
    async with network.world.database.transaction() as tx:
        await tx.execute("UPDATE storage.node SET account = $1 WHERE node = $2", mine.account, second.id)
        for node, at_ms, kind, code in found:
            await tx.execute(
                "INSERT INTO storage.finding (alias, at_ms, kind, code, text, evidence, told)"
                " SELECT alias, $2, $3, $4, '', '', true FROM storage.node WHERE node = $1",
                node, at_ms, kind, code,
            )  # fmt: skip
        await tx.execute(
            "INSERT INTO storage.node (node, account, network, country, limit_bytes, used_bytes, room_bytes, seen_ms,"
            " trouble) SELECT sha256(n::text::bytea), substr(sha256(n::text::bytea), 1, 20), '', '', 0, 0, 0, 0, ''"
            " FROM generate_series(1, 3000) AS n"
        )
    shown = {one.node: [(alert.kind, alert.code) for alert in one.alerts] for one in await lenders(network, mine)}
    assert shown == {mine.id: [("warning", AWAY)], second.id: [("suspended", UNKNOWN)]}
    told = await network.world.places.lenders.alerts(AccountRef(account=address_text(mine.account)))
    assert {(one.subject, one.values["code"]) for one in told} == {(mine.id.hex(), AWAY), (second.id.hex(), UNKNOWN)}
    text = "This machine's clock is 2 h 5 min ahead of the network's."
    async with network.world.database.transaction() as tx:
        await tx.execute("UPDATE storage.node SET trouble = $2 WHERE node = $1", second.id, f"{CLOCK}: {text}")
    shown = {one.node: [(alert.kind, alert.text) for alert in one.alerts] for one in await lenders(network, mine)}
    assert shown[second.id][1:] == [("warning", text)]
    told = await network.world.places.lenders.alerts(AccountRef(account=address_text(mine.account)))
    (clock,) = [one for one in told if one.values["code"] == CLOCK]
    assert (clock.subject, sentence(clock, "en")) == (second.id.hex(), f"{text} ({CLOCK})")
    assert "時計" in sentence(clock, "ja")
    async with network.world.database.transaction() as tx:
        _, blocks = await explained(tx, NODES, mine.account, b"", 100)
    assert blocks < 20


async def test_who_does_not_hear_what_was_found_of_him_holds_up_no_other(
    network: Audited, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fallow.verticals.storage.control.notes.AT_ONCE", 1)
    deaf, other = network.keepers[:2]
    for keeper in (deaf, other):
        await keeper.rewrite({})
    await network.audit(2)
    deaf.deaf = True
    await network.tell()
    assert [note.code for note in other.notes] == [FAILED]


async def test_no_more_than_a_thousand_findings_are_kept_of_a_node(network: Audited) -> None:
    async with network.world.database.transaction() as tx:
        await tx.execute(
            "INSERT INTO storage.finding (alias, at_ms, kind, code, text, evidence, told)"
            " SELECT n.alias, 0, '', '', '', '', true FROM storage.node n, generate_series(1, 1100)"
        )
    await network.cheat.rewrite({})
    await network.audit(1)
    found = await network.found(network.cheat)
    assert len(found) == 1000
    assert found[-1] == ("storage.audit_failed", "failed: storage.no_piece")


async def test_who_holds_nothing_may_go_and_come_back(network: Audited) -> None:
    guest = Keeper(50, network.cheat.lent.parent, network.world)
    await network.world.enrol(guest)
    guest.away = True
    await network.audit(3)
    assert (await network.score(guest)).online_score == 1
    assert (await network.score(guest)).audits == 0


async def test_audits_go_on_by_themselves(network: Audited) -> None:
    scores = await network.world.places.audits.scores()
    before = sum(score.audits for score in scores)
    async with background(network.world.places.audits.audit()):

        async def audited_anew() -> bool:
            network.world.clock.advance(20_000)
            await network.world.tell()
            scores[:] = await network.world.places.audits.scores()
            return sum(score.audits for score in scores) >= before + 20

        await until_async(audited_anew, "nodes are audited", every=0.001)
    assert {score.score for score in scores} == {1}


async def test_two_processes_audit_each_node_once(network: Audited) -> None:
    other = network.world.process()
    await network.world.tell(other)
    network.world.clock.advance(ROUND_MS)
    await network.world.tell()
    await network.world.tell(other)
    async with network.world.database.transaction() as tx:
        await tx.execute("UPDATE storage.reputation SET next_ms = 0")
    first, second = await network.world.places.audits.take(256), await other.audits.take(256)
    assert (len(first), second) == (10, [])


async def test_a_question_for_no_chunk_is_refused(network: Audited) -> None:
    piece = next(iter(network.cheat.pieces))
    with pytest.raises(InvalidInput):
        await network.cheat.worker.answer(msgspec.msgpack.encode(Prove(piece, 99)))
