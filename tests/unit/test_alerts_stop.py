"""A person who follows a mail's link ends nothing by that; its page's button does."""

from __future__ import annotations

import re

import httpx2
import pytest

from fallow.http.alerts_stop import POLICY
from tests.unit.fake_network import FakeNetwork

LINK = f"/v1/alerts/stop/{'a1' * 20}-email-{'b' * 32}"


async def test_the_link_asks_and_its_button_ends_it(network: FakeNetwork, http: httpx2.AsyncClient) -> None:
    asked = await http.get(LINK)
    assert (asked.status_code, network.stopped) == (200, [])
    assert asked.headers["Content-Type"] == "text/html; charset=utf-8"
    (action,) = re.findall(r'<form method="post" action="(.+?)"', asked.text)
    done, again = await http.post(action), await http.post(action)
    assert (done.status_code, again.status_code, len(network.stopped)) == (200, 404, 1)
    for answer, english, japanese in (
        (asked, "Stop these mails?", "メールを停止しますか"),
        (done, "The mails are stopped", "メールを停止しました"),
        (again, "There is nothing to stop", "停止するものがありません"),
    ):
        assert f'<section lang="en"><h1>{english}</h1>' in answer.text
        assert f'<section lang="ja"><h1>{japanese}</h1>' in answer.text
        assert f"0x{'a1' * 20}" in answer.text or answer is again
        assert answer.headers["Content-Security-Policy"] == POLICY


async def test_a_mail_programs_one_click_ends_it(network: FakeNetwork, http: httpx2.AsyncClient) -> None:
    done = await http.post(LINK, data={"List-Unsubscribe": "One-Click"})
    assert (done.status_code, done.json(), len(network.stopped)) == (200, {}, 1)


@pytest.mark.parametrize("token", ["x", f"{'a1' * 20}-email-{'b' * 31}<"])
async def test_what_is_no_link_of_a_mail_is_refused(http: httpx2.AsyncClient, token: str) -> None:
    assert (await http.get(f"/v1/alerts/stop/{token}")).status_code == 400
