"""Work in processes of its own: what comes back is what it returned, or raised; one that dies is heard of."""

from __future__ import annotations

import copy
import hashlib
import os
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

import pytest

from fallow.adapters import processes
from fallow.adapters.archive import folder_archive
from fallow.adapters.processes import in_process, spread_over
from fallow.bootstrap import closing
from fallow.domain.epochs.core import Epoch
from fallow.domain.epochs.manifest import MANIFEST, path_of
from fallow.domain.epochs.metering import Known
from fallow.domain.epochs.rules import Rules
from fallow.domain.epochs.state import Row
from fallow.domain.errors import InvalidInput, TooMuch, Unavailable
from fallow.ports.chain import ContractRefused
from fallow.services.epochs.concluding import Work, conclude
from fallow.verticals.compute.core.metering import ComputeMetering
from tests.epoch_files import NET, NETWORK_KEY
from tests.property.test_parts import DAY, some_files


def refuse() -> NoReturn:
    raise TooMuch("some.code", "It is too much.", "Take less.")


def die() -> NoReturn:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError


def die_over(_piece: bytes) -> NoReturn:
    die()


def test_what_it_returns_or_raises_comes_back() -> None:
    assert in_process(pow, 2, 10) == 1024
    assert in_process(os.getpid) != os.getpid()
    with pytest.raises(TooMuch) as raised:
        in_process(refuse)
    assert str(raised.value) == "It is too much. Take less. [some.code]"


def test_one_that_is_killed_is_no_answer() -> None:
    with pytest.raises(Unavailable, match=r"process\.died"):
        in_process(die)


class Killed(ComputeMetering):
    """A policy whose process is killed, as when memory runs out."""

    by_node = True

    def verifier(self, _carried: Sequence[Row], _known: Known) -> NoReturn:
        """See `Metering`."""
        die()


def work_in(folder: Path, *, damaged: bool = False) -> Work:
    """An epoch in an archive."""
    files = some_files(5)
    archive = folder_archive(folder)
    for name, data in files.files.items():
        archive.put(path_of(DAY, name), bytes(data[:-1] + b"\xff" if damaged else data))
    archive.put(path_of(DAY, MANIFEST), files.manifest.encode())
    epoch = Epoch(NET, DAY, (DAY + 1) * 86_400_000, NETWORK_KEY)
    return Work(archive, b"", epoch, files.manifest, Rules(), {"compute": ComputeMetering()})


def test_an_epoch_that_other_processes_conclude_is_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(closing, "RECORDS_MIN", 1)
    apart, here = work_in(tmp_path / "apart"), work_in(tmp_path / "here")
    assert closing.conclude_apart(apart) == conclude(here)
    for name in ("state", "lines", "leaves"):
        both = [hashlib.sha256((tmp_path / each / path_of(DAY, name)).read_bytes()) for each in ("apart", "here")]
        assert both[0].digest() == both[1].digest()
    with pytest.raises(InvalidInput, match=r"archive\.damaged"):
        closing.conclude_apart(work_in(tmp_path / "damaged", damaged=True))


def test_a_tree_is_not_waited_for_when_a_process_that_hashes_it_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "PIECE_S", 2)
    with spread_over(1) as spread, pytest.raises(Unavailable, match=r"process\.died"):
        list(spread.hashing(die_over, [b"piece"]))


def test_an_epoch_is_not_waited_for_when_one_of_the_processes_that_judge_it_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(closing, "RECORDS_MIN", 1)
    with pytest.raises(Unavailable, match=r"process\.died"):
        closing.conclude_apart(work_in(tmp_path)._replace(meterings={"compute": Killed()}))


def test_a_policy_that_no_other_process_can_be_given_is_run_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(closing, "RECORDS_MIN", 1)
    here = ComputeMetering()
    vars(here)["not_to_be_pickled"] = lambda: None
    work = work_in(tmp_path / "apart")._replace(meterings={"compute": here})
    assert closing.conclude_apart(work) == conclude(work_in(tmp_path / "here"))


def test_every_error_comes_back_with_all_that_it_says() -> None:
    refused = ContractRefused(b"data", "too little")
    back = copy.copy(refused)  # by what a pickle is made of
    assert (type(back), back.data, str(back)) == (ContractRefused, b"data", str(refused))
