# ruff: noqa: D102
"""The commands on canned answers: what they ask for, what they print, how they end."""

from __future__ import annotations

import json
import signal
import stat
import subprocess
import sys
from collections.abc import Callable, Collection, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar, Self

import msgspec
import pytest

from fallow.agent.status import Status
from fallow.cli import main, profiles, units
from fallow.cli.profiles import Profile
from fallow.cli.progress import Progress
from fallow.cli.show import quote_line
from fallow.cli.wanted import Wanted
from fallow.domain import views
from fallow.domain.calls import Secret
from fallow.domain.errors import FallowError, InvalidInput, NotAllowed, Unavailable
from fallow.domain.orders import Order, Requirements, Tolerance
from fallow.domain.prices import Delivered
from fallow.domain.resources import Resources, Terms
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
        self.node = views.NodeView(
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

    def quote(self, order: Order, *, secrets: Collection[str] = ()) -> views.QuoteView:
        self._note("quote", order)
        self.asked_with = sorted(secrets)
        return self.quoted

    def submit(self, order: Order, *, secrets: Mapping[str, str] | None = None) -> views.JobView:
        self._note("submit", order)
        self.secrets = secrets
        return msgspec.structs.replace(self.job_now, state="running")

    def job(self, job_id: str) -> views.JobView:
        self._note("job", job_id)
        return self.job_now

    def wait(self, job_id: str) -> views.JobView:
        self._note("wait", job_id)
        return self.job_now

    def events(self, job_id: str) -> Iterator[Event]:
        yield fake_network.job_view(job_id)
        if self.interrupts:
            raise KeyboardInterrupt
        yield views.JobEvent(job=job_id, at=1, state="running", item=0, node=NODE)
        yield views.JobEvent(job=job_id, at=2, state="done")

    def result(self, job_id: str) -> CannedResult:
        self._note("result", job_id)
        return self.given[0]

    def results(self, job_id: str, *, watch: Callable[[Event], None]) -> Iterator[CannedResult]:
        for result in self.given:
            watch(views.JobEvent(job=job_id, at=1, state=result.item.state, item=result.index))
            yield result

    def all_jobs(self) -> Iterator[views.JobView]:
        self._note("all_jobs")
        return iter([self.job_now, msgspec.structs.replace(self.job_now, id="1" * 32, state="failed", label="x")])

    def order(self, job_id: str) -> Order:
        self._note("order", job_id)
        needs = Requirements(cpu_milli=2500, countries=["DE", "AT"], attributes={"compute.wasm": "wasi-p1"})
        return Order(id=job_id, vertical="compute", work={}, requirements=needs, max_price_microusd_per_hour=10_000)

    def rerun(self, job_id: str, *, failed: bool, secrets: dict[str, str]) -> views.JobView:
        self._note("rerun", job_id, failed, secrets)
        return msgspec.structs.replace(self.job_now, id="2" * 32)

    def job_evidence(self, job_id: str) -> list[views.EvidenceView]:
        self._note("job_evidence", job_id)
        return [fake_network.evidence_view()]

    def items(self, job_id: str, *, after: int, limit: int) -> list[views.ItemView]:
        self._note("items", job_id, after, limit)
        return [self.given[0].item]

    def all_items(self, job_id: str) -> Iterator[views.ItemView]:
        self._note("all_items", job_id)
        return iter([fake_network.item_view(0), fake_network.item_view(1, "done")])

    def leases(self, job_id: str, *, limit: int) -> list[views.LeaseView]:
        self._note("leases", job_id, limit)
        return [
            views.LeaseView(
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

    def cancel(self, job_id: str) -> views.JobView:
        self._note("cancel", job_id)
        return msgspec.structs.replace(self.job_now, state="cancelled")

    def balance(self) -> views.BalanceView:
        self._note("balance")
        return fake_network.balance_view(BUYER)

    def statement(self, *, after: str | None, limit: int) -> list[views.StatementLine]:
        self._note("statement", after, limit)
        return [
            views.StatementLine(id="1", at=0, kind="grant", credit_class="granted", amount_microusd=5_000_000, ref=""),
            views.StatementLine(id="2", at=0, kind="usage", credit_class="paid", amount_microusd=-1230, ref=JOB),
            views.StatementLine(
                id="3", at=0, kind="reserved", credit_class="paid", amount_microusd=0, ref=JOB, held_microusd=4560
            ),
        ]

    def bill(self, job_id: str | None, *, since_ms: int) -> Bill:
        self._note("bill", job_id, since_ms)
        jobs = [self.job_now, msgspec.structs.replace(self.job_now, id="1" * 32, label="other", owed_microusd=770)]
        works = [Work(Delivered(1000 * 3_600_000, 1024 * 3_600_000), "mutual"), Work(Delivered())]
        return make_bill(jobs, works, test=True)

    def nodes(self) -> list[views.NodeView]:
        self._note("nodes")
        return [self.node]

    def network(self) -> views.NetworkView:
        return views.NetworkView(
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

    def delegations(self) -> list[views.DelegationView]:
        return [fake_network.delegation_view(BUYER, "ab" * 32)]

    def revoke_delegation(self, key: str) -> views.DelegationView:
        self._note("revoke_delegation", key)
        return fake_network.delegation_view(BUYER, key)

    def create_token(self, *, uses: int, valid_s: int) -> Secret:
        self._note("create_token", uses, valid_s)
        return Secret(secret="join-me")  # noqa: S106

    def create_key(self, *, account: str, scopes: tuple[str, ...], label: str) -> Secret:
        self._note("create_key", account, scopes, label)
        return Secret(secret="fk_new", account=BUYER)  # noqa: S106

    def keys(self, *, after: str, limit: int) -> list[views.KeyView]:
        self._note("keys", after, limit)
        return [fake_network.key_view()]

    def tokens(self) -> list[views.TokenView]:
        return [fake_network.token_view()]

    def revoke_token(self, token_id: str) -> None:
        self._note("revoke_token", token_id)

    def revoke_key(self, key_id: str) -> None:
        self._note("revoke_key", key_id)

    def grant(self, account: str, amount_microusd: int) -> views.BalanceView:
        self._note("grant", account, amount_microusd)
        return fake_network.balance_view(account, amount_microusd)

    def act(self, what: str, subject: str, reason: str) -> views.ActionView:
        self._note("act", what, subject, reason)
        return views.ActionView(id=JOB, at=1, account=BUYER, key_id="k1", what=what, subject=subject, reason=reason)

    def actions(self) -> list[views.ActionView]:
        return [self.act("ban", NODE, "sent\x1bspam")]

    def all_enrolled(self) -> Iterator[views.EnrolledView]:
        return iter([fake_network.enrolled_view()])

    def reserve(self) -> views.ReserveView:
        return fake_network.reserve_view()

    def ledger_check(self) -> views.LedgerCheckView:
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


# run


def test_run_prints_the_programs_output_and_returns_its_code(
    client: CannedClient, program: str, capfd: pytest.CaptureFixture[str]
) -> None:
    client.given = [CannedResult(exit_code=3, state="failed")]
    assert main.run(["run", program]) == 3
    out, err = capfd.readouterr()
    assert out == "out 0\n"
    lines = err.splitlines()
    assert lines[0] == "1 of 2 nodes can take this, from 0.02 USD/h; 0.000333 USD is set aside."
    assert lines[1:4] == [f"job {JOB}: running", "program: running on cdcdcdcdcdcd", "job: done"]
    assert lines[4:] == [
        "warning",
        f"It ended with: exited. See `fallow job why {JOB}`.",
        f"2.5 s, 0.00123 USD TEST on cdcdcdcdcdcd, job {JOB}",
    ]


def test_run_asks_for_what_the_options_say(client: CannedClient, program: str, tmp_path: Path) -> None:
    line = f"run {program} --input a=x.bin --input b=y=z --env K=V=W --cpu 0.5 --memory 512 --country de --country FR"
    line += " --spot --max-price 0.02 --budget 1.5 --time-limit 2h --retries 2 --label mine"
    line += " --near 52.52,13.405 --within-km 50"
    line += " --replicas 3 --compare exact pos -- -v --json"
    assert main.run([*line.split(), "--output", str(tmp_path)]) == 0
    path, args, inputs, items, env, options = called(client, "wasm_order")
    assert (path, args, items) == (Path(program), ["pos", "-v", "--json", "--output", str(tmp_path)], [])
    assert inputs == {"a": Path("x.bin"), "b": Path("y=z")}
    assert env == {"K": "V=W"}
    requirements = options.pop("requirements")
    assert (requirements.cpu_milli, requirements.memory_mib, requirements.countries) == (500, 512, ["DE", "FR"])
    assert (requirements.near, requirements.within_km) == ("851f1d4bfffffff", 50)
    assert options == {
        "spot": True,
        "max_price_microusd_per_hour": 20_000,
        "budget_microusd": 1_500_000,
        "time_limit_s": 7200,
        "retries": 2,
        "label": "mine",
        "replicas": 3,
        "compare": "exact",
    }


def test_a_tolerance_is_of_numbers_or_by_a_program(client: CannedClient, program: str, tmp_path: Path) -> None:
    (comparator := tmp_path / "cmp.wasm").write_bytes(b"\0asm")
    assert main.run(f"quote {program} --compare tolerance --rtol 1e-6".split()) == 0
    *_, options = called(client, "wasm_order")
    assert (options["compare"], options["tolerance"]) == ("tolerance", Tolerance(rtol="1e-6"))
    assert "replicas" not in options  # the client orders as many as a comparison takes
    assert main.run(f"run {program} --compare tolerance --comparator {comparator}".split()) == 0
    assert called(client, "comparator") == (comparator,)
    for wrong in (
        "--compare tolerance",
        "--rtol 1",
        "--compare exact --atol 1",
        "--compare tolerance --rtol x",
        f"--compare tolerance --rtol 1 --comparator {comparator}",
    ):
        assert main.run([*f"run {program}".split(), *wrong.split()]) == 2, wrong


def test_a_process_without_an_end_with_checkpoints_of_its_own() -> None:
    options = Wanted(until_stopped=True, checkpoint="5m").options
    assert (options["until_stopped"], options["checkpoint_s"]) == (True, 300)
    assert Wanted(checkpoint="0").options["checkpoint_s"] == 0
    assert not {"until_stopped", "checkpoint_s"} & set(Wanted().options)


def test_secrets_come_from_here_or_from_files_and_are_shown_nowhere(
    client: CannedClient,
    program: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("FROM_HERE", "s3cret-a")
    (tmp_path / "key").write_text("s3cret-b\nof two lines\n")
    options = ["--secret", "FROM_HERE", "--secret", f"FROM_FILE={tmp_path / 'key'}"]
    assert main.run(["run", *options, program, "--json"]) == 0
    assert client.secrets == {"FROM_HERE": "s3cret-a", "FROM_FILE": "s3cret-b\nof two lines"}
    assert client.asked_with == ["FROM_FILE", "FROM_HERE"], "the quote is asked with their names"
    assert main.run(["run", "--secret", "NOT_HERE", program]) == 2
    assert main.run(["run", "--secret", f"KEY={tmp_path / 'nothing'}", program]) == 2
    assert "s3cret" not in "".join(capfd.readouterr())
    assert "s3cret" not in str(called(client, "wasm_order"))  # the one that was made: values are looked for first


@pytest.mark.parametrize(
    ("said", "asked"),
    [
        ("--gpu rtx4090:2 --vram 24", ("rtx4090", 2, 24 * 1024)),
        ("--gpu a100", ("a100", 1, 0)),
        ("--gpu 3", ("", 3, 0)),
        ("", ("", 0, 0)),
    ],
)
def test_run_asks_for_graphics_processors(
    client: CannedClient, program: str, said: str, asked: tuple[str, int, int]
) -> None:
    assert main.run(["run", program, *said.split()]) == 0
    requirements = called(client, "wasm_order")[-1]["requirements"]
    assert (requirements.gpu_model, requirements.gpus, requirements.vram_mib) == asked


def test_run_as_json_is_one_document(
    client: CannedClient, program: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main.run(["run", program, "--json", "--output", str(tmp_path)]) == 0
    out, err = capfd.readouterr()
    document = json.loads(out)
    assert (document["job"]["id"], document["exit_code"], document["stdout"]) == (JOB, 0, "out 0\n")
    assert document["saved"] == [str(tmp_path / "stdout")]
    assert err == ""
    assert called(client, "wait") == (JOB,)


def test_run_detached_prints_the_id(client: CannedClient, program: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert main.run(["run", program, "--detach"]) == 0
    assert capfd.readouterr().out == f"{JOB}\n"
    assert "result" not in dict(client.asked)


def test_an_interrupted_run_is_cancelled(client: CannedClient, program: str, capfd: pytest.CaptureFixture[str]) -> None:
    client.interrupts = True
    assert main.run(["run", program]) == 130
    assert called(client, "cancel") == (JOB,)
    assert "is cancelled" in capfd.readouterr().err


@pytest.mark.parametrize(
    "options",
    [
        "--cpu many",
        "--cpu 0",
        "--cpu -1",
        "--cpu nan",
        "--country Germany",
        "--near Berlin",
        "--near 52.52,13.405 --within-km 0",
        "--gpu rtx4090:many",
        "--gpu rtx4090:0",
        "--vram 24",
        "--max-price 0.0000001",
        "--budget free",
        "--time-limit soon",
        "--input nameless",
        "--input =x",
        "--memory lots",
        "--frob",
    ],
)
def test_options_that_make_no_sense(
    client: CannedClient, program: str, options: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main.run(["run", program, *options.split()]) == 2
    assert client.asked == []
    captured = capfd.readouterr()
    assert captured.out == ""
    assert "Traceback" not in captured.err
    assert captured.err


def test_a_program_that_is_not_there(client: CannedClient, capfd: pytest.CaptureFixture[str]) -> None:
    assert main.run(["run", "/nowhere/program.wasm"]) == 2
    assert client.asked == []
    assert "/nowhere/program.wasm" in capfd.readouterr().err


# quote and map


def test_quote(client: CannedClient, program: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert main.run(["quote", program, "--cpu", "2"]) == 0
    out = capfd.readouterr().out
    assert ["abababababab", "0.02", "USD", "new", "DE"] in [line.split() for line in out.splitlines()]
    assert "Others cannot: memory: 1." in out
    assert client.quoted.plain_data in out
    assert "submit" not in dict(client.asked)


def test_a_quote_without_nodes_says_why() -> None:
    quote = msgspec.structs.replace(fake_network.quote_view(), candidates=[], why_not={"cpu": 2, "country": 1})
    assert quote_line(quote) == "No node can take this now (country: 1, cpu: 2); it waits until one can."


def test_a_quote_says_when_there_are_fewer_owners_than_results() -> None:
    quote = msgspec.structs.replace(fake_network.quote_view(), replicas=3, compare="exact", owners=2)
    assert "only 2 owners on different networks could give one now" in quote_line(quote)
    assert "only" not in quote_line(msgspec.structs.replace(quote, owners=3))


def test_a_quote_says_what_it_would_cost_the_other_way() -> None:
    plain = fake_network.quote_view()
    assert "from 0.02 USD/h; " in quote_line(plain)
    quote = msgspec.structs.replace(plain, on_demand_microusd_per_hour=20_000, spot_microusd_per_hour=8000)
    assert "from 0.02 USD/h (as spot from 0.008 USD/h); " in quote_line(quote)
    quote = msgspec.structs.replace(quote, price_microusd_per_hour=8000)
    assert "from 0.008 USD/h (on demand from 0.02 USD/h); " in quote_line(quote)


def test_map_prints_in_the_order_of_the_inputs(
    client: CannedClient, program: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    lines, first = tmp_path / "lines", tmp_path / "first.bin"
    lines.write_bytes(b"one\ntwo\n")
    first.write_bytes(b"zero")
    client.given = [CannedResult(2), CannedResult(0), CannedResult(1, exit_code=1, state="failed")]
    assert main.run(["map", program, str(first), "--args-from", str(lines), "--arg", "x"]) == 1
    _, args, _, items, _, _ = called(client, "wasm_order")
    assert (args, items) == (["x"], [first, b"one", b"two"])
    out, err = capfd.readouterr()
    assert out == "out 0\nout 1\nout 2\n"
    assert "line-1 (item 1): exited" in err


def test_map_as_json(client: CannedClient, program: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert main.run(["map", program, program, "--json"]) == 0
    out, err = capfd.readouterr()
    assert [item["input"] for item in json.loads(out)["items"]] == ["program.wasm"]
    assert err == ""
    assert client.asked[-1][0] == "job"


def test_map_of_nothing(client: CannedClient, program: str) -> None:
    assert main.run(["map", program]) == 2
    assert client.asked == []


def test_progress_counts_and_adds_up() -> None:
    progress = Progress(3, shown=False)
    assert progress.line == "0 running, 3 waiting, 0.00 USD"
    progress.event(views.JobEvent(job=JOB, at=0, state="running", item=0))
    progress.event(views.JobEvent(job=JOB, at=0, state="placed", item=1))
    progress.event(views.JobEvent(job=JOB, at=0, state="running"))
    progress.event(fake_network.job_view(JOB))
    assert progress.line == "1 running, 2 waiting, 0.00 USD"
    progress.result(CannedResult(0))  # type: ignore[arg-type]
    assert (progress.line, progress.done) == ("0 running, 2 waiting, 0.000042 USD", 1)


# lists


def test_jobs(client: CannedClient, capfd: pytest.CaptureFixture[str]) -> None:
    assert main.run(["job", "ls"]) == 0
    out = capfd.readouterr().out
    assert JOB in out
    assert "[red]" in out
    assert "0.00123 USD" in out
    assert main.run(["job", "ls", "--json"]) == 0
    assert json.loads(capfd.readouterr().out)[0]["id"] == JOB
    assert main.run(["job", "status", JOB]) == 0
    assert f"Job {JOB}: done" in capfd.readouterr().out
    assert main.run(["job", "items", JOB, "--after", "3"]) == 0
    assert ("items", (JOB, 3, 200)) in client.asked
    assert main.run(["job", "cancel", JOB]) == 0
    assert "cancelled" in capfd.readouterr().out


def test_keys_that_sign(client: CannedClient, capfd: pytest.CaptureFixture[str]) -> None:
    assert main.run(["key", "signing", "ls"]) == 0
    assert "ab" * 32 in capfd.readouterr().out
    assert main.run(["key", "signing", "revoke", "cd" * 32]) == 0
    assert called(client, "revoke_delegation") == ("cd" * 32,)


@pytest.mark.usefixtures("client")
def test_jobs_are_filtered(capfd: pytest.CaptureFixture[str]) -> None:
    for options, expected in (
        ("", [JOB, "1" * 32]),
        ("--state failed", ["1" * 32]),
        ("--label x", ["1" * 32]),
        ("--label x --state done", []),
        ("--limit 1", [JOB]),
    ):
        assert main.run(["job", "ls", "--json", *options.split()]) == 0
        assert [job["id"] for job in json.loads(capfd.readouterr().out)] == expected


def test_job_why_it_waits(client: CannedClient, capfd: pytest.CaptureFixture[str]) -> None:
    client.quoted = msgspec.structs.replace(
        client.quoted,
        candidates=[],
        nodes_total=3,
        why_not={"cpu": 2, "country": 1, "attribute:compute.wasm": 1, "banned": 1, "spot": 3},
    )
    assert main.run(["job", "why", JOB]) == 0
    lines = capfd.readouterr().out.splitlines()
    assert "None of 3 machines can take it." in lines
    for row in (["cpu", "2.5", "cores", "2"], ["country", "DE", "or", "AT", "1"], ["spot", "a", "spot", "price", "3"]):
        assert row in [line.split() for line in lines]
    assert "attribute:compute.wasm  wasi-p1" in "\n".join(lines)
    client.quoted = msgspec.structs.replace(client.quoted, why_not={"busy": 2, "cpu": 1})
    assert main.run(["job", "why", JOB]) == 0
    assert "2 of 3 machines fit and are busy: it begins when one is free." in capfd.readouterr().out
    client.quoted = fake_network.quote_view()
    assert main.run(["job", "why", JOB]) == 0
    assert "1 of 2 machines can take it now." in capfd.readouterr().out


@pytest.mark.usefixtures("client")
def test_the_reserve_is_shown_with_what_it_paid_for(capfd: pytest.CaptureFixture[str]) -> None:
    assert main.run(["reserve"]) == 0
    lines = [line.split() for line in capfd.readouterr().out.splitlines()]
    assert next(line for line in lines if line[:1] == ["TEST"])[2::2] == ["0.00005", "0.00002", "0.00003"]
    assert next(line for line in lines if "owner.paused" in line)[1:] == [
        "owner.paused", "2", "0.000012", "USD", "0.000008", "USD",
    ]  # fmt: skip
    assert main.run(["reserve", "--json"]) == 0
    assert json.loads(capfd.readouterr().out)["uses"][0]["reason"] == "owner.paused"


@pytest.mark.usefixtures("client")
def test_job_why_it_failed(capfd: pytest.CaptureFixture[str]) -> None:
    assert main.run(["job", "why", JOB]) == 0
    out = capfd.readouterr().out
    assert "no node has been found for it yet" in out
    assert "lease.unanswered" in out
    assert "provider" in out
    assert f"it said   {'f' * 64}" in out
    assert f"2 others  {'0' * 64}" in out
    assert main.run(["job", "why", JOB, "--json"]) == 0
    document = json.loads(capfd.readouterr().out)
    assert [item["index"] for item in document["items"]] == [0]
    assert document["evidence"][0]["code"] == "result.wrong"
    assert document["quote"]["nodes_total"] == 2


def test_a_job_again(client: CannedClient, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("KEY", "hush")
    assert main.run(["job", "rerun", JOB]) == 0
    assert main.run(["job", "rerun", JOB, "--failed", "--secret", "KEY"]) == 0
    assert [values for name, values in client.asked if name == "rerun"] == [
        (JOB, False, {}),
        (JOB, True, {"KEY": "hush"}),
    ]
    assert capfd.readouterr().out == ("2" * 32 + "\n") * 2


def test_waiting_for_a_job_gives_its_results(client: CannedClient, capfd: pytest.CaptureFixture[str]) -> None:
    client.given = [CannedResult(0)]
    assert main.run(["job", "wait", JOB]) == 0
    assert capfd.readouterr().out == "out 0\n"
    client.job_now = msgspec.structs.replace(client.job_now, state="failed")
    client.given = [CannedResult(0, 3, "failed")]
    assert main.run(["job", "wait", JOB, "--json"]) == 1
    assert json.loads(capfd.readouterr().out)["items"][0]["exit_code"] == 3


def test_money_is_labelled(client: CannedClient, capfd: pytest.CaptureFixture[str]) -> None:
    assert main.run(["balance"]) == 0
    out = capfd.readouterr().out
    assert "TEST (granted)" in out
    assert "5.00 USD" in out
    assert main.run(["statement", "--limit", "7"]) == 0
    out = capfd.readouterr().out
    assert "TEST (granted)" in out
    assert "-0.00123 USD" in out
    assert "0.00456 USD" in out
    assert called(client, "statement") == (None, 7)


def test_the_bill_is_compared_and_labelled(client: CannedClient, capfd: pytest.CaptureFixture[str]) -> None:
    assert main.run(["bill", JOB, "--since", "2h"]) == 0
    (job_id, since_ms), out = called(client, "bill"), capfd.readouterr().out
    assert (job_id, datetime.now(UTC).timestamp() - since_ms / 1000) == (JOB, pytest.approx(7200, abs=100))
    assert "Paid 0.002 USD for 3,600.0 core-seconds delivered, 0.002 USD per core and hour" in out
    assert "play money" in out
    assert [line.split()[-1] for line in out.splitlines() if JOB in line or "1" * 32 in line] == [
        "mutual",
        "operator-attested",
    ]
    row = next(line.split() for line in out.splitlines() if line.startswith("Salad"))
    assert row == ["Salad", "market", "0.005", "USD", "2026-04-09", row[-1]]
    assert main.run(["bill", "--json"]) == 0
    document = json.loads(capfd.readouterr().out)
    assert [(line["name"], line["owed_microusd"]) for line in document["labels"]] == [("[red]", 1230), ("other", 770)]
    assert document["test"] is True


def test_what_strangers_wrote_does_not_reach_the_terminal(
    client: CannedClient, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main.run(["nodes"]) == 0
    out = capfd.readouterr().out
    assert "\x1b" not in out
    assert "2.5 cores, 4.0 GiB" in out
    assert client.asked == [("nodes", ())]


# the operator


def test_the_operators_commands(client: CannedClient, capfd: pytest.CaptureFixture[str]) -> None:
    assert main.run(["credit", "grant", BUYER, "2.5"]) == 0
    assert called(client, "grant") == (BUYER, 2_500_000)
    capfd.readouterr()
    assert main.run(["token", "new", "--uses", "3", "--valid", "7d"]) == 0
    assert called(client, "create_token") == (3, 604_800)
    said = capfd.readouterr()
    assert said.out == "join-me\n"
    line = said.err.splitlines()[-1].strip()
    assert line.startswith("f=$(mktemp) && curl -fsS https://net.example/install.sh")
    assert f'echo "{"5" * 64}  $f" | sha256sum -c --quiet && sh "$f" https://net.example join-me' in line
    assert main.run(["key", "new", "--scope", "buy", "--scope", "operate"]) == 0
    assert called(client, "create_key") == ("", ("buy", "operate"), "")
    assert main.run(["key", "ls"]) == 0
    assert "k1" in capfd.readouterr().out
    assert main.run(["token", "ls"]) == 0
    assert "abababababababab" in capfd.readouterr().out
    assert main.run(["token", "revoke", "ab" * 8]) == 0
    assert called(client, "revoke_token") == ("ab" * 8,)
    assert main.run(["key", "revoke", "k1", "--json"]) == 0
    assert called(client, "revoke_key") == ("k1",)
    assert main.run(["ledger", "check"]) == 0
    client.ledger = msgspec.structs.replace(client.ledger, ok=False, problems=["one is short"], sums={"paid": 5})
    assert main.run(["ledger", "check"]) == 1
    assert "NOT in balance" in capfd.readouterr().out


def test_where_work_may_run_is_said_by_the_beginning_of_ids(
    client: CannedClient, program: str, capfd: pytest.CaptureFixture[str]
) -> None:
    line = f"--node {client.node.node[:8]} --not-node {BUYER} --per-owner 2 --attribute cpu.model=x --country jp"
    assert main.run(["run", program, *line.split()]) == 0
    needs = called(client, "wasm_order")[-1]["requirements"]
    assert (needs.nodes_allowed, needs.nodes_denied) == ([client.node.node], [BUYER])
    assert (needs.leases_per_owner_max, needs.attributes, needs.countries) == (2, {"cpu.model": "x"}, ["JP"])
    assert main.run(["run", program, "--node", "ffffffff"]) == 2
    assert "[node.which]" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("--country Germany", "'Germany' is no country"),
        ("--cpu 0", "--cpu, in thousandths"),
        ("--gpu 4090", "A model has a name"),
        ("--env 日本=x", "no name that a program can be given"),
        ("--input ../a={file}", "no name that a program can be given"),
        ("--output {file}", "File exists"),
        ("--output /proc/nowhere", "/proc/nowhere"),
    ],
)
def test_what_is_wrong_is_said_before_anything_is_bought(
    client: CannedClient, program: str, line: str, says: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main.run(["run", program, *line.format(file=program).split()]) == 2
    assert says in capfd.readouterr().err
    assert "submit" not in [name for name, _ in client.asked]


def test_a_file_that_is_no_program_is_not_sent(
    client: CannedClient, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (text := tmp_path / "README.md").write_text("# Read me")
    assert main.run(["run", str(text)]) == 2
    assert "neither a WebAssembly program nor a Python script" in capfd.readouterr().err
    assert main.run(["map", str(text), str(tmp_path / "missing")]) == 2
    assert "There is no file" in capfd.readouterr().err
    assert client.asked == []


def test_nodes_and_accounts_are_banned_with_a_reason(client: CannedClient, capfd: pytest.CaptureFixture[str]) -> None:
    node = fake_network.enrolled_view().node
    assert main.run(["node", "ban", node[:8], "--reason", "sent spam"]) == 0
    assert f"Banned: {node} (sent spam)" in capfd.readouterr().out
    assert main.run(["node", "unban", BUYER, "--reason", "paid up", "--json"]) == 0
    assert json.loads(capfd.readouterr().out)["what"] == "unban"
    for which in (node[:3], "ffffffff"):
        assert main.run(["node", "ban", which, "--reason", "spam"]) == 2
        assert "[node.which]" in capfd.readouterr().err
    assert main.run(["node", "ban", node]) == 2
    assert main.run(["node", "vouch", BUYER, "--reason", "contract 17"]) == 0
    assert f"Vouched for: {BUYER} (contract 17)" in capfd.readouterr().out
    acts = [values for name, values in client.asked if name == "act"]
    assert acts == [("ban", node, "sent spam"), ("unban", BUYER, "paid up"), ("vouch", BUYER, "contract 17")]


def test_bans_are_listed(client: CannedClient, capfd: pytest.CaptureFixture[str]) -> None:
    assert main.run(["node", "ls"]) == 0
    said = capfd.readouterr().out
    assert fake_network.enrolled_view().node in said
    assert "sent spam" in said
    assert main.run(["node", "log"]) == 0
    said = capfd.readouterr().out
    assert "sent\ufffdspam" in said
    assert "(key k1)" in said
    assert client.asked


# errors


@pytest.mark.parametrize(
    ("error", "code"),
    [(Unavailable("x.y", "It is [b]away[/b].", "Wait."), 1), (InvalidInput("x.y", "It is [b]away[/b].", "Wait."), 2)],
)
def test_an_error_is_a_sentence_and_a_hint(
    client: CannedClient, error: FallowError, code: int, capfd: pytest.CaptureFixture[str]
) -> None:
    client.fails = error
    assert main.run(["balance"]) == code
    out, err = capfd.readouterr()
    assert (out, err) == ("", "Error: It is [b]away[/b].  [x.y]\nWait.\n")
    assert main.run(["balance", "--json"]) == code
    out, err = capfd.readouterr()
    assert (json.loads(out)["code"], err) == ("x.y", "")


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("job status ../account", "job.id"),
        ("job cancel 0", "job.id"),
        ("job why \ud800", "job.id"),
        ("job items %0a", "job.id"),
        ("key revoke ../tokens", "key.id"),
        ("credit grant 0x 1", "identity.malformed"),
        ("credit grant 0x" + "0" * 40 + " 1e400", "cli.number"),
        ("credit grant 0x" + "0" * 40 + " nan", "cli.number"),
        ("login ftp://host key", "sdk.url"),
        ("login http://:80 key", "sdk.url"),
        ("login http://127.0.0.1:1 kéy", "sdk.key"),
        ("login https://host key --ca sha256:short", "tls.pin"),
        ("login https://host", "login.key"),
        ("login https://host key --ca /nowhere/ca.pem", "tls.ca_file"),
        ("token new --valid never", "cli.duration"),
    ],
)
def test_what_cannot_be_meant_is_refused_before_anything_is_sent(
    line: str, code: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FALLOW_URL", "http://127.0.0.1:1")  # nobody is there: who asks is told that it is unreachable
    monkeypatch.setenv("FALLOW_API_KEY", "fk_x")
    assert main.run([*line.split(), "--json"]) == 2
    out, err = capfd.readouterr()
    error = json.loads(out)
    assert (error["kind"], error["code"], err) == ("InvalidInput", code, "")


def test_unknown_commands_are_explained(capfd: pytest.CaptureFixture[str]) -> None:
    assert main.run(["frobnicate"]) == 2
    assert "frobnicate" in capfd.readouterr().err


# profiles


def test_a_profile_is_kept_for_its_owner_only(tmp_path: Path) -> None:
    env = {"XDG_CONFIG_HOME": str(tmp_path / "config")}
    path = profiles.profile_path(env)
    profiles.save(Profile("https://a.example", 'k"ey'), path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert profiles.load(env) == Profile("https://a.example", 'k"ey')
    profiles.save(Profile("https://b.example", "other"), path)
    assert profiles.load(env).url == "https://b.example"
    assert [each.name for each in path.parent.iterdir()] == ["profile.toml"]


def test_the_environment_comes_first_and_keys_stay_with_their_network(tmp_path: Path) -> None:
    env = {"XDG_CONFIG_HOME": str(tmp_path)}
    with pytest.raises(NotAllowed) as raised:
        profiles.load(env)
    assert "fallow login" in raised.value.hint
    profiles.save(Profile("https://a.example", "stored"), profiles.profile_path(env))
    assert profiles.load(env | {"FALLOW_API_KEY": "given"}) == Profile("https://a.example", "given")
    assert profiles.load(env | {"FALLOW_URL": "https://b.example", "FALLOW_API_KEY": "b"}).url == "https://b.example"
    with pytest.raises(NotAllowed):
        profiles.load(env | {"FALLOW_URL": "https://b.example"})
    profiles.profile_path(env).write_text("url = ")
    with pytest.raises(InvalidInput):
        profiles.load(env)


class LoginClient(CannedClient):
    """Notes which network it was made for."""

    made: ClassVar[list[tuple[str, str]]] = []

    def __init__(self, url: str, key: str, *, ca: object = None, **_: object) -> None:
        super().__init__()
        assert ca is None
        self.made.append((url, key))
        if key == "wrong":
            self.fails = NotAllowed("auth.key", "The API key is not valid.")
        if key == "operator":
            self.fails = NotAllowed("scope.missing", "This API key may not buy.")

    def network(self) -> views.NetworkView:
        return views.NetworkView(net="lab-1", public_key="", bus_url="", preset="lab", version="1")


def test_who_waits_for_the_network_is_told_so(capfd: pytest.CaptureFixture[str]) -> None:
    with profiles.client_of(Profile("http://127.0.0.1:1", "fk_x")) as client:
        client._client._patience.told(Unavailable("sdk.unreachable", "Nobody \x1b[31m answers."))
    out, err = capfd.readouterr()
    assert out == ""
    assert err == "Waiting for the network at http://127.0.0.1:1 (Ctrl-C ends it): Nobody \ufffd[31m answers.\n"


@pytest.mark.parametrize(("key", "code"), [("buyer", 0), ("operator", 0), ("wrong", 1)])
def test_login_keeps_a_key_that_the_network_knows(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, key: str, code: int
) -> None:
    monkeypatch.setattr("fallow.cli.profiles.Client", LoginClient)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    assert main.run(["login", "https://a.example/", key]) == code
    assert LoginClient.made[-1] == ("https://a.example", key)
    assert profiles.profile_path().exists() == (code == 0)
    if code == 0:
        signing_key = BuyerKey(b"k" * 32, BUYER, "lab-1").text if key == "buyer" else ""
        assert profiles.load() == Profile("https://a.example", key, signing_key=signing_key)
        monkeypatch.setenv("FALLOW_API_KEY", "another account's")
        assert profiles.load().signing_key == ""


# units


@pytest.mark.parametrize(
    ("amount", "text"),
    [
        (0, "0.00 USD"),
        (1, "0.000001 USD"),
        (12_500, "0.0125 USD"),
        (1_500_000, "1.50 USD"),
        (-1_230, "-0.00123 USD"),
        (1_234_567_890_000, "1,234,567.89 USD"),
    ],
)
def test_money_has_two_to_six_digits(amount: int, text: str) -> None:
    assert units.usd(amount) == text
    assert units.microusd(text.removesuffix(" USD").replace(",", "").lstrip("-")) == abs(amount)


@pytest.mark.parametrize(("text", "seconds"), [("90", 90), ("90s", 90), ("15m", 900), ("24h", 86_400), ("7d", 604_800)])
def test_durations(text: str, seconds: int) -> None:
    assert units.seconds(text) == seconds


# starting


def test_help_loads_neither_the_client_nor_the_network() -> None:
    code = (
        "import sys, json\n"
        "from fallow.cli import main\n"
        "assert main.run(['--help']) == 0\n"
        "print(json.dumps(sorted(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    *help_text, loaded = done.stdout.splitlines()
    assert not {"httpx2", "litestar", "msgspec", "fallow.sdk.client", "fallow.cli.run"} & set(json.loads(loaded))
    assert any("run" in line for line in help_text)


@pytest.mark.parametrize("command", [entry.name for entry in main.COMMANDS])
def test_every_command_explains_itself(command: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert main.run([command, "--help"]) == 0
    assert "Usage: fallow" in capfd.readouterr().out


def test_ctrl_c_at_the_question_ends_it_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Although the event loop keeps Ctrl-C for later while it is asked."""

    class Terminal:
        def isatty(self) -> bool:
            return True

        def readline(self) -> str:
            signal.raise_signal(signal.SIGINT)
            return "y\n"

    agreed = []

    async def join(*_: object, agree: Callable[[str], bool], **__: object) -> None:
        agreed.append(agree("What it means."))

    monkeypatch.setattr("fallow.bootstrap.agent.join", join)
    monkeypatch.setattr("sys.stdin", Terminal())
    assert main.run(["agent", "join", "http://127.0.0.1:1", "--token", "t"]) == main.INTERRUPTED_EXIT
    assert agreed == []


def test_a_provider_reads_how_he_stands_and_what_he_earned(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    standing = views.StandingView(
        state="idle", trust="proven", confirmed=12, wrong=1, suspended_until=0, left_alone_until=0,
        refused=[views.RefusalView(boot=3, seq=9, code="record.body", at=0)],
        usage_microusd={"granted": 1500, "paid": 0},
    )  # fmt: skip
    status = Status(
        node=NODE, net="lab-1", account="0x" + "11" * 20, mode="open", boot=3,
        offered=Resources(cpu_milli=1000, memory_mib=2048, disk_mib=1024),
        free=Resources(cpu_milli=500, memory_mib=1024),
        leases=[JOB], records_waiting=0, records_refused=[], link_trouble="", disk_trouble="",
        attributes={"compute.wasm": "wasi-p1"}, kinds=["compute.wasm"], missing={"compute.container": "no podman"},
        terms=Terms(price_microusd_per_core_hour=20_000), standing=standing,
    )  # fmt: skip

    async def ask(*_: object) -> object:
        owner = {
            "reasons": [("owner.load", "It is busy.")],
            "unseen": [],
            "trouble": "",
            "readings": {"data_bytes": 3 << 19},
        }
        return {**msgspec.to_builtins(status), "owner": owner}

    monkeypatch.setattr("fallow.agent.control.ask", ask)
    assert main.run(["agent", "status"]) == 0
    told = dict(line.split("  ", 1) for line in capfd.readouterr().out.splitlines())
    assert told.pop("node").strip() == NODE
    said = {name: text.strip() for name, text in told.items()}
    assert said["offered"] == "1 core, 2.0 GiB, 1.0 GiB of disk"
    assert said["asked"] == "0.02 USD a core and hour"
    assert (said["its owner's rules"], said["moved this month"]) == ("It is busy.", "1.5 MiB, up and down")
    assert said["what runs here"] == "compute.wasm wasi-p1"
    assert said["what does not"] == "compute.container: no podman"
    assert said["the network says"] == "idle; proven, 12 results confirmed, 1 wrong"
    assert said["records refused"] == "3/9 record.body"
    assert said["earned by usage"] == "0.0015 USD TEST (granted)"
    assert said["earned incentive"].startswith("none")
    assert main.run(["agent", "status", "--json"]) == 0
    assert json.loads(capfd.readouterr().out)["standing"]["confirmed"] == 12
