"""Audits of the golden epochs, as files in a folder: what holds, what is a lie, and what a node is told."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from pathlib import Path
from typing import Any

import msgspec
import pytest

from fallow.adapters.archive import folder_archive
from fallow.cli import main, profiles
from fallow.cli.plots import PALE, THEN, WAS
from fallow.domain.epochs.manifest import MANIFEST, STATEMENT, path_of
from fallow.domain.epochs.statement import NONE, Policy, Statement
from fallow.domain.facts import NodeShown
from fallow.domain.identity import address_text
from fallow.domain.network_facts import Earned, Tariffed
from fallow.domain.records import Body
from fallow.domain.wallets import address_of
from fallow.verticals.storage.core.metering import StorageMetering
from fallow.verticals.storage.core.tariff import HOUR_MS, STORED
from tests.epoch_files import NETWORK, NETWORK_KEY, EpochFiles, Node
from tests.epoch_world import ACCOUNTS, HOLDING, NODES, VESTING, settled
from tests.gateway_stake import OWNER, limit, overstated
from tests.golden_epoch import FIRST
from tests.golden_folder import close_into, golden_folder, write
from tests.golden_happened import DELEGATOR
from tests.golden_storage import settled as settled_window
from tests.golden_storage import used
from tests.unit.canned_client import CannedClient

KEY = ("--key", NETWORK_KEY.hex())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Both golden epochs as they would be fetched."""
    return golden_folder(tmp_path)


