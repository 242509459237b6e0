"""A network on a NATS server that its operator runs himself, with a certificate of his own authority."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from fallow.adapters.certificates import issue, new_authority, new_key
from tests.engines import reachable_folder
from tests.nats_server import nats_server
from tests.network import fallow, network


async def test_a_network_uses_the_server_that_its_operator_runs(tmp_path: Path) -> None:
    now = datetime.now(UTC)
    authority = new_authority(new_key(), "test", now)
    server = issue(authority, ["127.0.0.1"], now)
    (tmp_path / "ca.pem").write_text(authority.certificate)
    (tmp_path / "server.pem").write_text(server.key + server.certificate)
    tls = f'tls {{ cert_file: "{tmp_path}/server.pem", key_file: "{tmp_path}/server.pem", handshake_first: true }}\n'
    with reachable_folder() as folder:
        data = folder / "network"
        config = await fallow("serve", "nats-config", "--data", data)
        assert f"keys were made, in {data / 'secrets'}: callout, core," in config.err
        again = await fallow("serve", "nats-config", "--data", data)
        assert (again.out, again.err) == (config.out, ""), "the keys are there"
        async with nats_server(tmp_path, tls + config.out) as nats:
            url = nats.url.replace("nats://", "tls://")
            async with network(data, nats_url=url, nats_ca=str(tmp_path / "ca.pem")) as net, net.agents("barn"):
                order = await net.submit([10_000])
                assert (await net.finished(order.id)).state == "done"
                assert not (data / "nats" / "nats.conf").exists()


async def test_a_server_out_there_is_not_spoken_to_in_plain_text() -> None:
    with reachable_folder() as folder:
        there = {"FALLOW_NATS_URL": "nats://192.0.2.7:4222"}
        said = await fallow("up", "--data", folder / "network", "--port", "0", **there)
    assert (said.code, "nats.plain" in said.err) == (2, True), said
