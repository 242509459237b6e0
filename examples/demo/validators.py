"""The demo's validators: three compute the closed epoch again, a fourth signs a root of its own making."""

from __future__ import annotations

import hashlib
import json
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import httpx2
from coincurve import PrivateKey

from fallow.domain.epochs.judging import domain_of, root_of
from fallow.domain.epochs.quorum import Vote
from fallow.sdk.epochs import read_epoch

HONEST = ("university", "town", "auditor")
WRONG = "newcomer"
PATIENCE_S = 30.0


class Validator(NamedTuple):
    """Somebody with a key."""

    name: str
    address: str
    key: Path


def make_validators(fallow: Path, folder: Path) -> list[Validator]:
    """Draw their keys, as each of them does on a machine of his own: `fallow account new`."""
    keys = {name: folder / f"{name}.key" for name in (*HONEST, WRONG)}
    commands = [[str(fallow), "account", "new", "--key", str(key), "--json"] for key in keys.values()]
    made = [json.loads(said) for said in together(commands)]
    return [Validator(name, said["account"], key) for (name, key), said in zip(keys.items(), made, strict=True)]


def judge(fallow: Path, folder: Path, url: str, network_key: str, validators: Sequence[Validator]) -> Iterator[str]:
    """`fallow validator run` by each that is honest, at the same time; yields what each of them says."""
    honest = [each for each in validators if each.name != WRONG]
    options = ["--network-key", network_key, "--once"]
    commands = [
        [str(fallow), "validator", "run", url, *options, "--key", str(each.key), "--home", str(folder / each.name)]
        for each in honest
    ]
    for each, said in zip(honest, together(commands), strict=True):
        yield f"{each.name}: {said.strip()}"


def sign_wrongly(archive: Path, url: str, network_key: str, epoch: int, validators: Sequence[Validator]) -> None:
    """Hand in a vote for a root that no records give: whoever signs without computing does as much."""
    sealed, statement, _ = read_epoch(archive, epoch, bytes.fromhex(network_key))
    made_up = root_of(statement, sealed)._replace(root=hashlib.sha256(b"mine").digest())
    (liar,) = (each for each in validators if each.name == WRONG)
    vote = Vote.cast(PrivateKey(bytes.fromhex(liar.key.read_text().strip())), domain_of(statement), made_up)
    httpx2.post(f"{url}/v1/epochs/{epoch}/votes", content=vote.encode()).raise_for_status()


def together(commands: Sequence[Sequence[str]]) -> list[str]:
    """Run commands at the same time; returns what each said.

    Raises:
        subprocess.CalledProcessError: one has failed.
    """
    with ExitStack() as stack:
        running = [
            stack.enter_context(subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True))
            for command in commands
        ]
        ended = [process.communicate(timeout=PATIENCE_S) for process in running]
    for process, command, (out, err) in zip(running, commands, ended, strict=True):
        if process.returncode:
            raise subprocess.CalledProcessError(process.returncode, command, out, err)
    return [out for out, _ in ended]
