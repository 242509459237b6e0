# ruff: noqa: D102
"""The SDK's client with answers made up, for tests of the commands."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Any, Self

import msgspec
import pytest

from fallow.cli import profiles
from fallow.domain.calls.keys import Secret
from fallow.domain.errors import FallowError
from fallow.domain.orders import Order, Requirements, Tolerance
from fallow.domain.prices import Delivered
from fallow.domain.resources import Resources, Terms
from fallow.domain.views.actions import ActionView, BanView, EnrolledView
from fallow.domain.views.audits import LedgerCheckView
from fallow.domain.views.checks import EvidenceView
from fallow.domain.views.jobs import ItemView, JobEvent, JobView, LeaseView, QuoteView
from fallow.domain.views.keys import DelegationView, KeyView, TokenView
from fallow.domain.views.money import BalanceView, ReserveView, StatementLine
from fallow.domain.views.network import NetworkView
from fallow.domain.views.nodes import NodeView
from fallow.sdk.bills import Bill, Work, make_bill
from fallow.sdk.jobs import Event
from fallow.sdk.runs import completed
from fallow.sdk.signing import BuyerKey
from fallow.verticals.compute.core.outcome import Outcome, Output
from tests.unit import fake_network
from tests.unit.fake_network import BUYER

JOB = "ab" * 16
NODE = "cd" * 32


class CannedResult:
    """What the SDK gives for an item, without a network."""

    def __init__(self, index: int = 0, exit_code: int = 0, state: str = "done") -> None:
        self.item = msgspec.structs.replace(fake_network.item_view(index, state), node=NODE)
        self.index = index
        self.ok = state == "done"
        self.exit_code = exit_code
        self.reason = "" if self.ok else "exited"
        empty = Output(name="stderr", sha256="0" * 64, size=0)
        self.outcome = Outcome(exit_code=exit_code, reason="exited", stdout=empty, stderr=empty, outputs=[])
        self.outputs: list[Output] = []

    def stdout(self) -> bytes:
        return b"out %d\n" % self.index

    def stderr(self) -> bytes:
        return b"warning\n"

    def save(self, folder: Path) -> list[Path]:
        return [folder / "stdout"]


class CannedClient:
    """The SDK's client with answers made up. `asked` notes what was called with what."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, Any]] = []
        self.fails: FallowError | None = None
        self.interrupts = False
        self.quoted = fake_network.quote_view()
        self.given = [CannedResult()]
        self.job_now = msgspec.structs.replace(
            fake_network.job_view(JOB, "done"), counts={"done": 1}, used_ms=2500, owed_microusd=1230, label="[red]"
        )
        self.ledger = fake_network.ledger_view()
        self.node = NodeView(
            node=NODE,
            label="evil \x1b[31m",
            account=BUYER,
            state="open",
            total=Resources(cpu_milli=4000, memory_mib=8192),
            free=Resources(cpu_milli=2500, memory_mib=4096),
            terms=Terms(price_microusd_per_core_hour=10_000),
            attributes={},
            country="DE",
            trust="new",
            confirmed=0,
            wrong=0,
            leases=1,
            last_seen_at=0,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def _note(self, name: str, *values: object) -> None:
        self.asked.append((name, values))
        if self.fails is not None:
            raise self.fails

    def wasm_order(
        self,
        program: Path,
        args: Any = (),
        inputs: Any = None,
        *,
        items: Any = (),
        env: Any = None,
        **options: Any,
    ) -> Order:
        self._note("wasm_order", program, list(args), inputs, list(items), env, options)
        return Order(id=JOB, vertical="compute", work={}, **completed(options))  # type: ignore[arg-type]

    def comparator(self, program: Path) -> Tolerance:
        self._note("comparator", program)
        return Tolerance(program="c" * 64)

    def quote(self, order: Order, *, secrets: Collection[str] = ()) -> QuoteView:
        self._note("quote", order)
        self.asked_with = sorted(secrets)
        return self.quoted

    def submit(self, order: Order, *, secrets: Mapping[str, str] | None = None) -> JobView:
        self._note("submit", order)
        self.secrets = secrets
        return msgspec.structs.replace(self.job_now, state="running")

    def job(self, job_id: str) -> JobView:
        self._note("job", job_id)
        return self.job_now

    def wait(self, job_id: str) -> JobView:
        self._note("wait", job_id)
        return self.job_now

    def events(self, job_id: str) -> Iterator[Event]:
        yield fake_network.job_view(job_id)
        if self.interrupts:
            raise KeyboardInterrupt
        yield JobEvent(job=job_id, at=1, state="running", item=0, node=NODE)
        yield JobEvent(job=job_id, at=2, state="done")

    def result(self, job_id: str) -> CannedResult:
        self._note("result", job_id)
        return self.given[0]

    def results(self, job_id: str, *, watch: Callable[[Event], None]) -> Iterator[CannedResult]:
        for result in self.given:
            watch(JobEvent(job=job_id, at=1, state=result.item.state, item=result.index))
            yield result

    def all_jobs(self) -> Iterator[JobView]:
        self._note("all_jobs")
        return iter([self.job_now, msgspec.structs.replace(self.job_now, id="1" * 32, state="failed", label="x")])

    def order(self, job_id: str) -> Order:
        self._note("order", job_id)
        needs = Requirements(cpu_milli=2500, countries=["DE", "AT"], attributes={"compute.wasm": "wasi-p1"})
        return Order(id=job_id, vertical="compute", work={}, requirements=needs, max_price_microusd_per_hour=10_000)

    def rerun(self, job_id: str, *, failed: bool, secrets: dict[str, str]) -> JobView:
        self._note("rerun", job_id, failed, secrets)
        return msgspec.structs.replace(self.job_now, id="2" * 32)

    def job_evidence(self, job_id: str) -> list[EvidenceView]:
        self._note("job_evidence", job_id)
        return [fake_network.evidence_view()]

    def items(self, job_id: str, *, after: int, limit: int) -> list[ItemView]:
        self._note("items", job_id, after, limit)
        return [self.given[0].item]

    def all_items(self, job_id: str) -> Iterator[ItemView]:
        self._note("all_items", job_id)
        return iter([fake_network.item_view(0), fake_network.item_view(1, "done")])

    def all_leases(self, job_id: str) -> Iterator[LeaseView]:
        self._note("all_leases", job_id)
        yield from [
            LeaseView(
                id="ef" * 16,
                job=job_id,
                item=0,
                node=NODE,
                state="ended",
                price_microusd_per_hour=1,
                proposed_at=1,
                started_at=None,
                ended_at=2,
                reason="lease.unanswered",
                caused_by="provider",
                used_ms=0,
                owed_microusd=0,
            )
        ]

    def cancel(self, job_id: str) -> JobView:
        self._note("cancel", job_id)
        return msgspec.structs.replace(self.job_now, state="cancelled")

    def balance(self) -> BalanceView:
        self._note("balance")
        return fake_network.balance_view(BUYER)

    def all_movements(self, *, after: str) -> Iterator[StatementLine]:
        self._note("all_movements", after)
        yield from [
            StatementLine(id="1", at=0, kind="grant", credit_class="granted", amount_microusd=5_000_000, ref=""),
            StatementLine(id="2", at=0, kind="usage", credit_class="paid", amount_microusd=-1230, ref=JOB),
            StatementLine(
                id="3", at=0, kind="reserved", credit_class="paid", amount_microusd=0, ref=JOB, held_microusd=4560
            ),
        ]

    def bill(self, job_id: str | None, *, since_ms: int) -> Bill:
        self._note("bill", job_id, since_ms)
        jobs = [self.job_now, msgspec.structs.replace(self.job_now, id="1" * 32, label="other", owed_microusd=770)]
        works = [Work(Delivered(1000 * 3_600_000, 1024 * 3_600_000), "mutual"), Work(Delivered())]
        return make_bill(jobs, works, test=True)

    def nodes(self) -> list[NodeView]:
        self._note("nodes")
        return [self.node]

    def network(self) -> NetworkView:
        return NetworkView(
            net="lab-1",
            public_key="",
            bus_url="",
            preset="lab",
            version="1",
            url="https://net.example",
            install_sha256="5" * 64,
        )

    def delegate(self) -> BuyerKey:
        self._note("delegate")
        return BuyerKey(b"k" * 32, BUYER, "lab-1")

    def delegations(self) -> list[DelegationView]:
        return [fake_network.delegation_view(BUYER, "ab" * 32)]

    def revoke_delegation(self, key: str) -> DelegationView:
        self._note("revoke_delegation", key)
        return fake_network.delegation_view(BUYER, key)

    def create_token(self, *, uses: int, valid_s: int) -> Secret:
        self._note("create_token", uses, valid_s)
        return Secret(secret="join-me")  # noqa: S106

    def create_key(self, *, account: str, scopes: tuple[str, ...], label: str) -> Secret:
        self._note("create_key", account, scopes, label)
        return Secret(secret="fk_new", account=BUYER)  # noqa: S106

    def keys(self, *, after: str, limit: int) -> list[KeyView]:
        self._note("keys", after, limit)
        return [fake_network.key_view()]

    def tokens(self) -> list[TokenView]:
        return [fake_network.token_view()]

    def revoke_token(self, token_id: str) -> None:
        self._note("revoke_token", token_id)

    def revoke_key(self, key_id: str) -> None:
        self._note("revoke_key", key_id)

    def grant(self, account: str, amount_microusd: int) -> BalanceView:
        self._note("grant", account, amount_microusd)
        return fake_network.balance_view(account, amount_microusd)

    def act(self, what: str, subject: str, reason: str) -> ActionView:
        self._note("act", what, subject, reason)
        return ActionView(id=JOB, at=1, account=BUYER, key_id="k1", what=what, subject=subject, reason=reason)

    def all_actions(self) -> list[ActionView]:
        return [self.act("ban", NODE, "sent\x1bspam")]

    def all_bans(self) -> Iterator[BanView]:
        return iter([BanView(subject=BUYER, reason="sent\x1bspam")])

    def all_enrolled(self) -> Iterator[EnrolledView]:
        return iter([fake_network.enrolled_view()])

    def reserve(self) -> ReserveView:
        return fake_network.reserve_view()

    def ledger_check(self) -> LedgerCheckView:
        self._note("ledger_check")
        return self.ledger


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> CannedClient:
    canned = CannedClient()
    monkeypatch.setattr(profiles, "connect", lambda: canned)
    monkeypatch.setenv("COLUMNS", "200")
    return canned


@pytest.fixture
def program(tmp_path: Path) -> str:
    path = tmp_path / "program.wasm"
    path.write_bytes(b"\0asm\1\0\0\0")
    return str(path)


def called(client: CannedClient, name: str) -> Any:
    found = [values for asked, values in client.asked if asked == name]
    assert len(found) == 1, client.asked
    return found[0]
