"""Cheats who do only work whose results nobody compares: canaries find them.

The market's own matching and checking, 40 nodes, 2,000 items, three seeds a case, 24 items that the operator planted.
Each test prints its rates with 95 % intervals; the table in the compute vertical's README is taken from here.
"""

from __future__ import annotations

import hashlib
from functools import partial
from typing import Any, cast

from fallow.domain.canaries import KNOWN_A_JOB_MAX, KNOWN_MAX, USES_MAX, Known, Owed, canary, crowded_out, met
from fallow.domain.draws import Seed
from fallow.domain.jobs import Job, Needs
from fallow.domain.leases import Lease
from fallow.domain.orders import Order
from fallow.domain.tickets import Ticket
from fallow.services.market.entry import Entry
from fallow.services.market.outbound import Outbound
from tests.attacks import cheating
from tests.attacks.cheating import BUYER, OPERATOR, conspirator, liar

PLANTED = 24
play = partial(cheating.play, compares=False, planted=PLANTED)


def test_honest_nodes_pass_and_canaries_cost_little() -> None:
    outcome = play("honest only, nothing compares", [])
    assert outcome.honest_hit.hits == 0
    # One in ten results brings a canary, and fewer as trust grows.
    assert outcome.overhead < 0.12


def test_who_always_lies_where_nobody_compares_is_found() -> None:
    outcome = play("4 lone liars, always, nothing compares", [liar(1.0)] * 4)
    assert outcome.cheats_found.hits == outcome.cheats_found.cases
    assert outcome.honest_hit.hits == 0
    # Ten results a cheat on average before the first canary, of 50 that each would have given.
    assert outcome.wrong_accepted.interval[1] < 0.05


def test_who_lies_now_and_then_where_nobody_compares_is_found_late() -> None:
    outcome = play("4 lone liars, 30 %, nothing compares", [liar(0.3)] * 4)
    assert outcome.cheats_found.interval[0] > 0.2
    assert outcome.honest_hit.hits == 0


def test_conspirators_who_poison_the_known_answers_do_not_have_honest_nodes_suspended() -> None:
    outcome = play("4 conspirators of 40, nothing compares", [conspirator(1.0)] * 4)
    assert outcome.honest_hit.interval[1] < 0.06
    assert outcome.cheats_found.interval[0] > 0.4


# What a node sees


def known(number: int = 0, *, job: int = 0, planted: bool = False) -> Known:
    order = Order(id=f"{job:032x}", vertical="compute", work={"fuel": 5}, items=["ab" * 32], time_limit_s=60)
    return Known(
        job=Job(order=order, account=OPERATOR, needs=Needs(blobs=("cd" * 32,)), created_at=1, planted=planted),
        item=number,
        says=(True, "", "ef" * 32),
        at=1,
        accounts=(),
    )


def test_a_canary_looks_to_its_node_like_the_item_that_it_repeats() -> None:
    outbound = Outbound(
        net="test", epoch_ms=86_400_000, sign=lambda _: bytes(64), bus=cast("Any", None), vault=cast("Any", None)
    )
    node, entry = b"n" * 32, known()
    fields: dict[str, Any] = {
        "id": b"l" * 16,
        "item": 0,
        "payee": b"p" * 20,
        "node": node,
        "boot": 1,
        "price_microusd_per_hour": 5,
        "price_version": 1,
        "window_ms": 10,
        "time_limit_ms": 10,
        "proposed_at": 1,
        "answer_by": 2,
        "resources": entry.job.order.requirements.resources,
    }
    replayed = canary(entry, node, Owed(b"l" * 16), Seed(1, bytes(32)), 9)
    bought = outbound.proposal(Lease(job=entry.job.order.id, payer=BUYER, **fields), Entry(entry.job, ()))
    again = outbound.proposal(Lease(job=replayed.order.id, payer=b"", **fields), Entry(replayed, ()))
    assert again == bought  # the ticket too: whose blobs they are, what may be read
    assert Ticket.__struct_fields__ == ("net", "node", "lease", "owner", "reads", "write_bytes_max", "expires_at")


# What canaries are made of


def test_one_map_does_not_crowd_out_all_others() -> None:
    pool: list[Known] = []
    for number in range(1000):
        pool = grown(pool, known(number, job=1))
    assert [entry.item for entry in pool] == list(range(1000 - KNOWN_A_JOB_MAX, 1000))


def test_what_was_planted_outlasts_what_was_bought() -> None:
    planted = [known(job=job, planted=True) for job in range(5)]
    pool = planted
    for job in range(5, 1000):
        pool = grown(pool, known(job=job))
    assert pool[:5] == planted
    assert len(pool) == KNOWN_MAX


def test_what_too_many_met_is_given_to_nobody() -> None:
    entry: Known | None = known()
    for number in range(USES_MAX - 1):
        assert entry is not None
        entry = met(entry, hashlib.sha256(b"%d" % number).digest()[:20])
    assert entry is not None
    assert len(entry.accounts) == USES_MAX - 1
    assert met(entry, b"last") is None


def grown(pool: list[Known], new: Known) -> list[Known]:
    gone = crowded_out(pool, new)
    return [entry for entry in pool if entry not in gone] + [new]
