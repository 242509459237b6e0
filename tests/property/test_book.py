"""The resource book never sells a core or a GPU twice, whatever it is asked."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from fallow.agent.book import Book
from fallow.domain.resources import Resources

AMOUNTS = st.integers(min_value=-3, max_value=12)
GPUS = ("GPU-0", "GPU-1", "GPU-2")
RESOURCES = st.builds(
    Resources,
    cpu_milli=AMOUNTS,
    memory_mib=AMOUNTS,
    disk_mib=AMOUNTS,
    gpus=st.sampled_from([0, 0, 0, 1, 1, 2, 3, 4, -1]),
)
LEASES = st.sampled_from([f"lease-{number}" for number in range(6)])


class BookMachine(RuleBasedStateMachine):
    """Takes and frees in any order, with leases that repeat, sizes that do not fit, and negative ones."""

    @initialize(
        offered=st.builds(
            Resources, cpu_milli=st.integers(0, 20), memory_mib=st.integers(0, 20), gpus=st.integers(0, 3)
        )
    )
    def open_book(self, offered: Resources) -> None:
        """Offer something."""
        self.book = Book(offered, GPUS[: offered.gpus])
        self.model: dict[str, Resources] = {}

    @rule(lease=LEASES, resources=RESOURCES)
    def take(self, lease: str, resources: Resources) -> None:
        """Taken exactly when it fits, or was taken like this before."""
        amounts = (resources.cpu_milli, resources.memory_mib, resources.disk_mib, resources.gpus)
        fits = self._left().holds(resources) and min(amounts) >= 0
        expected = self.model[lease] == resources if lease in self.model else fits
        assert self.book.take(lease, resources) == expected
        if expected:
            self.model[lease] = resources

    @rule(lease=LEASES)
    def free(self, lease: str) -> None:
        """Free what is held, and what is not."""
        self.book.free(lease)
        self.model.pop(lease, None)

    @invariant()
    def holds_what_was_taken(self) -> None:
        """The book is the model, and what is left is never negative."""
        if not hasattr(self, "book"):
            return
        assert dict(self.book.held) == self.model
        assert self.book.left == self._left()
        assert self.book.left.holds(Resources(cpu_milli=0, memory_mib=0, disk_mib=0))
        given = [gpu for lease in self.model for gpu in self.book.gpus_of(lease)]
        assert len(given) == len(set(given)) == sum(resources.gpus for resources in self.model.values())
        assert all(len(self.book.gpus_of(lease)) == resources.gpus for lease, resources in self.model.items())

    def _left(self) -> Resources:
        left = self.book.offered
        for resources in self.model.values():
            left = left.minus(resources)
        return left


BookMachine.TestCase.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)
TestBook = BookMachine.TestCase
