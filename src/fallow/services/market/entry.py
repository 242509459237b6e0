"""An open job with its items, as the market keeps it in mind."""

from __future__ import annotations

from collections.abc import Iterable

from fallow.domain import jobs as job_rules
from fallow.domain.jobs import FINAL, Item, Job, JobState
from fallow.domain.verification import Vote
from fallow.services.market.changes import Changes


class Entry:
    """An open job. `waiting` holds the indexes of items to place, in order; `reserved` what each open lease holds.

    `locked` are its secret values, encrypted.
    """

    def __init__(self, job: Job, items: Iterable[Item], locked: bytes | None = None) -> None:
        self.job = job
        self.locked = locked
        self.items = {item.index: item for item in items}
        self.waiting = {item.index: None for item in self.items.values() if item.lacks_lease}
        self.spent_microusd = sum(item.owed_microusd for item in self.items.values())
        self.unfinished = sum(1 for item in self.items.values() if item.state not in FINAL)
        self.reserved: dict[bytes, int] = {}
        self._told_at = 0

    @property
    def suspect(self) -> bytes | None:
        """The node that a canary is for, until it has answered."""
        replay = self.job.replay
        if replay is None or replay.first is not None or any(item.votes for item in self.items.values()):
            return None
        return replay.node

    @property
    def first(self) -> tuple[Vote, ...]:
        """What another node said before, if this is a re-run: neither its owner nor a neighbour confirms it."""
        replay = self.job.replay
        return (replay.first,) if replay is not None and replay.first is not None else ()

    def affords(self, amount_microusd: int) -> bool:
        """Whether the order's budget covers one more reservation."""
        budget = self.job.order.budget_microusd
        return budget is None or self.spent_microusd + sum(self.reserved.values()) + amount_microusd <= budget

    def set_item(self, item: Item, changes: Changes, now: int) -> None:
        """Put an item in the place of its older self, and tell."""
        before = self.items[item.index]
        self.items[item.index] = item
        self.unfinished += (before.state in FINAL) - (item.state in FINAL)
        if item.lacks_lease:
            self.waiting[item.index] = None
        else:
            self.waiting.pop(item.index, None)
        changes.items[self.job.order.id, item.index] = item
        changes.tell(self.job.order.id, self._not_before_told(now), item.state, item=item)

    def end(self, changes: Changes, now: int) -> bool:
        """End the job if all of its items have ended; False while it goes on, or when it had ended before."""
        if self.unfinished or self.job.state is not JobState.RUNNING:
            return False
        self.job = job_rules.after_items(self.job, self.items.values(), now)
        changes.jobs[self.job.order.id] = self.job
        if self.locked is not None:
            changes.secrets[self.job.order.id] = None
        changes.tell(self.job.order.id, self._not_before_told(now), self.job.state, reason=self.job.reason)
        return True

    def _not_before_told(self, at: int) -> int:
        """A record of a moment ago is told after what the market has done since; its time does not go back."""
        self._told_at = max(self._told_at, at)
        return self._told_at
