"""How long a connection to the bus waits before it is tried again."""

from __future__ import annotations

import random
from itertools import count
from urllib.parse import urlparse

import pytest
from nats.aio.client import Server

from fallow.adapters.nats.dial import BACKOFF_MAX_S, backoff
from fallow.agent.service import BEAT_INTERVAL_S
from fallow.domain.offers import LOST_AFTER_MS

SERVER = urlparse("wss://net.example")


def back_after_s(cut_s: float, jitter: random.Random) -> float:
    """How long a line is down that is cut for so long and refuses each attempt at once."""
    choose, down_s = backoff(jitter), 0.0
    for tries in count():
        down_s += choose([Server(SERVER, tries)], {})[1]
        if down_s >= cut_s:
            break
    return down_s


@pytest.mark.parametrize("cut_s", [1.0, 3.0, 5.0])
def test_a_cut_of_some_seconds_is_over_before_its_node_counts_as_lost(cut_s: float) -> None:
    jitter = random.Random(1)
    lost = sum(back_after_s(cut_s, jitter) > LOST_AFTER_MS / 1000 - BEAT_INTERVAL_S for _ in range(2000))
    assert lost <= 2000 * 0.02, "where waits double without end it is half of them"


def test_a_long_cut_is_tried_ever_more_seldom_and_the_server_that_failed_least_first() -> None:
    class Latest(random.Random):
        def uniform(self, a: float, b: float) -> float:  # noqa: ARG002 - as its base has it
            return b

    choose = backoff(Latest())
    bounds = [choose([Server(SERVER, tries)], {})[1] for tries in range(100)]
    assert bounds == sorted(bounds)
    assert bounds[-1] == BACKOFF_MAX_S
    assert choose([Server(SERVER, 3), Server(urlparse("wss://other.example"), 2)], {})[0].uri.netloc == "other.example"
