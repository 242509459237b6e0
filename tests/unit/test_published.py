"""Who reads an epoch's files from a network that bounds what one line asks for waits, and goes on."""

from __future__ import annotations

import time
from collections import Counter
from contextlib import closing

import pytest

from fallow.adapters.published import WAIT_S, WAITS_MAX, HttpPublished
from fallow.domain.errors import Unavailable
from tests.closed_epochs import ClosedEpoch
from tests.epoch_files import NETWORK_KEY
from tests.serving import Answer, answering, serving
from tools import verify_epoch

BUSY = 429


@pytest.fixture
def waited(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """How long somebody wanted to sleep, each time."""
    waits: list[float] = []
    monkeypatch.setattr(time, "sleep", waits.append)
    return waits


def test_a_file_is_asked_for_again(waited: list[float]) -> None:
    answers: list[Answer] = [(BUSY, b"{}"), (BUSY, b"{}"), (200, b"a file")]
    with serving(answering(lambda *_: answers.pop(0))) as url, closing(HttpPublished(url)) as published:
        assert b"".join(published.read(9, "leaves")) == b"a file"
    assert waited == [WAIT_S] * 2


def test_not_for_ever(waited: list[float]) -> None:
    with (
        serving(answering(lambda *_: (BUSY, b"{}"))) as url,
        closing(HttpPublished(url)) as published,
        pytest.raises(Unavailable),
    ):
        b"".join(published.read(9, "leaves"))
    assert len(waited) == WAITS_MAX


def test_the_verifier_asks_again_for_every_file(waited: list[float]) -> None:
    closed = ClosedEpoch()
    asked: Counter[str] = Counter()

    def answer(path: str, _: bytes) -> Answer:
        asked[path] += 1
        return (BUSY, b"{}") if asked[path] == 1 else (200, closed.files[path.partition("/files/")[2]])

    with serving(answering(answer)) as url:
        assert verify_epoch.main([url, "1", "--key", NETWORK_KEY.hex()]) == 0
    twice = {path for path in asked if path.endswith("/leaves")}  # for their hash, and for the root
    assert {path: count for path, count in asked.items() if count != 2} == dict.fromkeys(twice, 3)
    assert len(waited) == len(asked)
