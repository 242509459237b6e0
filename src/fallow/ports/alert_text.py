"""Alerts in words, English and Japanese: the same on the page, in mails and in what a webhook is sent."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final, Literal

from fallow.domain.alerts import Alert
from fallow.domain.money import dollars

Language = Literal["en", "ja"]

SENTENCES: Final[dict[Language, dict[str, str]]] = {
    "en": {
        "node.banned": "Banned by the operator: {reason}",
        "node.suspended": "It gave a wrong result ({why}) and gets no work until {until_at}.",
        "node.wrong": "It was found wrong {count} times ({why}); the next time costs more.",
        "node.missed": "It missed {count} roll calls in a row: who does not show what he offers loses trust.",
        "node.silent": "Not heard of since {seen_at}.",
        "node.refused": "The network refused records of it: {record}",
        "vertical.silent": "What {name} says of your machines could not be asked.",
        "payout.changes": "From {from_at} on earnings go to {to}. If that is not your word: fallow account payout "
        "--cancel",
        "balance.low": "{spendable_microusd} are left, and what runs now reserves {reserved_microusd} a window: it may "
        "end for want of credits.",
        "account.budget_near": "{spent_microusd} of the account's budget of {budget_microusd} for {month} are spent.",
        "account.budget": "The account's budget of {budget_microusd} for {month} is used up ({spent_microusd} are "
        "spent): what does not fit into it does not begin, and does not go on, until {ends_at}. To raise it: fallow "
        "account budget USD",
        "job.budget": "It has cost {owed_microusd} of its budget of {budget_microusd}.",
        "job.done": "It is done.",
        "job.failed": "It ended without being done. {reason}",
    },
    "ja": {
        "node.banned": "運営者が禁止しました: {reason}",
        "node.suspended": "誤った結果 ({why}) を出したため、{until_at} まで仕事が来ません。",
        "node.wrong": "これまでに {count} 回誤りが見つかりました ({why})。次回は処分がさらに重くなります。",
        "node.missed": "点呼に {count} 回続けて応じませんでした。応じない機器は信頼度が下がります。",
        "node.silent": "{seen_at} から応答がありません。",
        "node.refused": "ネットワークがこの機器の記録を拒否しました: {record}",
        "vertical.silent": "{name} に機器の状態を問い合わせできませんでした。",
        "payout.changes": "{from_at} から収入は {to} に支払われます。"
        "心当たりがなければ: fallow account payout --cancel",
        "balance.low": "残りは {spendable_microusd} で、実行中のジョブは期間ごとに {reserved_microusd} を確保します。"
        "残高不足で終わるおそれがあります。",
        "account.budget_near": "{month} のアカウント予算 {budget_microusd} のうち {spent_microusd} を使いました。",
        "account.budget": "{month} のアカウント予算 {budget_microusd} を使い切りました (支出 {spent_microusd})。"
        "予算に収まらない処理は {ends_at} まで始まらず、続きません。増やすには: fallow account budget USD",
        "job.budget": "予算 {budget_microusd} のうち {owed_microusd} を使いました。",
        "job.done": "完了しました。",
        "job.failed": "完了せずに終わりました。{reason}",
    },
}
_CHARACTERS_MAX: Final = 400


def sentence(alert: Alert, language: Language) -> str:
    """Return what an alert says; times are in UTC."""
    if alert.said:
        return plain(alert.said.get(language, alert.code))
    return SENTENCES[language][alert.code].format(**{name: _said(name, value) for name, value in alert.values.items()})


def line(alert: Alert, language: Language) -> str:
    """Return the same with what it is about, on one line."""
    about = " ".join(filter(None, (plain(alert.name), alert.subject[:12])))
    return f"{about}: {sentence(alert, language)}" if about else sentence(alert, language)


def plain(text: str) -> str:
    """Take out of a stranger's text what is no letter: it could begin a line or a header of its own."""
    return "".join(letter for letter in text if letter.isprintable())[:_CHARACTERS_MAX]


def time_text(ms: int) -> str:
    """Return a time to the minute."""
    return datetime.fromtimestamp(ms // 1000, UTC).strftime("%Y-%m-%d %H:%M UTC")


def _said(name: str, value: str | int) -> str:
    if isinstance(value, str):
        return plain(value)
    if name.endswith("_at"):
        return time_text(value)
    return dollars(value) if name.endswith("_microusd") else str(value)
