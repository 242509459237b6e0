"""A naive ledger to compare with: it keeps what it accepted and sums everything up anew for every question.

Written from the rules in words (docs/adr/0003-ledger.md), with none of the production code: plain dictionaries, names
of results as text, no running balances, chains by trying on a copy.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

LINKED, PENDING, POST, VOID = 1, 2, 4, 8
LIMIT = 10**78 - 1
FIELDS = (
    ("flags", "flags"),
    ("pending_id", "pending_id"),
    ("timeout_s", "timeout"),
    ("debit", "debit_account_id"),
    ("credit", "credit_account_id"),
    ("amount", "amount"),
    ("ref", "ref"),
    ("ledger", "ledger"),
    ("code", "code"),
)
SUCCESS = ("ok", "exists")


@dataclass
class Oracle:
    """`accounts` maps an id to (ledger, flags); `log` lists what was accepted, as dictionaries."""

    accounts: dict[bytes, tuple[int, int]]
    log: list[dict[str, Any]] = field(default_factory=list)

    def post(self, transfers: list[Any], now_ms: int) -> list[str]:
        """Results as text, one per transfer."""
        results: list[str] = []
        for chain, is_open in chains(transfers):
            results += self._chain(chain, is_open, now_ms)
        return results

    def expire(self, now_ms: int, limit: int) -> int:
        """Release what is overdue, the longest overdue first."""
        due = [
            (step["at"] + step["timeout_s"] * 1000, step["id"])
            for step in self.log
            if step["timeout_s"] and not self.resolution(step["id"]) and not self.in_time(step, now_ms)
        ]
        for _, id_ in sorted(due)[:limit]:
            pending = self.find(id_)
            self.log.append({**pending, "id": None, "kind": "expired", "pending_id": id_, "timeout_s": 0})
        return len(due[:limit])

    def balance(self, account: bytes) -> tuple[int, int, int, int]:
        """Pending and posted debits, pending and posted credits, by going through the whole log."""
        sums = []
        for side in ("debit", "credit"):
            mine = [step for step in self.log if step[side] == account]
            reserved = [s for s in mine if s["kind"] == "pending" and not self.resolution(s["id"])]
            paid = [s for s in mine if s["kind"] in ("single", "post")]
            sums += [sum(s["amount"] for s in reserved), sum(s["amount"] for s in paid)]
        return sums[0], sums[1], sums[2], sums[3]

    def find(self, id_: bytes) -> Any:
        """The accepted step with this id, if any."""
        return next((step for step in self.log if step["id"] == id_), None)

    def resolution(self, id_: bytes) -> str:
        """How a pending transfer ended; empty while it is open."""
        return next((step["kind"] for step in self.log if step["pending_id"] == id_), "")

    def in_time(self, step: dict[str, Any], now_ms: int) -> bool:
        """Whether its timeout has not passed."""
        return not step["timeout_s"] or now_ms < step["at"] + step["timeout_s"] * 1000

    def _chain(self, chain: list[Any], is_open: bool, now_ms: int) -> list[str]:
        trial = Oracle(self.accounts, list(self.log))
        results = []
        for place, transfer in enumerate(chain):
            last_of_open = is_open and place == len(chain) - 1
            result = "linked_event_chain_open" if last_of_open else trial._one(transfer, now_ms)
            if result not in SUCCESS:
                failed = ["linked_event_failed"] * len(chain)
                if is_open:
                    failed[-1] = "linked_event_chain_open"
                failed[place] = result
                return failed
            results.append(result)
        self.log = trial.log
        return results

    def _one(self, transfer: Any, now_ms: int) -> str:  # noqa: PLR0911 - one return per rule
        step = transfer._asdict() | {"at": now_ms, "kind": "single"}
        if transfer.flags & (POST | VOID):
            return self._second(step)
        if existing := self.find(step["id"]):
            return compare(step, existing)
        step["kind"] = "pending" if transfer.flags & PENDING else "single"
        for side in ("debit", "credit"):
            if step[side] not in self.accounts:
                return f"{side}_account_not_found"
        (ledger, debit_flags), (other, credit_flags) = self.accounts[step["debit"]], self.accounts[step["credit"]]
        if ledger != other:
            return "accounts_must_have_the_same_ledger"
        if ledger != step["ledger"]:
            return "transfer_must_have_the_same_ledger_as_accounts"
        before_debit, before_credit = self.balance(step["debit"]), self.balance(step["credit"])
        debits, credited = sum(before_debit[:2]) + step["amount"], sum(before_credit[2:]) + step["amount"]
        verdicts = {
            "overflows_debits": debits > LIMIT,
            "overflows_credits": credited > LIMIT,
            "exceeds_credits": debit_flags == 2 and debits > before_debit[3],
            "exceeds_debits": credit_flags == 4 and credited > before_credit[1],
        }
        for verdict, holds in verdicts.items():
            if holds:
                return verdict
        self.log.append(step)
        return "ok"

    def _second(self, step: dict[str, Any]) -> str:
        pending = self.find(step["pending_id"])
        existing = self.find(step["id"])
        # What it leaves open is what the pending transfer says; or, for an id that borrows another pending transfer,
        # what the accepted one says: then the pending_id is what differs.
        source = pending or existing or {}
        for name in ("debit", "credit", "ledger", "code"):
            step[name] = step[name] or source.get(name)
        if step["amount"] is None:
            step["amount"] = source.get("amount")
        if existing:
            return compare(step, existing)
        refusal = self._refusal(step, pending)
        if not refusal:
            step["kind"] = "post" if step["flags"] & POST else "void"
            self.log.append(step)
        return refusal or "ok"

    def _refusal(self, step: dict[str, Any], pending: Any) -> str:
        if pending is None:
            return "pending_transfer_not_found"
        if pending["kind"] != "pending":
            return "pending_transfer_not_pending"
        ended = {"post": "already_posted", "void": "already_voided", "expired": "expired"}
        different = "pending_transfer_has_different_"
        verdicts = {
            f"{different}debit_account_id": step["debit"] != pending["debit"],
            f"{different}credit_account_id": step["credit"] != pending["credit"],
            f"{different}ledger": step["ledger"] != pending["ledger"],
            f"{different}code": step["code"] != pending["code"],
            "exceeds_pending_transfer_amount": step["amount"] > pending["amount"],
            f"{different}amount": bool(step["flags"] & VOID) and step["amount"] < pending["amount"],
            f"pending_transfer_{ended.get(self.resolution(pending['id']))}": bool(self.resolution(pending["id"])),
            "pending_transfer_expired": not self.in_time(pending, step["at"]),
        }
        return next((verdict for verdict, holds in verdicts.items() if holds), "")


def chains(transfers: list[Any]) -> list[tuple[list[Any], bool]]:
    """Split a batch where a chain ends; whether the last one is still open."""
    parts: list[tuple[list[Any], bool]] = []
    current: list[Any] = []
    for transfer in transfers:
        current.append(transfer)
        if not transfer.flags & LINKED:
            parts.append((current, False))
            current = []
    return [*parts, (current, True)] if current else parts


def compare(step: dict[str, Any], existing: dict[str, Any]) -> str:
    """`exists`, or the first field that differs."""
    for name, word in FIELDS:
        if step[name] != existing[name]:
            return f"exists_with_different_{word}"
    return "exists"
