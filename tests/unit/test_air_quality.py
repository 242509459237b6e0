"""A network outside of the package: its plugin is found where it is installed, its readings are judged and counted."""

from __future__ import annotations

import asyncio
import hashlib
import json
import subprocess
import sys
from collections.abc import Sequence
from importlib import util
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from fallow.domain.encoding import encode
from fallow.domain.epochs.closing import close
from fallow.domain.epochs.lines import Line
from fallow.domain.epochs.metering import Known
from fallow.domain.epochs.plugins import Contained
from fallow.domain.epochs.reading import Filed
from fallow.domain.epochs.state import Row
from fallow.domain.errors import FallowError
from fallow.domain.records import Body
from fallow.domain.verification import Standing
from fallow.ports.vertical.plugin import Vertical
from tests import epoch_world
from tests.epoch_world import ACCOUNTS, NODES, enrolled
from tests.network import until

EXAMPLE = Path(__file__).parents[2] / "examples" / "air-quality"
MINUTE_MS = 60_000
NOW_MS = 1_700_000_000_000


def load() -> ModuleType:
    spec = util.spec_from_file_location("fallow_air_quality", EXAMPLE / "fallow_air_quality.py")
    assert spec is not None
    assert spec.loader is not None
    module = util.module_from_spec(spec)
    sys.modules["fallow_air_quality"] = module
    spec.loader.exec_module(module)
    return module


AIR = load()
VERTICAL: Vertical = AIR.VERTICAL


def reading(minute: int, *samples: int, late_ms: int = 0) -> tuple[Body, int]:
    """A reading of a minute, and when the network received it."""
    made = tuple(samples) or tuple(120 + (minute * 7 + number * 3) % 11 for number in range(10))
    at = NOW_MS + minute * MINUTE_MS
    return AIR.Reading(measured_ms=at, samples=list(made)), at + late_ms


def epoch(*said: tuple[int, tuple[Body, int]], opening: bytes = b"") -> tuple[dict[bytes, Line], bytes]:
    """Close an epoch of three nodes' readings; returns the line of each node, and the state."""
    records: list[Filed] = [epoch_world.filed(NODES[node], enrolled(node, node)) for node in range(3)]
    records += [
        epoch_world.filed(NODES[node], body, place, at)._replace(received_ms=at)
        for place, (node, (body, at)) in enumerate(said, 1)
    ]
    metering = VERTICAL.metering
    assert metering is not None
    made = close(opening, epoch_world.epoch(), records, epoch_world.WORK_ONLY, {VERTICAL.name: metering})
    lines = {line.node: line for line in made.folded.lines if line.vertical == VERTICAL.name}
    return lines, made.files["state"]


def verdicts(line: Line) -> dict[str, int]:
    return {code or verdict: count for verdict, code, count in line.verdicts}


def test_honest_readings_are_counted_for_the_owner_of_the_sensor() -> None:
    lines, _ = epoch(*((node, reading(minute, *noise(node, minute))) for minute in range(5) for node in range(2)))
    for node in range(2):
        line = lines[NODES[node]]
        assert (line.account, line.units, line.score) == (ACCOUNTS[node], 5, 1_000_000)
        assert verdicts(line) == {"accepted": 5}
        assert int.from_bytes(line.incentive) == 0, "nobody bought anything"


def noise(node: int, minute: int) -> list[int]:
    return [100 + (minute * 13 + node * 29 + number * number) % 40 for number in range(10)]


CHEATS: list[tuple[tuple[Body, int], str]] = [
    (reading(1, *[5] * 10), "air.stuck"),
    (reading(0, *noise(0, 7)), "air.too_soon"),
    (reading(1, *(9000 + number for number in range(10))), "air.implausible"),
    (reading(2, *noise(0, 0)), "air.replayed"),
    (reading(1, *noise(1, 0)), "air.replayed"),
    (reading(9, late_ms=-MINUTE_MS - 1), "air.not_its_time"),
    (reading(1, late_ms=25 * 60 * MINUTE_MS), "air.not_its_time"),
    (reading(1, *range(10_001, 10_011)), "record.body"),
    (reading(1, 1, 2, 3), "record.body"),
]


@pytest.mark.parametrize(("cheat", "code"), CHEATS, ids=[code for _, code in CHEATS])
def test_what_is_implausible_replayed_or_malformed_is_rejected_with_its_reason(
    cheat: tuple[Body, int], code: str
) -> None:
    lines, _ = epoch((1, reading(0, *noise(1, 0))), (0, reading(0, *noise(0, 0))), (0, cheat))
    assert verdicts(lines[NODES[0]]) == {"accepted": 1, code: 1}
    assert (lines[NODES[0]].units, lines[NODES[1]].units) == (1, 1)


