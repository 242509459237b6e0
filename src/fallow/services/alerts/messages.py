"""What is written: mails in the account's language, and JSON for webhooks. It says nothing that the page does not."""

from __future__ import annotations

from typing import Any, Final, cast

import msgspec

from fallow.domain.alerts import Alert
from fallow.domain.encoding import tagged_hash
from fallow.domain.identity import address_text
from fallow.ports.alert_store import Message
from fallow.ports.alert_text import Language, line, sentence, time_text
from fallow.ports.alert_ways import Letter
from fallow.services.alerts.secrets import ChannelSecrets

ID_BYTES: Final = 16
LINES_MAX: Final = 50

_WORDS: Final[dict[Language, dict[str, str]]] = {
    "en": {
        "confirm": "Your code is {code}",
        "confirm_text": "Somebody who holds the account {account} on the Fallow network {net} asks to have its alerts "
        "sent to this address. If that was you, give the code within an hour, on the account's page or with\n\n"
        "    fallow account alerts --confirm {code}\n\nIf it was not, do nothing: nothing more will come.",
        "alerts": "Alerts: {count}",
        "began": "New:",
        "ended": "Over:",
        "more": "and {count} more",
        "stopped": "Alerts do not come here any more",
        "stopped_text": "The account {account} on the Fallow network {net} is not told of its alerts at this address "
        "any more. If that is not your doing, look at its API keys and at where its earnings go.",
        "foot": "Account {account} on the Fallow network {net}, {time}. To end this: fallow account alerts --off email",
    },
    "ja": {
        "confirm": "確認コード {code}",
        "confirm_text": "Fallow ネットワーク {net} のアカウント {account} の警告を、"
        "このアドレスに送るよう求められました。"
        "ご自身の操作であれば、1 時間以内にアカウントのページで、または次のコマンドでコードを入力してください。\n\n"
        "    fallow account alerts --confirm {code}\n\n"
        "心当たりがなければ、何もしないでください。以後は何も届きません。",
        "alerts": "警告 {count} 件",
        "began": "新しい警告:",
        "ended": "終わった警告:",
        "more": "ほか {count} 件",
        "stopped": "警告はこのアドレスに届かなくなりました",
        "stopped_text": "Fallow ネットワーク {net} のアカウント {account} の警告は、"
        "このアドレスには送られなくなりました。"
        "心当たりがなければ、API キーと収入の支払先を確認してください。",
        "foot": "アカウント {account}、Fallow ネットワーク {net}、{time}。"
        "停止するには: fallow account alerts --off email",
    },
}


class Changed(msgspec.Struct, frozen=True):
    """The body of a message about alerts: what has begun, and what has ended."""

    began: list[Alert]
    ended: list[Alert]


class Messages:
    """Writes them for one network. `url` is where its gateway is reached; mails name it where that is by https."""

    def __init__(self, net: str, url: str, secrets: ChannelSecrets) -> None:
        self._net = net
        self._url = url
        self._secrets = secrets

    def letter(self, message: Message) -> Letter:
        """Return a mail."""
        language = cast("Language", message.language)
        words = _WORDS[language]
        known = {"net": self._net, "account": address_text(message.account), "time": time_text(message.made_at)}
        if message.what == "alerts":
            changed = msgspec.json.decode(message.body, type=Changed)
            subject = words["alerts"].format(count=len(changed.began) + len(changed.ended))
            parts = (("began", changed.began), ("ended", changed.ended))
            paragraphs = [_list(words, name, alerts, language) for name, alerts in parts if alerts]
            text = "\n\n".join((*paragraphs, words["foot"].format_map(known)))
        else:
            known["code"] = self._secrets.code(message) if message.what == "confirm" else ""
            subject, text = (words[message.what + end].format_map(known) for end in ("", "_text"))
        secure = self._url.startswith("https://") and message.what == "alerts"
        stop = f"{self._url}/v1/alerts/stop/{self._secrets.stop_token(message)}" if secure else ""
        return Letter(_id(message), message.made_at, message.address, f"[{self._net}] {subject}", text + "\n", stop)

    def delivery(self, message: Message) -> bytes:
        """Return what a webhook is sent."""
        body: dict[str, Any] = {
            "id": _id(message),
            "kind": message.what,
            "network": self._net,
            "account": address_text(message.account),
            "at": message.made_at,
        }
        if message.what == "confirm":
            body["challenge"] = self._secrets.challenge(message)
        if message.what == "alerts":
            language = cast("Language", message.language)
            changed = msgspec.json.decode(message.body, type=Changed)
            body["began"], body["ended"] = (
                [_told(one, language) for one in alerts] for alerts in (changed.began, changed.ended)
            )
        return msgspec.json.encode(body)


def _list(words: dict[str, str], name: str, alerts: list[Alert], language: Language) -> str:
    lines = [f"- {line(one, language)}" for one in alerts[:LINES_MAX]]
    more = [words["more"].format(count=len(alerts) - LINES_MAX)] if len(alerts) > LINES_MAX else []
    return "\n".join((words[name], *lines, *more))


def _told(alert: Alert, language: Language) -> dict[str, Any]:
    told: dict[str, Any] = {name: getattr(alert, name) for name in ("id", "code", "subject", "name", "values")}
    return told | {"text": sentence(alert, language)}


def _id(message: Message) -> str:
    """The same whenever a message is sent again, so that its reader can tell."""
    return tagged_hash("fallow/alert-message/1", message.salt + message.seq.to_bytes(8, "big"))[:ID_BYTES].hex()
