"""Fixtures that all tests may use, and the account of what was skipped."""

from __future__ import annotations

import gc
import os
import signal
import tomllib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from xdist.remote import Producer

from fallow.ports.mishaps import MISHAPS
from tests.browser import running
from tests.engines import engine_folder, engines, nats_url, postgres_dsn
from tests.grouped import GroupedScheduling
from tests.tries import as_asked

__all__ = ["engine_folder", "engines", "nats_url", "postgres_dsn", "running"]

CAPABILITIES = tomllib.loads(Path(__file__).with_name("capabilities.toml").read_text("utf-8"))


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> GroupedScheduling:
    """Keep together what shares something that takes long to start."""
    return GroupedScheduling(config, log)


as_asked()  # before any test is read: what a test says of its own tries is beside this
gc.disable()  # until all tests are found: what finding them makes stays, and searches for cycles took half of the time


def pytest_collection_finish() -> None:
    """Leave what is there by now out of Python's searches for cycles: they would look at all tests again and again."""
    gc.freeze()
    gc.enable()


def pytest_configure() -> None:
    """Hear Ctrl-C, and have it heard by programs that tests start: a shell has what it runs beside itself ignore it."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def _nothing_fails_unseen(request: pytest.FixtureRequest) -> Iterator[None]:
    """What a service survives is a bug all the same: only `mishaps(place, ...)` lets a test plant one.

    Without a place it may be anywhere.
    """
    markers = [*request.node.iter_markers("mishaps")]
    planted = {place for marker in markers for place in marker.args}
    before = MISHAPS.counts()
    yield
    failed = {place for place, count in MISHAPS.counts().items() if count > before.get(place, 0)}
    told = f"it failed unexpectedly, see the log: {sorted(failed)}; planted: {sorted(planted)}"
    assert failed == planted or (markers and not planted), told


def _reasons(session: pytest.Session) -> Counter[str]:
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    skipped = reporter.stats.get("skipped", []) if reporter is not None else []
    return Counter(str(report.longrepr[2]).removeprefix("Skipped: ") for report in skipped)


def _excused(reason: str) -> bool:
    """Whether a skip is for something of the machine that the list allows to be missing."""
    return any(listed["machine"] and reason.startswith(f"{name} ") for name, listed in CAPABILITIES.items())


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Under CI a skip that is not excused is a failure."""
    unexcused = [reason for reason in _reasons(session) if not _excused(reason)]
    if os.environ.get("CI") and unexcused and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """End with a table of what was skipped and why."""
    session = terminalreporter._session
    reasons = _reasons(session) if session is not None else Counter()
    terminalreporter.section("skipped")
    for reason, count in reasons.most_common():
        terminalreporter.write_line(f"{count:5}  {reason}{'' if _excused(reason) else '   (fails under CI)'}")
    if not reasons:
        terminalreporter.write_line("    0  nothing was skipped")
