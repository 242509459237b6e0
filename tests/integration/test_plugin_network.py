"""A network outside of the package, installed beside Fallow: its nodes join, are judged, earn and show, for real."""

from __future__ import annotations

import json
import re
import sysconfig
import venv
from pathlib import Path
from typing import Any, TextIO

import httpx2
import pytest

from tests import network as networks
from tests.integration.test_epochs import closed, ended
from tests.network import BOUND, Agent, Net, fallow, network, until_async

EXAMPLE = Path(__file__).parents[2] / "examples" / "air-quality"
PART_PPM = 50_000
REWARDS = f"""
model = "work_only"
schedule.type = "halving_by_date"
schedule.base = {10**18}
schedule.period = 730
unsold.air_quality = {PART_PPM}
"""
HONEST = "120,131,118,125,140,122,119,133,128,126"
CHEATS = {
    ",".join(["7"] * 10): "air.stuck",
    "99,98,97,96,95,94,93,92,91,10001": "record.body",
    "121,130,119,124,141,123,118,134,127,125": "air.too_soon",
}
"""What the sensor writes besides, and what becomes of it."""


def installed(folder: Path) -> Path:
    """Python with Fallow and the example beside it, as pip would lay them out; returns its command `fallow`."""
    venv.create(folder, with_pip=False)
    python = folder / "bin" / "python"
    version = f"python{sysconfig.get_python_version()}"
    packages = folder / "lib" / version / "site-packages"
    ours = sysconfig.get_paths()["purelib"]
    (packages / "fallow_beside.pth").write_text(f"import site; site.addsitedir({ours!r})\n")
    (packages / "fallow_air_quality.py").write_text((EXAMPLE / "fallow_air_quality.py").read_text("utf-8"))
    info = packages / "fallow_air_quality-0.1.0.dist-info"
    info.mkdir()
    project = (EXAMPLE / "pyproject.toml").read_text("utf-8")
    entry = re.search(r'^\[project\.entry-points\."(.+)"\]\n(\w+) = "(.+)"$', project, re.MULTILINE)
    assert entry is not None
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: fallow-air-quality\nVersion: 0.1.0\n")
    (info / "entry_points.txt").write_text(f"[{entry[1]}]\n{entry[2]} = {entry[3]}\n")
    for program in Path(sysconfig.get_paths()["scripts"]).iterdir():  # nats-server, which a wheel puts there
        if not (folder / "bin" / program.name).exists() and program.name != "fallow":
            (folder / "bin" / program.name).symlink_to(program)
    command = folder / "bin" / "fallow"
    command.write_text(f"#!{python}\nimport sys\nfrom fallow.cli.main import main\nsys.exit(main())\n")
    command.chmod(0o755)
    return command


async def readings(net: Net, agent: Agent) -> int:
    """How many of its sensor's readings the network has."""
    rows = await net.fetch("SELECT data FROM ingest.batch WHERE node = $1", bytes.fromhex(agent.node))
    return sum(row["data"].count(b"air_quality.reading") for row in rows)


async def measure(net: Net, agent: Agent, sensor: TextIO, line: str) -> None:
    """Have the sensor write a line, and wait until the network has the reading."""
    before = await readings(net, agent)
    sensor.write(f"{line}\n")

    async def is_there() -> bool:
        return await readings(net, agent) > before

    await until_async(is_there, f"the reading {line} is promised")


async def follows(net: Net, agent: Agent, sensor: TextIO) -> None:
    """Wait until the agent follows its sensor; what was written before it did is left out."""

    async def has_read() -> bool:
        sensor.write(f"{HONEST}\n")
        return await readings(net, agent) > 0

    await until_async(has_read, "the agent follows its sensor")


