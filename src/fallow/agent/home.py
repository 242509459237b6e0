"""The agent's folder: who this node is, what it offers, and what must survive a restart.

node.key       the node's key (0600)
state.json     `State`, written atomically
consent        the owner's signed consent
consent-lent-X his signed consent to what he lends to the vertical X since
consent-handed-back-N-X his signed consent to handing it back, in the network N (of its hash)
outbox.sqlite  records that the network has not promised to keep yet
policy.toml    when the machine may work for others, and with how much of it; changed by its owner
asked.json     what the owner asked for in the console last, where policy.toml lets him
traffic.json   bytes moved over the line this month
cache/         inputs and compiled programs, may be deleted at any time
kept/          what verticals keep that would cost the owner something to lose, a folder for each network
uploads/       what leases left that the network could not take yet
work/          a folder for each lease, wiped at start and after each lease
agent.sock     control (0600), while the agent runs
lock           held while the agent runs: one agent a folder
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, TypeVar

import msgspec

from fallow.domain.errors import Conflict, InvalidInput, NotAllowed, NotFound, Unavailable
from fallow.domain.resources import Resources, Terms
from fallow.domain.views.network import NetworkView
from fallow.ports.files import write_durably

T = TypeVar("T", bound=msgspec.Struct)
Mode = Literal["open", "paused", "draining"]


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What the owner decides.

    `country` and `cell` are where the machine is, as far as the public may know; nothing finer is kept.
    `dial_from` is the address of this machine that connections come from; "" is any. `spot` are his terms for spot
    leases; None: he takes none. `direct` is the address and port of this machine that buyers may dial (`ADDR:PORT`);
    "": none. `lends` is what he lends to verticals beside leases, by their names.
    """

    total: Resources
    terms: Terms
    label: str = ""
    country: str = ""
    cell: str = ""
    dial_from: str = ""
    spot: Terms | None = None
    direct: str = ""
    lends: dict[str, str] = {}


class State(msgspec.Struct, frozen=True, kw_only=True):
    """The node's place in a network. `enrolled` says that the record of the binding is in the outbox or beyond.

    `before_s` is the time in the account's code, where the account keeps its own key (`fallow.domain.bindings`).
    `ca` is the certificate (PEM) of the only authority that is trusted to name this network's servers, with which the
    network came to this machine; empty: those of the system.
    """

    url: str
    network: NetworkView
    account: str
    account_signature: str
    before_s: int | None = None
    settings: Settings
    score_cpu: str = ""
    mode: Mode = "open"
    enrolled: bool = False
    ca: str = ""


class Counters(msgspec.Struct, frozen=True, kw_only=True):
    """Starts of this key's agent, and offers it made. They only ever grow: no number is signed twice."""

    boot: int = 0
    offer: int = 0


