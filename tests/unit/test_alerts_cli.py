"""`fallow account alerts`: what to look at, and where one is told of it."""

from __future__ import annotations

import json

import msgspec
import pytest

from fallow.cli import main, profiles
from fallow.domain.calls.alerts import AlertsTo
from fallow.domain.views.alerts import AlertView, ChannelsView, ChannelView
from fallow.sdk.alerts import Way
from tests.unit.canned_client import NODE, CannedClient

SECRET = "fw_shown_once"  # noqa: S105 - of nobody


class Client(CannedClient):
    """One whose machine is silent, on a network without mails."""

    def __init__(self) -> None:
        super().__init__()
        self.told: list[ChannelView] = []

    def alerts(self, language: str) -> list[AlertView]:
        """What is wrong, in that language."""
        text = "Not heard of" if language == "en" else "応答がありません"
        return [AlertView(id="x", code="node.silent", subject=NODE, name="barn\x1b[2J", text=text)]

    def alert_channels(self) -> ChannelsView:
        """Where he is told by now."""
        return ChannelsView(channels=self.told, mail=False)

    def set_alert_channel(self, way: Way, to: AlertsTo) -> ChannelView:
        """Take it as a network does."""
        view = ChannelView(kind=way, address=to.address, language=to.language, confirmed=False)
        self.told = [
            msgspec.structs.replace(view, failed_at=1, waiting=1, failure_code="alerts.webhook", failure="no.")
        ]
        return msgspec.structs.replace(view, secret=SECRET)

    def end_alert_channel(self, way: Way) -> None:
        """Note it."""
        self.asked.append(("end", way))


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> Client:
    client = Client()
    monkeypatch.setattr(profiles, "connect", lambda: client)
    return client


def test_alerts_are_listed_with_where_they_go(client: Client, capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run(["account", "alerts", "--language", "ja"]) == 0
    said = capsys.readouterr().out
    assert "応答がありません" in said
    assert "\x1b[2J" not in said
    assert "fallow account alerts --webhook URL" in said
    assert "no mail server" in said
    assert client.told == []


def test_a_webhooks_secret_is_said_once(client: Client, capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run(["account", "alerts", "--webhook", "https://example.org/"]) == 0
    assert SECRET in capsys.readouterr().out
    assert main.run(["account", "alerts"]) == 0
    said = capsys.readouterr().out
    assert SECRET not in said
    assert "not confirmed yet" in said
    assert "1 waiting: alerts.webhook: no." in said
    assert main.run(["account", "alerts", "--off", "webhook", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["alerts"][0]["code"] == "node.silent"
    assert client.asked == [("end", "webhook")]


def test_one_thing_at_a_time(client: Client) -> None:
    assert main.run(["account", "alerts", "--email", "a@b.example", "--off", "email"]) == main.USAGE_EXIT
    assert client.told == []