async def everybody_sees_it(net: Net, agent: Agent, epoch: int) -> None:
    """On its page, among what happened, and at who governs the contracts."""
    async with httpx2.AsyncClient(base_url=net.url, timeout=BOUND) as client:

        async def added_up() -> bool:
            shown = {one["name"]: one for one in (await client.get("/v1/networks")).json()}
            (latest, *_) = shown["air_quality"]["epochs"]
            assert latest["epoch"] == epoch
            sums = latest["sums"]
            return sums is not None and (sums["nodes"], sums["units"] > 0, int(sums["incentive"]) > 0) == (
                1,
                True,
                True,
            )

        await until_async(added_up, f"epoch {epoch} is added up")
        happened = (await client.get("/v1/happenings")).json()["shown"]
        seen = {(one["kind"], one["node"], one["epoch"]) for one in happened}
        assert {("node.joined", agent.node, None), ("epoch.closed", "", epoch)} <= seen
        governed = (await client.get("/v1/governance")).json()
        supply = int(governed["parameters"]["token"]["totalSupply"])
        assert supply == sum(int(one["amount"]) for one in governed["holders"])


async def test_a_network_of_sensors_is_judged_earns_and_shows_up_everywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = networks.FALLOW
    monkeypatch.setattr(networks, "FALLOW", installed(tmp_path / "installed"))
    rewards, sensor = tmp_path / "rewards.toml", tmp_path / "sensor"
    rewards.write_text(REWARDS)
    sensor.touch()
    async with (
        network(preset="public", chain_port="0", rewards=str(rewards)) as net,
        net.agent("roof", variables={"FALLOW_AIR_SENSOR": str(sensor)}) as roof,
    ):
        with sensor.open("a", buffering=1) as out:
            await follows(net, roof, out)
            for line in (*CHEATS, HONEST):
                await measure(net, roof, out, line)
        node = await net.node(roof)
        assert node.attributes["air_quality.sensor"] == "pm2.5", "buyers see it in the list of nodes"
        epoch = (await closed(net, await ended(net))).epoch
        await everybody_sees_it(net, roof, epoch)

        key = (await net.buyer.network()).public_key
        of = ("--from", net.url, "--into", tmp_path / "fetched", "--key", key, "--json")
        explained = await typed("epoch", "explain", str(epoch), roof.node, *of)
        (line,) = [line for line in explained["lines"] if line["vertical"] == "air_quality"]
        verdicts = {code or verdict: count for verdict, code, count in line["verdicts"]}
        assert verdicts.pop("air.replayed") >= 1, "the honest reading, once more"
        assert verdicts == {"accepted": 1, **dict.fromkeys(CHEATS.values(), 1)}
        readings = [one for one in explained["records"] if one["kind"] == "air_quality.reading"]
        assert len(readings) == sum(count for *_, count in line["verdicts"]), "down to its own records"
        assert (line["units"], line["score_ppm"], line["account"]) == (1, 1_000_000, roof.account)
        earned = int(line["incentive"])
        assert earned == 10**18 * PART_PPM // 1_000_000

        audited = await typed("epoch", "audit", str(epoch), *of)
        assert "air_quality 1" in audited["policies"]
        assert int(audited["totals"]["incentive.unsold"]) == earned
        view = await net.buyer.epoch(epoch)
        assert view.root == audited["root"], "over HTTP, too"
        then = await typed("epoch", "what-if", str(epoch), "--set", "unsold.air_quality=0", *of)
        assert [(int(one["incentive"]), one["incentive_then"]) for one in then if one["vertical"] == "air_quality"] == [
            (earned, 0)
        ]

        monkeypatch.setattr(networks, "FALLOW", plain)
        refused = await fallow("epoch", "audit", str(epoch), *of)
        assert (refused.code, json.loads(refused.out)["code"]) == (2, "epoch.policy"), (
            "without the plugin nobody guesses what its records are worth"
        )


async def typed(*words: str | Path) -> Any:
    """Type a command; what it says in JSON."""
    said = await fallow(*words)
    assert said.code == 0, said
    return json.loads(said.out)
