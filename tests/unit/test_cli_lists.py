"""What buyers look up: jobs, why they wait or failed, bills; on canned answers."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import msgspec
import pytest

from fallow.cli import main
from tests.unit import fake_network
from tests.unit.canned_client import JOB, CannedClient, CannedResult, called


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
    assert "1.5 s" in capfd.readouterr().out
    client.given[0].item = msgspec.structs.replace(client.given[0].item, running_ms=8000)
    assert main.run(["job", "items", JOB]) == 0
    assert "9.5 s" in capfd.readouterr().out, "what runs shows its time so far"
    assert main.run(["job", "cancel", JOB]) == 0
    assert "cancelled" in capfd.readouterr().out


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
    assert main.run(["job", "ls", "--state", "fialed"]) == 2


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
    assert main.run(["statement"]) == 0
    out = capfd.readouterr().out
    assert "TEST (granted)" in out
    assert "-0.00123 USD" in out
    assert "0.00456 USD" in out
    assert called(client, "all_movements") == ("",)
    assert main.run(["statement", "--after", "5", "--limit", "2", "--json"]) == 0
    assert [line["id"] for line in json.loads(capfd.readouterr().out)] == ["1", "2"]
    assert client.asked[-1] == ("all_movements", ("5",))


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
    assert main.run(["bill", "--since", "999999999d"]) == 0, "before there were clocks"


def test_credits_that_were_worth_something_are_not_called_test() -> None:
    balance = fake_network.balance_view("0x")
    for part in ("spendable", "reserved", "spent"):
        assert not msgspec.structs.replace(balance, **{part: {"granted": 5, "paid": 1}}).pays_with_test
        assert msgspec.structs.replace(balance, **{part: {"granted": 5, "paid": 0}}).pays_with_test


def test_what_strangers_wrote_does_not_reach_the_terminal(
    client: CannedClient, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main.run(["nodes"]) == 0
    out = capfd.readouterr().out
    assert "\x1b" not in out
    assert "2.5 cores, 4.0 GiB" in out
    assert client.asked == [("nodes", ())]
