"""`fallow validator` against a network's files over HTTP."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path

import msgspec
import pytest

from fallow.adapters.published import HttpPublished
from fallow.cli import main
from fallow.domain.errors import Conflict, FallowError, InvalidInput, NotFound, Unavailable
from fallow.domain.views.base import ErrorView
from tests.closed_epochs import VALIDATORS
from tests.epoch_files import NETWORK_KEY
from tests.serving import Answer, answering, serving
from tests.validators import FIRST, History, Network


def over_http(network: Network) -> type:
    """The routes of a network's gateway, on a history in memory."""

    def answer(path: str, body: bytes) -> Answer:
        place, _, query = path.removeprefix("/v1/epochs").partition("?")
        if not place:
            below = int(query.partition("before=")[2] or FIRST + 100)
            found = sorted((epoch for epoch in network.files if epoch < below), reverse=True)
            return 200, json.dumps([{"epoch": epoch, "more": "fields"} for epoch in found[:2]]).encode()
        number, kind, *name = place.strip("/").split("/")
        try:
            if kind == "files":
                return 200, b"".join(network.read(int(number), "/".join(name)))
            network.vote(int(number), body)
        except FallowError as error:
            status = 404 if isinstance(error, NotFound) else 503
            return status, msgspec.json.encode(ErrorView(kind=type(error).__name__, code=error.code, message="no"))
        return 200, b"{}"

    return answering(answer)


class _Cli:
    """The command with a key and a folder of its own."""

    def __init__(self, folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
        self.home, self.key = folder / "home", folder / "key"
        self.key.write_text(VALIDATORS[0].to_hex() + "\n")
        self.key.chmod(0o600)
        self._capfd = capfd

    def __call__(self, command: str, *words: str) -> tuple[int, str, str]:
        key = ["--key", str(self.key)] if command == "run" else []
        always = ["--network-key", NETWORK_KEY.hex(), "--home", str(self.home), *key]
        code = main.run(["validator", command, *words, *always])
        said = self._capfd.readouterr()
        return code, said.out, said.err


@pytest.fixture
def cli(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> _Cli:
    return _Cli(tmp_path, capfd)


@pytest.fixture
def history() -> History:
    made = History()
    for _ in range(5):
        made.close()
    return made


def test_it_signs_what_is_right_and_shows_what_it_signed(cli: _Cli, history: History) -> None:
    network = history.published()
    with serving(over_http(network)) as url:
        code, out, err = cli("run", url, "--once")
    assert (code, len(out.splitlines())) == (0, 5)
    assert "judges http://127.0.0.1" in err
    assert f"epoch {FIRST}: signed root 0x" in out
    assert [vote.about for vote in network.votes] == [closed.root for closed in history.epochs]
    code, out, _ = cli("show")
    assert code == 0
    assert f"0x{history.epochs[4].root.archive.hex()[:16]}" in out
    assert json.loads(cli("show", "--json")[1])["signed"][0]["epoch"] == FIRST


def test_it_says_what_it_refuses_and_exits_with_1(cli: _Cli, history: History) -> None:
    history.close(token_total=(5).to_bytes(32))
    network = history.published()
    with serving(over_http(network)) as url:
        code, out, _ = cli("run", url, "--once", "--json")
    *signed, last = json.loads(out)
    assert (code, len(signed), len(network.votes)) == (1, 5, 5)
    assert last["refused"]["code"] == "epoch.wrong"
    code, out, _ = cli("show")
    assert code == 1
    assert f"Epoch {FIRST + 5} is REFUSED: " in out
    assert "token_total is" in out


def test_a_network_that_is_away_is_no_refusal(cli: _Cli, history: History) -> None:
    network = history.published()
    network.away = 1
    with serving(over_http(network)) as url:
        code, _, err = cli("run", url, "--once")
        assert (code, "[test.away]" in err) == (1, True)
        assert cli("run", url, "--once")[0] == 0
    code, _, err = cli("run", url, "--once")
    assert (code, "[validator.unreachable]" in err, "(--ca)" in err) == (1, True, True)


def test_an_answer_that_is_no_list_of_epochs(cli: _Cli) -> None:
    with serving(answering(lambda _path, _body: (200, b"<html>"))) as url:
        assert "[validator.answer]" in cli("run", url, "--once")[2]


def test_a_list_of_epochs_that_has_no_end(cli: _Cli) -> None:
    with serving(answering(lambda _path, _body: (200, b'[{"epoch": 8}, {"epoch": 7}]'))) as url:
        assert "[validator.answer]" in cli("run", url, "--once")[2]


@pytest.mark.parametrize(
    ("status", "kind", "error"),
    [(409, "Conflict", Conflict), (400, "InvalidInput", InvalidInput), (503, "Conflict", Unavailable)],
)
def test_what_the_network_says_to_a_vote_is_told(status: int, kind: str, error: type[FallowError]) -> None:
    said = msgspec.json.encode(ErrorView(kind=kind, code="vote.twice", message="There is one."))
    with (
        serving(answering(lambda _path, _body: (status, said))) as url,
        closing(HttpPublished(url)) as published,
        pytest.raises(error, match=r"vote\.twice"),
    ):
        published.vote(1, b"")


@pytest.mark.parametrize("key", ["", "ab", "zz" * 32])
def test_a_network_key_that_is_none(key: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main.run(["validator", "show", "--network-key", key, "--home", str(tmp_path)]) == 2
    assert "64 hex digits" in capfd.readouterr().err
