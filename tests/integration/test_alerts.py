"""Alert rules and the board of `deploy/`: rules do what they say, and all that is asked for is there to be asked."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.capability import promtool, require
from tests.network import Net, until_async
from tests.scraping import scrape

pytestmark = pytest.mark.xdist_group("network")

DEPLOY = Path(__file__).parents[2] / "deploy"
RULES = DEPLOY / "prometheus" / "fallow.rules.yml"
NAME = re.compile(r"\bfallow_[a-z0-9_]+")
ON_A_CHAIN = {"fallow_chain_up", "fallow_chain_blocks_unread"}
"""Those of networks with one, which `tests/unit/test_chain_events.py` asks for."""


def expressions(board: dict[str, Any]) -> Iterator[str]:
    """What the panels ask Prometheus."""
    for panel in board["panels"]:
        for target in panel.get("targets", ()):
            yield target["expr"]


def asked() -> set[str]:
    """The names of all that rules and board ask for."""
    board = json.loads((DEPLOY / "grafana" / "fallow.json").read_text())
    rules = " ".join(line for line in RULES.read_text().splitlines() if "what_to_do" not in line)
    found = {name for text in (rules, *expressions(board)) for name in NAME.findall(text)}
    assert len(found) > 30
    return found


async def test_all_that_rules_and_board_ask_for_is_told_by_a_network(net: Net) -> None:
    async def all_there() -> bool:
        found = await scrape(net)
        return "fallow_ledger_transfers_total" in found and "fallow_role_processes" in found

    await until_async(all_there, "all roles have told")
    # Counters that nothing has been counted in yet have a name all the same, and no sample.
    there = set(await scrape(net, samples=False))
    assert sorted(asked() - there - ON_A_CHAIN) == []


def test_the_rules_do_what_they_say(tmp_path: Path) -> None:
    require("promtool")
    board = json.loads((DEPLOY / "grafana" / "fallow.json").read_text())
    panels = {"groups": [{"name": "board", "rules": [
        {"record": f"board:{number}", "expr": expression} for number, expression in enumerate(expressions(board))
    ]}]}  # fmt: skip
    (tmp_path / "board.yml").write_text(json.dumps(panels))  # each JSON document is one of YAML, too
    for command in (
        ("check", "rules", str(RULES)),
        ("check", "rules", str(tmp_path / "board.yml")),
        ("test", "rules", str(RULES.with_name("fallow.tests.yml"))),
    ):
        done = subprocess.run([promtool(), *command], capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


def test_every_rule_is_tested_and_says_what_to_do() -> None:
    rules = RULES.read_text()
    names = re.findall(r"alert: (\w+)", rules)
    tests = RULES.with_name("fallow.tests.yml").read_text()
    assert [name for name in names if name not in tests] == []
    assert len(names) == rules.count("what_to_do:") == rules.count("summary:")
