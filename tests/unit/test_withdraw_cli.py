"""`fallow wallet withdraw`: to whom, how much, and under which id."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fallow.cli import main, profiles
from fallow.domain.identity import address_text
from fallow.domain.views.payouts import WithdrawalView
from tests.unit.canned_client import CannedClient
from tests.unit.own_key import kept_key
from tests.unit.test_custody import ADDRESS, PRIVATE


class Client(CannedClient):
    """One that has paid credits."""

    def withdraw(self, to: str, amount_microusd: int, *, withdrawal_id: str) -> WithdrawalView:
        """Note what was asked for."""
        self.asked.append((withdrawal_id, (to, amount_microusd)))
        return WithdrawalView(
            id=withdrawal_id, account="0x" + "11" * 20, to=to, amount_microusd=amount_microusd, transfer="22" * 16
        )


@pytest.fixture
def client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Client:
    kept_key(tmp_path, monkeypatch, PRIVATE)
    client = Client()
    monkeypatch.setattr(profiles, "connect", lambda: client)
    return client


def test_it_goes_to_whose_key_is_here_and_says_what_comes_next(
    client: Client, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main.run(["wallet", "withdraw", "12.5"]) == 0
    said = capfd.readouterr()
    ((id_, asked),) = client.asked
    assert asked == (address_text(ADDRESS), 12_500_000)
    assert f"--id {id_}" in said.err
    assert "12.50 USD" in said.out
    assert "fallow claim" in said.out


def test_it_goes_to_somebody_else_under_an_id_that_was_given(client: Client, capfd: pytest.CaptureFixture[str]) -> None:
    to = "0x" + "AB" * 20
    assert main.run(["wallet", "withdraw", "3", "--to", to, "--id", "cd" * 16, "--json"]) == 0
    assert client.asked == [("cd" * 16, (to.lower(), 3_000_000))]
    assert json.loads(capfd.readouterr().out)["to"] == to.lower()
