"""The commands of operators and providers on canned answers."""

from __future__ import annotations

import json

import msgspec
import pytest

from fallow.agent.status import Status
from fallow.cli import main
from fallow.domain.resources import Resources, Terms
from fallow.domain.views.nodes import RefusalView, StandingView
from tests.unit import fake_network
from tests.unit.canned_client import JOB, NODE, CannedClient, called
from tests.unit.fake_network import BUYER


def test_keys_that_sign(client: CannedClient, capfd: pytest.CaptureFixture[str]) -> None:
    assert main.run(["key", "signing", "ls"]) == 0
    assert "ab" * 32 in capfd.readouterr().out
    assert main.run(["key", "signing", "revoke", "cd" * 32]) == 0
    assert called(client, "revoke_delegation") == ("cd" * 32,)


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


def test_nodes_and_accounts_are_banned_with_a_reason(client: CannedClient, capfd: pytest.CaptureFixture[str]) -> None:
    node = fake_network.enrolled_view().node
    assert main.run(["node", "ban", node[:8], "--reason", "sent spam"]) == 0
    assert f"Banned: {node} (sent spam)" in capfd.readouterr().out
    assert main.run(["node", "unban", BUYER, "--reason", "paid up", "--json"]) == 0
    assert json.loads(capfd.readouterr().out)["what"] == "unban"
    assert main.run(["node", "bans"]) == 0
    assert [line.split() for line in capfd.readouterr().out.splitlines()][-1] == [BUYER, "sent\ufffdspam"]
    assert main.run(["node", "bans", "--json"]) == 0
    assert json.loads(capfd.readouterr().out) == [{"subject": BUYER, "reason": "sent\x1bspam"}]
    for which, why in ((node[:3], "is too short"), ("ffffffff", "No node's id begins with 'ffffffff'.")):
        assert main.run(["node", "ban", which, "--reason", "spam"]) == 2
        said = capfd.readouterr().err
        assert "[node.which]" in said
        assert why in said
    assert main.run(["node", "ban", node]) == 2
    assert main.run(["node", "vouch", BUYER, "--reason", "contract 17"]) == 0
    assert f"Vouched for: {BUYER} (contract 17)" in capfd.readouterr().out
    assert main.run(["node", "erase", BUYER, "--reason", "asked for it"]) == 0
    assert f"Erased what was known of: {BUYER} (asked for it)" in capfd.readouterr().out
    acts = [values for name, values in client.asked if name == "act"]
    assert acts == [
        ("ban", node, "sent spam"),
        ("unban", BUYER, "paid up"),
        ("vouch", BUYER, "contract 17"),
        ("erase", BUYER, "asked for it"),
    ]


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


def test_a_provider_reads_how_he_stands_and_what_he_earned(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    standing = StandingView(
        state="idle", trust="proven", confirmed=12, wrong=1, suspended_until=0, left_alone_until=0,
        refused=[RefusalView(boot=3, seq=9, code="record.body", at=0)],
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
            "readings": {"data_bytes": 3 << 19, "power_w": 47.4},
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
    assert said["draws"] == "47 W, processors and NVIDIA's cards"
    assert said["what runs here"] == "compute.wasm wasi-p1"
    assert said["what does not"] == "compute.container: no podman"
    assert said["the network says"] == "idle; proven, 12 results confirmed, 1 wrong"
    assert said["records refused"] == "3/9 record.body"
    assert said["earned by usage"] == "0.0015 USD TEST (granted)"
    assert said["earned incentive"].startswith("in closed epochs"), "the network says nothing of it here"
    assert main.run(["agent", "status", "--json"]) == 0
    assert json.loads(capfd.readouterr().out)["standing"]["confirmed"] == 12
