"""`fallow account payout`: shows where earnings go, and has the account's key sign where else."""

from __future__ import annotations

from pathlib import Path

import pytest

from fallow.cli import main, profiles
from fallow.domain.identity import address_text
from fallow.domain.payees import Payee, changed
from fallow.domain.views.payouts import PayeeView
from tests.unit.canned_client import CannedClient
from tests.unit.own_key import kept_key
from tests.unit.test_custody import ADDRESS, PRIVATE

MINE, SAFE = address_text(ADDRESS), "0x" + "5a" * 20


class Client(CannedClient):
    """One whose network knows the account."""

    def payee(self, account: str) -> PayeeView:
        """Nobody has changed it yet."""
        return PayeeView(account=account, paid_to=account)

    def change_payout(self, account: str, to: str, signed_at_s: int, signature: str) -> PayeeView:
        """Take it as a network does."""
        target, word = bytes.fromhex(to[2:]), bytes.fromhex(signature)
        after = changed(Payee(ADDRESS, ADDRESS), "lab-1", target, signed_at_s, word, signed_at_s * 1000)
        self.asked.append(("change_payout", to))
        pending = address_text(after.pending) if after.pending else ""
        return PayeeView(account=account, paid_to=account, pending=pending, effective_at=after.effective_at)

    def change_own_payout(self, to: str) -> PayeeView:
        """Nothing is signed here."""
        self.asked.append(("change_own_payout", to))
        return PayeeView(account=self.balance().account, paid_to="", pending=to)


@pytest.fixture
def client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Client:
    kept_key(tmp_path, monkeypatch, PRIVATE)
    client = Client()
    monkeypatch.setattr(profiles, "client_at", lambda _url, _ca: client)
    return client


def test_it_shows_and_changes_and_takes_back(client: Client, capfd: pytest.CaptureFixture[str]) -> None:
    assert main.run(["account", "payout"]) == 0
    assert f"What {MINE} earns is paid to itself." in capfd.readouterr().out
    assert client.asked == []
    assert main.run(["account", "payout", SAFE.upper().replace("X", "x")]) == 0
    said = capfd.readouterr().out
    assert f"it will be {SAFE}, beginning with the epoch after" in said
    assert "--cancel" in said
    assert main.run(["account", "payout", "--cancel"]) == 0
    assert "--cancel" not in capfd.readouterr().out
    assert client.asked == [("change_payout", SAFE), ("change_payout", MINE)]


def test_the_network_signs_for_custodial_accounts(client: Client) -> None:
    assert main.run(["account", "payout", SAFE, "--custodial"]) == 0
    assert ("change_own_payout", SAFE) in client.asked


def test_what_is_meant_has_to_be_clear(client: Client, capfd: pytest.CaptureFixture[str]) -> None:
    assert main.run(["account", "payout", SAFE, "--cancel"]) != 0
    assert "account.payout" in capfd.readouterr().err
    assert main.run(["account", "payout", "0x12"]) != 0
    assert "identity.malformed" in capfd.readouterr().err
    assert client.asked == []
