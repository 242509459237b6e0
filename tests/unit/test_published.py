"""Who reads an epoch's files from a network that bounds what one line asks for waits, and goes on."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from http.server import BaseHTTPRequestHandler
from urllib.parse import parse_qs, urlsplit

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fallow.adapters.published import ANSWER_BYTES_MAX, EPOCHS_END, WAIT_S, WAITS_MAX, HttpPublished
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


def test_the_verifier_does_not_ask_for_ever(waited: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    with serving(answering(lambda *_: (BUSY, b"{}"))) as url:
        assert verify_epoch.main([url, "1", "--key", NETWORK_KEY.hex()]) == 1
    assert len(waited) == verify_epoch.WAITS_MAX
    assert "429" in "".join(capsys.readouterr())


class _Endless(BaseHTTPRequestHandler):
    """Says blanks for as long as somebody listens."""

    def do_GET(self) -> None:
        self._go_on()

    def do_POST(self) -> None:
        self._go_on()

    def _go_on(self) -> None:
        self.send_response(200)
        self.end_headers()
        try:
            while True:
                self.wfile.write(b" " * (1 << 20))
        except OSError:
            self.close_connection = True

    def log_message(self, *_: object) -> None:
        pass


def test_an_answer_without_an_end_is_read_up_to_a_bound() -> None:
    with serving(_Endless) as url, closing(HttpPublished(url)) as published:
        for ask in (published.first, published.next_seed, lambda: published.vote(1, b"")):
            with pytest.raises(Unavailable, match=str(ANSWER_BYTES_MAX)):
                ask()


def _first_of(epochs: Sequence[int]) -> tuple[int | None, int]:
    """What is found to be the first of these epochs, and how many questions it took."""
    asked = 0

    def answer(path: str, _: bytes) -> Answer:
        nonlocal asked
        asked += 1
        ((before,), (limit,)) = (parse_qs(urlsplit(path).query)[name] for name in ("before", "limit"))
        below = sorted((each for each in epochs if each < int(before)), reverse=True)
        return 200, json.dumps([{"epoch": each} for each in below[: int(limit)]]).encode()

    with serving(answering(answer)) as url, closing(HttpPublished(url)) as published:
        return published.first(), asked


@settings(max_examples=30, deadline=None)
@given(st.sets(st.integers(0, 300)))
def test_the_first_epoch_is_found(epochs: set[int]) -> None:
    assert _first_of([*epochs])[0] == min(epochs, default=None)


def test_a_list_of_epochs_however_long_takes_few_questions() -> None:
    found, asked = _first_of(range(EPOCHS_END - 1000, EPOCHS_END))
    assert found == EPOCHS_END - 1000
    assert asked <= 54


NESTED = b"[" * 100_000 + b"]" * 100_000


@pytest.mark.parametrize(
    ("status", "said"),
    [
        (200, b'[{"epoch": -1}]'),
        (200, b'[{"epoch": 9007199254740992}]'),
        (200, b'[{"epoch": 1, "more": ' + NESTED + b"}]"),
        (200, b'[{"\xff": 1}]'),
        (400, b'{"code": ' + NESTED + b"}"),
    ],
)
def test_a_list_with_what_is_no_epoch_is_refused(status: int, said: bytes) -> None:
    with (
        serving(answering(lambda *_: (status, said))) as url,
        closing(HttpPublished(url)) as published,
        pytest.raises(Unavailable, match=r"validator\.answer"),
    ):
        published.first()
