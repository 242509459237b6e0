"""`fallow ledger audit`: what differs, item by item, and the exit status."""

from __future__ import annotations

import json

import pytest

from fallow.cli import main, profiles
from fallow.domain.views.audits import AuditView, DifferenceView
from tests.unit.canned_client import CannedClient

CLEAN = AuditView(
    began_at=1, ended_at=2, ok=True, transfers=7, epochs=3, deposited=10_000_000, circulation=6_000_000,
    owed=4_000_000, claimed=1_500_000, held=8_500_000,
)  # fmt: skip
WRONG = AuditView(
    began_at=1,
    ended_at=2,
    ok=False,
    found=1,
    differences=[DifferenceView(code="withdrawal.missing", subject="abcd", here="", there="600 0x11", detail="")],
)
AWAY = AuditView(began_at=1, ended_at=2, ok=False, trouble="The chain's node does not answer.")


class Client(CannedClient):
    """One whose network was just audited."""

    def __init__(self, found: AuditView) -> None:
        super().__init__()
        self._found = found

    def audit(self) -> AuditView:
        """What was found."""
        return self._found


@pytest.mark.parametrize(
    ("found", "code", "words"),
    [
        (CLEAN, 0, ("Nothing differs: 7 transfers, 3 closed epochs", "8.50 USD")),
        (WRONG, 1, ("withdrawal.missing", "abcd", "600 0x11", "1 items DIFFER", "no chain")),
        (AWAY, 1, ("could not be audited: The chain's node",)),
    ],
)
def test_it_says_what_differs(
    found: AuditView,
    code: int,
    words: tuple[str, ...],
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(profiles, "connect", lambda: Client(found))
    assert main.run(["ledger", "audit"]) == code
    said = capfd.readouterr().out
    assert [word for word in words if word not in said] == []
    assert main.run(["ledger", "audit", "--json"]) == code
    assert json.loads(capfd.readouterr().out)["ok"] is found.ok