class Home:
    """The folder at `path`; made (0700) when it is not there yet.

    Its own path is absolute, from wherever the agent was started: sandboxes see other folders than it does.

    Raises:
        NotAllowed: others than its owner may write into the folder (`agent.home_exposed`).
    """

    def __init__(self, path: Path) -> None:
        path = path.absolute()
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = path.stat()
        if status.st_mode & 0o022 or status.st_uid != os.geteuid():
            raise NotAllowed(
                "agent.home_exposed",
                f"The agent's folder {path} can be changed by others than this user.",
                f"Choose another one with --home, or run: chmod 700 {path}",
            )
        self.path = path
        self.key = path / "node.key"
        self.consent = path / "consent"
        self.cache = path / "cache"
        self.uploads = path / "uploads"
        self.work = path / "work"
        self.socket = path / "agent.sock"
        self._state = path / "state.json"
        self._counters = path / "counters.json"

    @classmethod
    def there(cls, path: Path) -> Home:
        """The folder of a node, for who only looks into it or leaves it.

        Raises:
            NotFound: there is none (`agent.not_joined`); none is made.
            NotAllowed: as above.
        """
        if not path.exists():
            raise _nobody(path)
        return cls(path)

    @property
    def joined(self) -> bool:
        """Whether this folder belongs to a node of a network."""
        return self._state.exists()

    def consent_lent(self, vertical: str) -> Path:
        """Where the owner's consent to what he lends to a vertical is, where it came after that to all else."""
        return self.path / f"consent-lent-{vertical}"

    def consent_handed_back(self, net: str, vertical: str) -> Path:
        """Where his consent is to handing back what he lends to a vertical of a network."""
        return self.path / f"consent-handed-back-{_short(net)}-{vertical}"

    def keep(self, path: Path, data: bytes) -> None:
        """Write one of the folder's files durably. Raises as `save`."""
        _write_bytes(path, data)

    def outbox(self, net: str) -> Path:
        """Where the records for a network wait."""
        return self.path / f"outbox-{_short(net)}.sqlite"

    def kept(self, net: str) -> Path:
        """Where verticals keep what another network has no use for, and must not be told."""
        return self.path / "kept" / _short(net)

    def state(self) -> State:
        """Read the state.

        Raises:
            NotFound: the machine has not joined a network (`agent.not_joined`).
            InvalidInput: the file is damaged (`agent.state_malformed`).
        """
        state = _read(self._state, State)
        if state is None:
            raise _nobody(self.path)
        return state

    def save(self, state: State) -> State:
        """Write the state durably and return it.

        Raises:
            Unavailable: the disk is full or fails (`agent.disk_full`); the old state still holds.
        """
        _write(self._state, state)
        return state

    def next_boot(self) -> int:
        """Count this start, durably: nothing may be signed before, or two starts could sign the same number twice.

        Raises as `state` and `save` do.
        """
        counters = _read(self._counters, Counters) or Counters()
        _write(self._counters, msgspec.structs.replace(counters, boot=counters.boot + 1))
        return counters.boot + 1

    def next_offer(self) -> int:
        """Count an offer, durably. Raises as `state` and `save` do."""
        counters = _read(self._counters, Counters) or Counters()
        _write(self._counters, msgspec.structs.replace(counters, offer=counters.offer + 1))
        return counters.offer + 1

    def clear_work(self) -> None:
        """Wipe what leases of an earlier run left."""
        shutil.rmtree(self.work, ignore_errors=True)
        self.work.mkdir(mode=0o700, exist_ok=True)

    def free_mib(self) -> int:
        """MiB that are free on the folder's disk."""
        return shutil.disk_usage(self.path).free >> 20

    def forget(self) -> None:
        """Leave the network: the state is gone; key, counters and records stay."""
        self._state.unlink(missing_ok=True)

    def erase(self) -> None:
        """Delete the folder with all that is in it, the key included."""
        shutil.rmtree(self.path)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other agents out of this folder.

        Raises:
            Conflict: one runs here already (`agent.running`).
        """
        with (self.path / "lock").open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise Conflict(
                    "agent.running", f"An agent runs in {self.path} already.", "See: fallow agent status"
                ) from None
            yield


def with_lent(state: State, vertical: str, what: str) -> State:
    """Return the state with other words on what is lent to a vertical; empty ones end it."""
    lends = {name: words for name, words in (state.settings.lends | {vertical: what}).items() if words}
    return msgspec.structs.replace(state, settings=msgspec.structs.replace(state.settings, lends=lends))


def _short(net: str) -> str:
    """A network's name as part of a file's: what it calls itself may be anything."""
    return hashlib.sha256(net.encode()).hexdigest()[:16]


def _nobody(path: Path) -> NotFound:
    return NotFound("agent.not_joined", f"No node lives in {path} yet.", "Run: fallow agent join URL --token TOKEN")


def _read(path: Path, to: type[T]) -> T | None:
    try:
        return msgspec.json.decode(path.read_bytes(), type=to)
    except FileNotFoundError:
        return None
    except msgspec.MsgspecError as error:
        raise InvalidInput("agent.state_malformed", f"{path} is damaged: {error}.") from error


def _write(path: Path, value: msgspec.Struct) -> None:
    _write_bytes(path, msgspec.json.format(msgspec.json.encode(value)) + b"\n")


def _write_bytes(path: Path, data: bytes) -> None:
    try:
        write_durably(path, data)
    except OSError as error:
        raise Unavailable("agent.disk_full", f"{path} cannot be written: {error}.", "Free some space.") from error
