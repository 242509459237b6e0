"""`fallow account budget`: set, ended and shown."""

from __future__ import annotations

import json

import msgspec
import pytest

from fallow.cli import main, profiles
from fallow.domain.views.money import BudgetView
from tests.unit.canned_client import CannedClient
from tests.unit.fake_network import budget_view


class Client(CannedClient):
    """Whose account has no budget at first, and has met the one that is set."""

    view = budget_view()

    def budget(self) -> BudgetView:
        """It as it stands."""
        return self.view

    def set_budget(self, microusd: int | None) -> BudgetView:
        """Take it as a network does."""
        self._note("set_budget", microusd)
        self.view = msgspec.structs.replace(
            self.view, budget_microusd=microusd, spent_microusd=48_500_000, reached=microusd is not None
        )
        return self.view


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> Client:
    client = Client()
    monkeypatch.setattr(profiles, "connect", lambda: client)
    return client


def test_a_budget_is_set_shown_and_ended(client: Client, capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run(["account", "budget"]) == 0
    assert "No budget. Spent in 2001-09: 0.00 USD; reserved: 0.00 USD." in capsys.readouterr().out
    assert main.run(["account", "budget", "50"]) == 0
    said = capsys.readouterr().out
    assert "Budget: 50.00 USD a month. Spent in 2001-09: 48.50 USD" in said
    assert "It begins anew at 2001-10-01 00:00:00 UTC." in said
    assert main.run(["account", "budget", "--none", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["budget_microusd"] is None
    assert client.asked == [("set_budget", (50_000_000,)), ("set_budget", (None,))]


@pytest.mark.parametrize("words", [["50", "--none"], ["-1"], ["much"]])
def test_what_is_no_budget_is_not_set(client: Client, words: list[str]) -> None:
    assert main.run(["account", "budget", *words]) == main.USAGE_EXIT
    assert client.asked == []