def test_the_digest_is_that_of_what_version_1_makes_of_golden_readings() -> None:
    """Who changes what it decides without a new version is told here, before statements pin something else by it."""
    metering = VERTICAL.metering
    assert metering is not None
    made: list[object] = [metering.score(one, NOW_MS) for one in (Standing(), Standing(wrong=1, wrong_at=NOW_MS))]
    rows: Sequence[Row] = ()
    for first in (0, 5):
        contained = Contained(metering, rows, Known(first, bytes(32), {}))
        honest = [(node, reading(first, *noise(node, first))) for node in range(2)]
        cheats = [(0, cheat) for cheat, _ in CHEATS]
        for place, (node, (body, at)) in enumerate([*honest, *cheats, (0, reading(first + 9))]):
            found, use = contained.judge(epoch_world.filed(NODES[node], body, place, at)._replace(received_ms=at))
            made.append([found.verdict.value, found.code, use.units if use else 0])
        rows = contained.carried()
        made.append(list(map(list, rows)))
    assert metering.digest.hex() == hashlib.sha256(encode(made)).hexdigest()


def test_a_node_that_dates_its_readings_ahead_has_no_more_minutes_than_others() -> None:
    """A day of minutes, all sent in one: by its own word each is a minute after the one before."""
    ahead = [(0, (reading(minute, *noise(0, minute))[0], NOW_MS)) for minute in range(60)]
    lines, _ = epoch(*ahead)
    assert verdicts(lines[NODES[0]]) == {"accepted": 2, "air.not_its_time": 58}


def test_a_replay_in_the_next_epoch_is_found_by_what_is_carried() -> None:
    _, state = epoch((0, reading(0, *noise(0, 0))))
    lines, _ = epoch((0, reading(5, *noise(0, 0))), (0, reading(6, *noise(0, 6))), opening=state)
    assert verdicts(lines[NODES[0]]) == {"accepted": 1, "air.replayed": 1}


def test_it_follows_its_sensor_and_leaves_out_what_is_no_reading(tmp_path: Path) -> None:
    sensor = tmp_path / "sensor"
    sensor.write_text("1,2,3,4,5,6,7,8,9,10\n")
    found: list[Any] = []

    async def run() -> None:
        async def say(body: Body) -> None:
            found.append(body)

        worker = AIR.AirWorker(str(sensor))
        assert (await worker.probe()).attributes == {"air_quality.sensor": "pm2.5"}
        task = asyncio.get_running_loop().create_task(worker.report(say))
        with sensor.open("a", buffering=1) as out:  # again and again: when it began to follow nobody tells
            number = 10
            while not found:
                out.write(f"warming up\n1,2\n{','.join(str(number + each) for each in range(10))}\n")
                number += 1
                await asyncio.sleep(0.01)
            out.write("7,7,7,7,")
            out.flush()
            out.write("7,7,7,7,7,8\n")
            await until(lambda: found[-1].samples == [7] * 9 + [8], "a line in two pieces is one reading")
        task.cancel()

    asyncio.run(run())
    assert all(len(each.samples) == 10 for each in found)
    assert [1, 2, 3, 4, 5, 6, 7, 8, 9, 10] not in [each.samples for each in found]


def test_without_a_sensor_it_says_so_and_reports_nothing() -> None:
    probe = asyncio.run(AIR.AirWorker("").probe())
    assert probe.attributes == {}
    assert AIR.NAME in probe.missing
    asyncio.run(AIR.AirWorker("").report(lambda _body: asyncio.sleep(0)))
    with pytest.raises(FallowError, match=r"order\.none"):
        VERTICAL.check_work({}, None)


def test_it_is_found_where_it_is_installed_and_nothing_lists_it(tmp_path: Path) -> None:
    (tmp_path / "fallow_air_quality.py").write_text((EXAMPLE / "fallow_air_quality.py").read_text("utf-8"))
    info = tmp_path / "fallow_air_quality-0.1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: fallow-air-quality\nVersion: 0.1.0\n")
    (info / "entry_points.txt").write_text("[fallow.verticals]\nair_quality = fallow_air_quality:VERTICAL\n")
    code = (
        "import json; from fallow.bootstrap.plugins import load_meterings;"
        "print(json.dumps({name: sorted(one.kinds) for name, one in load_meterings().items()}))"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env={"PYTHONPATH": str(tmp_path)}, capture_output=True, text=True, check=True)
    found = json.loads(done.stdout)
    assert found["air_quality"] == ["air_quality.reading"]
    assert "compute" in found


def test_the_verifier_carries_on_as_if_nothing_had_happened() -> None:
    """Closing after every record gives the same verdicts as closing once: what is carried is all that it remembers."""
    said = [(0, reading(minute, *noise(0, minute % 4))) for minute in range(8)]
    whole, _ = epoch(*said)
    state, codes = b"", list[str]()
    for each in said:
        lines, state = epoch(each, opening=state)
        codes += [code or verdict for verdict, code, _ in lines[NODES[0]].verdicts]
    assert codes.count("accepted") >= verdicts(whole[NODES[0]])["accepted"]
