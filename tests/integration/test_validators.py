"""Validators of a real network: one behind somebody's router, with nothing of the network but its address."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path

import pytest
from coincurve import PrivateKey

from fallow.adapters.published import HttpPublished
from fallow.domain.epochs.quorum import Vote
from fallow.domain.errors import Conflict
from fallow.domain.views.votes import VotesView
from fallow.domain.wallets import address_of
from fallow.sdk.trust import verifying
from tests.capability import require
from tests.integration.test_nat import Router
from tests.network import BOUND, FALLOW, Net, clean_environment, fallow, network, until_async
from tests.programs import SECOND
from tools import verify_epoch


@pytest.fixture
def router() -> Iterator[Router]:
    require("namespaces")
    made = Router()
    with ExitStack() as stack:
        stack.callback(made.remove)
        made.build()
        yield made


class _Validator:
    """A key, and a folder of its own."""

    def __init__(self, folder: Path, number: int) -> None:
        self.folder = folder / f"validator-{number}"
        self.folder.mkdir()
        self.private = PrivateKey(bytes([60 + number]) * 32)
        self.address = f"0x{address_of(self.private).hex()}"
        (self.folder / "key").write_text(self.private.to_hex() + "\n")
        (self.folder / "key").chmod(0o600)

    def command(self, net: Net, key: str) -> list[str | Path]:
        """What its owner types; the certificate was handed over beforehand."""
        ca = self.folder / "ca.pem"
        ca.write_bytes(Path(net.running.welcome["ca"]).read_bytes())
        return [
            "validator", "run", net.url, "--network-key", key, "--key", self.folder / "key", "--home",
            self.folder / "home", "--ca", ca, "--once", "--json",
        ]  # fmt: skip


def elsewhere(router: Router, net: Net, command: list[str | Path]) -> subprocess.CompletedProcess[str]:
    """Type a command on the machine behind the router, which has none of the network's files."""
    hidden = f'mount -t tmpfs none "{net.data}" && test -z "$(ls -A "{net.data}")" && exec "$@"'
    return subprocess.run(
        ["ip", "netns", "exec", router.machine, "sh", "-c", hidden, "sh", FALLOW, *command],
        capture_output=True, text=True, check=False, timeout=BOUND, env=clean_environment(),
    )  # fmt: skip


async def test_a_quorum_signs_from_outside_and_a_liar_convicts_itself(
    router: Router, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    away, *others, liar = (_Validator(tmp_path, number) for number in range(4))
    everybody = ",".join(each.address for each in (away, *others, liar))
    async with network(listen=f"{router.outside}:0", validators=everybody) as net:
        key = (await net.buyer.network()).public_key
        async with net.agents("barn"):
            await net.finished((await net.submit([SECOND // 20])).id)
            await until_async(partial(all_is_sealed, net), "what was decided is among the records")
            epoch = (await net.operator.closed_epoch((await net.operator.end_epoch()).epoch)).epoch

        done = elsewhere(router, net, away.command(net, key))
        assert done.returncode == 0, done.stderr
        signed = json.loads(done.stdout)[-1]
        assert (signed["epoch"], signed["listed"]) == (epoch, True)
        for other in others:
            said = await fallow(*other.command(net, key))
            assert (said.code, json.loads(said.out)[-1]) == (0, signed)

        assert signed["root"] != f"0x{bytes(32).hex()}", "somebody is owed what a buyer spent"
        votes = await net.buyer.votes(epoch)
        assert votes.decided
        assert set(votes.signed) == {away.address, *(other.address for other in others)}
        await lies(net, liar, epoch)

        monkeypatch.setenv("SSL_CERT_FILE", net.running.welcome["ca"])
        assert verify_epoch.main([net.url, str(epoch), "--key", key, "--validators", everybody]) == 0
        assert "3 of 4 signed it, which is a quorum" in capsys.readouterr().out


async def all_is_sealed(net: Net) -> bool:
    (row,) = await net.fetch("SELECT count(*) AS waiting FROM outbox.decision")
    return row["waiting"] == 0


async def lies(net: Net, liar: _Validator, epoch: int) -> None:
    """A validator signs what is wrong, and then what is right: it counts for neither, and all of it is kept."""
    right = await stated(net, epoch)
    wrong = Vote.cast(liar.private, right.domain, right.about._replace(token_total=10**18))
    with closing(HttpPublished(net.url, verifying(net.running.ca))) as published:
        published.vote(epoch, wrong.encode())
    votes: VotesView = await net.buyer.votes(epoch)
    assert [each.validator for each in votes.wrong] == [liar.address]
    with (
        closing(HttpPublished(net.url, verifying(net.running.ca))) as published,
        pytest.raises(Conflict, match=r"vote\.twice"),
    ):
        published.vote(epoch, Vote.cast(liar.private, right.domain, right.about).encode())
    votes = await net.buyer.votes(epoch)
    assert (votes.decided, votes.wrong, votes.equivocated) == (True, [], [liar.address])


async def stated(net: Net, epoch: int) -> Vote:
    """A vote of somebody honest."""
    votes = await net.buyer.votes(epoch)
    with closing(HttpPublished(net.url, verifying(net.running.ca))) as published:
        return Vote.decode(b"".join(published.read(epoch, f"votes/{votes.signed[0]}")))