def test_an_epoch_of_an_older_policy_is_not_explained_by_this_one(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    old = Policy(name="rewards", version=1, digest=bytes(32), parameters={"units_per_microusd": 1})
    write(tmp_path, FIRST, b"", NONE, policies=[old])
    for command in (["audit", str(FIRST)], ["explain", str(FIRST), NODES[0].hex()], ["what-if", str(FIRST)]):
        code, told = run(tmp_path, capfd, *command)
        assert code != 0
        assert told["message"] == "This code does not have the policy rewards 1 (000000000000)."
        assert told["hint"] == "Install the version that closed the epoch."


def run(folder: Path, capfd: pytest.CaptureFixture[str], *words: str) -> tuple[int, Any]:
    """Run `fallow epoch ...` without any network; returns the exit code and what it printed as JSON."""
    code = main.run(["epoch", *words, "--into", str(folder), *KEY, "--json"])
    return code, json.loads(capfd.readouterr().out)


def test_an_epoch_is_computed_again_from_its_files_alone(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    code, first = run(folder, capfd, "audit", str(FIRST))
    assert (code, first["totals"]["bought.2.income"]) == (0, "900")
    code, then = run(folder, capfd, "audit", str(FIRST + 1))
    assert (code, then["opening"]) == (0, first["closing"])
    assert int(then["totals"]["minted"]) == int(first["totals"]["minted"]) + int(then["totals"]["incentive"])


@pytest.mark.parametrize(
    "lie",
    [
        {"root": bytes([1]) * 32},
        {"settlement_total": (901).to_bytes(32)},
        {"closing": bytes([2]) * 32},
        {"opening": bytes([3]) * 32},
        {"totals": {"revenue": bytes(32)}},
        {"leaf_count": 9},
    ],
)
def test_what_an_operator_says_otherwise_is_named(
    tmp_path: Path, lie: dict[str, Any], capfd: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path, FIRST, b"", NONE, **lie)
    code, error = run(tmp_path, capfd, "audit", str(FIRST))
    assert (code != 0, error["code"]) == (True, "epoch.wrong")
    (name,) = lie
    assert f"{name} is" in error["message"]


class Network(CannedClient):
    """One from which all of an epoch comes that is asked for."""

    def __init__(self, epochs: Path) -> None:
        super().__init__()
        self.fetched: list[int] = []
        self._epochs = epochs

    def fetch_epoch(self, number: int, into: Path, *, key: str = "") -> None:
        """As the real one puts it there."""
        assert key == NETWORK_KEY.hex()
        self.fetched.append(number)
        shutil.copytree(self._epochs / path_of(number, ""), into / path_of(number, ""), dirs_exist_ok=True)


@pytest.mark.parametrize("missing", [STATEMENT, MANIFEST, "batches", "records/lease.settled", "lines", "state"])
def test_what_is_missing_in_the_folder_is_fetched_and_nothing_else(
    folder: Path, missing: str, tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """A download that broke off left some of its files, and so did `fallow agent promises` in the same folder."""
    whole = tmp_path_factory.mktemp("network")
    shutil.copytree(folder, whole, dirs_exist_ok=True)
    network = Network(whole)
    monkeypatch.setattr(profiles, "load", lambda: profiles.Profile("http://network.example", "", ""))
    monkeypatch.setattr(profiles, "client_of", lambda _: network)
    (folder / path_of(FIRST, missing)).unlink()
    if missing.startswith(("batches", "records")):
        assert run(folder, capfd, "audit", str(FIRST + 1))[0] == 0, "it takes no records of the epoch before"
        assert network.fetched == []
    for _ in range(2):
        code, told = run(folder, capfd, "audit", str(FIRST))
        assert (code, told["epoch"], network.fetched) == (0, FIRST, [FIRST])


def test_another_networks_epoch_of_the_same_number_says_where_it_lies(
    folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Numbers are the calendar's, and the folder is called the same wherever nobody names one."""
    other = ("--key", bytes(range(32)).hex())
    assert main.run(["epoch", "audit", str(FIRST), "--into", str(folder), *other, "--json"]) != 0
    error = json.loads(capfd.readouterr().out)
    assert error["code"] == "signing.signature"
    assert f"{folder}/" in error["message"]
    assert "another network" in error["hint"]


def test_rules_that_the_statement_does_not_pin_give_another_epoch(
    folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    said = Statement.open((folder / path_of(FIRST, STATEMENT)).read_bytes(), NETWORK_KEY)
    rules = msgspec.structs.replace(said.policies[0], parameters=said.policies[0].parameters | {"cap_ppm": 1})
    write(folder, FIRST, b"", NONE, policies=[rules, *said.policies[1:]])
    code, error = run(folder, capfd, "audit", str(FIRST))
    assert (code != 0, error["code"]) == (True, "epoch.wrong")


def test_a_node_is_told_why(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    code, told = run(folder, capfd, "explain", str(FIRST), NODES[2].hex())
    assert code == 0
    (line,) = [line for line in told["lines"] if line["vertical"] == "compute"]
    assert (line["usage"], line["score_ppm"], line["ended"]) == ("0", 0, [["result.wrong", "provider", 1]])
    records = [(record["kind"], record["what"]) for record in told["records"]]
    own, of_network = records[:-2], records[-2:]
    assert {kind for kind, _ in own} == {"lease.accepted", "lease.checkpoint", "usage.receipt"}
    assert [json.loads(what)["used_ms"] for kind, what in own if kind == "usage.receipt"] == [1000, 600]
    assert of_network == [("lease.settled", "0 ms charged, 0.00 USD earned result.wrong"), ("node.shown", "wrong")]
    assert run(folder, capfd, "explain", str(FIRST), NODES[2].hex()[:12]) == (0, told)
    assert run(folder, capfd, "explain", str(FIRST), "")[1]["code"] == "node.ambiguous"
    assert main.run(["epoch", "explain", str(FIRST), NODES[2].hex(), "--into", str(folder), *KEY]) == 0
    said = capfd.readouterr().out
    assert "suspended" in said
    assert "result.wrong" in said


def test_a_node_is_told_what_is_held_of_its_pay_and_when_it_comes(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path, FIRST, b"", NONE, msgspec.structs.replace(HOLDING, vesting=3))
    code, told = run(tmp_path, capfd, "explain", str(FIRST), NODES[0].hex())
    assert code == 0
    (line,) = [line for line in told["lines"] if line["vertical"] == "compute"]
    kept = {one["part"]: one for one in line["kept"]}
    assert (line["usage"], kept["usage"]["held"]) == ("900", "675")
    assert int(kept["incentive"]["held"]) + int(kept["incentive"]["vesting"]) == int(line["incentive"]) > 0
    assert main.run(["epoch", "explain", str(FIRST), NODES[0].hex(), "--into", str(tmp_path), *KEY]) == 0
    said = capfd.readouterr().out
    assert "usage held, not owed yet: 0.000675 USD" in said
    assert "vests" in said


def test_an_audit_adds_orders_up_again_and_explains_the_hours_of_a_node(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """No node ever handed in the orders that the golden epochs of storage speak of."""
    opening, previous = b"", NONE
    for number in (FIRST, FIRST + 1):
        opening, previous = write(tmp_path, number, opening, previous, HOLDING, {"storage": StorageMetering()})
    code, told = run(tmp_path, capfd, "audit", str(FIRST))
    assert (code, told["code"]) == (2, "epoch.recount")
    assert told["message"].startswith("6 sums of epoch 20000 are not what their records make: hour 480001 of node ")
    assert "egress_bytes 40,000,000,000, by its orders 0" in told["message"]
    code, told = run(tmp_path, capfd, "audit", str(FIRST + 1))
    assert (code, told["sums"]) == (0, {"right": 1, "unsure": 0})
    code, told = run(tmp_path, capfd, "explain", str(FIRST), NODES[0].hex())
    assert [line["vertical"] for line in told["lines"]] == ["core", "storage"]
    assert [one["what"] for one in told["records"]][:1] == [
        "storage: 40,000,000,000 egress_bytes, 1,000,000,000,000 stored_byte_hours by 4 orders"
    ]
    code, told = run(tmp_path, capfd, "explain", str(FIRST + 1), NODES[2].hex())
    (line,) = told["lines"]
    assert {one["code"] for one in line["kept"]} == {"storage.audits_failed"}
    assert [one["what"] for one in told["records"]] == ["storage: shut out, storage.audits_failed (1 findings)"]


def day_of_storage(number: int, paid: int, gave: int = 100) -> dict[str, bytes]:
    """An epoch in which a node is told of so many byte-hours an hour, or of none, and its account paid for `paid`."""
    network = Node(0)
    network.key, network.id, network.boot = NETWORK, NETWORK_KEY, number
    bodies: list[Body] = []
    for hour in range(number * 24, number * 24 + 24):
        if gave:
            told = msgspec.structs.replace(used(0, 0, 0, 0, 0), used={STORED: gave})
            bodies.append(msgspec.structs.replace(told, window=hour, until_ms=hour * HOUR_MS))
        more = [Tariffed(meter=STORED, before=bytes(32), after=paid.to_bytes(32))]
        window = msgspec.structs.replace(settled_window(hour, {}, ()), until_ms=hour * HOUR_MS)
        bodies.append(msgspec.structs.replace(window, earned=[Earned(payee=ACCOUNTS[0], used=more, income={})]))
    made = EpochFiles(number, [network.batch(*bodies)])
    return {name: bytes(data) for name, data in made.files.items()} | {MANIFEST: made.manifest.encode()}


@pytest.mark.parametrize(("paid", "above"), [(100, []), (120, [STORED])])
def test_an_audit_names_who_was_paid_for_more_than_his_nodes_gave(
    tmp_path: Path, paid: int, above: list[str], capfd: pytest.CaptureFixture[str]
) -> None:
    opening, previous = b"", NONE
    for number in (FIRST, FIRST + 1):
        files = day_of_storage(number, paid)
        opening, previous = close_into(
            tmp_path, number, files, opening, previous, meterings={"storage": StorageMetering()}
        )
    code, told = run(tmp_path, capfd, "audit", str(FIRST))
    assert (code, told["paid_use"]) == (0, {"accounts": 0, "above": []}), (
        "what was paid for was used before it, perhaps"
    )
    code, told = run(tmp_path, capfd, "audit", str(FIRST + 1))
    assert (code, told["sums"], told["paid_use"]["accounts"]) == (0, {"right": 24, "unsure": 0}, 1)
    assert [one["meter"] for one in told["paid_use"]["above"]] == above
    assert main.run(["epoch", "audit", str(FIRST + 1), "--into", str(tmp_path), *KEY]) == 0
    said = capfd.readouterr().out
    whose = address_text(ACCOUNTS[0])
    if above:
        assert (
            f"{whose} was paid for 2,760 stored_byte_hours of storage; its nodes are told to have given 2,600" in said
        )
    else:
        assert "No account was paid for more than its nodes are told to have given; 1 were looked at." in said


def test_an_epoch_in_which_accounts_are_paid_and_nothing_is_told_hides_nothing(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    opening, previous = b"", NONE
    for number, gave in ((FIRST, 0), (FIRST + 1, 100), (FIRST + 2, 0)):
        opening, previous = close_into(
            tmp_path,
            number,
            day_of_storage(number, 100, gave),
            opening,
            previous,
            meterings={"storage": StorageMetering()},
        )
    accounts = [run(tmp_path, capfd, "audit", str(FIRST + day))[1]["paid_use"] for day in range(3)]
    assert accounts[:2] == [{"accounts": 0, "above": []}] * 2, "before use was told of by node nothing can be compared"
    (above,) = accounts[2]["above"]
    assert (above["paid"], above["used"]) == (2300, 200)


def test_an_audit_finds_who_stood_for_a_gateway_that_ordered_beyond_its_limit(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    network = Node(0)
    network.key, network.id = NETWORK, NETWORK_KEY
    made = EpochFiles(FIRST, [network.batch(overstated(limit(5), 5), overstated(limit(5), 6))])
    files = {name: bytes(data) for name, data in made.files.items()} | {MANIFEST: made.manifest.encode()}
    close_into(tmp_path, FIRST, files)
    code, told = run(tmp_path, capfd, "audit", str(FIRST))
    owner, evidence = address_text(address_of(OWNER)), hashlib.sha256(overstated(limit(5), 6).order).hexdigest()
    assert code == 0
    assert told["gateways"] == [{"operator": owner, "reason": "gateway.overstated", "evidence": evidence}]
    assert main.run(["epoch", "audit", str(FIRST), "--into", str(tmp_path), *KEY]) == 0
    assert f"{owner} stood for a gateway that ordered beyond its limit: 5 % of his pool" in capfd.readouterr().out


def test_what_a_node_signs_in_the_networks_name_explains_nothing(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    said = NodeShown(node=NODES[2], what="wrong", code="result.wrong")
    forged = EpochFiles(FIRST, [Node(9).batch(said), Node(8).batch(settled(1, 2, 2))])
    forged.put(folder_archive(tmp_path))
    code, told = run(tmp_path, capfd, "explain", str(FIRST), NODES[2].hex())
    assert (code, told) == (0, {"lines": [], "records": []})


def test_what_other_rules_would_have_given(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    code, found = run(folder, capfd, "what-if", str(FIRST), "--set", "cap_ppm=500000")
    assert code == 0
    changed = {row["node"]: (row["incentive"], row["incentive_then"]) for row in found if row["incentive"]}
    assert changed
    assert all(then * 2 == before for before, then in changed.values())
    code, error = run(folder, capfd, "what-if", str(FIRST), "--set", "cap=5")
    assert (code != 0, error["code"]) == (True, "epoch.rules")
    code, error = run(folder, capfd, "what-if", str(FIRST), "--rewards", "ponzi")
    assert (code != 0, error["code"]) == (True, "settings.rewards")


def test_another_model_and_a_part_of_a_schedule(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    of_half_the_fees = ("--rewards", "work_only", "--set", "schedule.blocks=9")
    code, found = run(folder, capfd, "what-if", str(FIRST), *of_half_the_fees)
    assert code == 0
    changed = {row["node"]: (row["incentive"], row["incentive_then"]) for row in found if row["incentive"]}
    assert all(then * 2 == before for before, then in changed.values())
    held = ("--set", "held.withheld_ppm=500000,250000", "--set", "held.step=1")
    code, found = run(folder, capfd, "what-if", str(FIRST), *held)
    (row,) = (row for row in found if row["incentive"])
    (kept,) = (one for one in row["kept_then"] if one["part"] == "incentive")
    assert (code, int(kept["held"]) * 2, row["kept"]) == (0, row["incentive"], [])


def test_the_difference_is_drawn(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    plot = folder / "then.svg"
    asked = ["epoch", "what-if", str(FIRST), "--set", "cap_ppm=500000", "--plot", str(plot), "--into", str(folder)]
    assert main.run([*asked, *KEY]) == 0
    said = capfd.readouterr().out
    assert f"{NODES[0].hex()[:12]} {'=' * 24}{'-' * 24}" in said
    assert "incentive  0.00004 as it was, 0.00002 then (-0.00002)" in said
    drawn = plot.read_text()
    texts = re.findall("<text[^>]*>([^<]*)</text>", drawn)
    assert f"compute {NODES[0].hex()[:12]}" in texts
    assert {"0.00004", "0.00002", "0.0009 USD"} <= set(texts)
    grounds, bars = (
        re.findall(f'width="([0-9]+)" height="12" fill="({colours})"', drawn) for colours in (PALE, f"{WAS}|{THEN}")
    )
    (full,) = {int(width) for width, _ in grounds}
    assert [int(width) for width, colour in bars if colour == THEN][:2] == [full, full // 2]


def test_who_delegated_sees_what_came_of_it(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Stake of the first day has a share of what the second one gives, here of what vests."""
    golden_folder(tmp_path, VESTING)
    _, said = run(tmp_path, capfd, "audit", str(FIRST + 1))
    code, shares = run(tmp_path, capfd, "shares", str(FIRST + 1), address_text(DELEGATOR))
    assert (code, {one["holder"] for one in shares}) == (0, {address_text(DELEGATOR)})
    assert sum(int(one["units"]) for one in shares) == int(said["totals"]["delegated"]) > 0
    assert {one["operator"] for one in shares} == {address_text(ACCOUNTS[0])}
    assert run(tmp_path, capfd, "shares", str(FIRST), address_text(DELEGATOR)) == (0, [])
    operated = [number for number, account in enumerate(ACCOUNTS) if account == ACCOUNTS[0]]
    _, told = run(tmp_path, capfd, "explain", str(FIRST + 1), NODES[operated[0]].hex())
    (line,) = [line for line in told["lines"] if line["vertical"] == "compute"]
    assert line["delegated"] == said["totals"]["delegated"]
    words = ["epoch", "explain", str(FIRST + 1), NODES[operated[0]].hex(), "--into", str(tmp_path), *KEY]
    assert main.run(words) == 0
    assert f"fallow epoch shares {FIRST + 1} {address_text(ACCOUNTS[0])}" in capfd.readouterr().out
