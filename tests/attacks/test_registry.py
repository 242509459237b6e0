"""Images by name: pulled over real TLS from a registry on loopback, which stands in for the internet."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from ipaddress import ip_address
from pathlib import Path

import httpx2
import pytest

from fallow.domain.errors import InvalidInput, NotAllowed, NotFound, TooMuch, Unavailable
from fallow.ports.public_only import Address, PublicOnly, is_public
from fallow.ports.vertical.work import ANY_LINE
from fallow.verticals.compute.core.images import Reference, read_reference
from fallow.verticals.compute.worker.image_check import Checked, check_layout
from fallow.verticals.compute.worker.registry import Credentials, Registry
from tests.container_jobs import bare, entry, layer
from tests.registry_server import HOST, RegistryServer, loopback

MIB = 1 << 20
PLATFORM = "linux/amd64"
IMAGE = bare(layer((entry("file"), b"content")))


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RegistryServer]:
    with RegistryServer(tmp_path).serving() as serving:
        yield serving


def never(_: Address) -> bool:
    return True


@pytest.fixture
async def client(server: RegistryServer) -> AsyncIterator[httpx2.AsyncClient]:
    transport = PublicOnly(tls=server.trust, resolve=loopback, allowed=never)
    async with httpx2.AsyncClient(transport=transport) as made:
        yield made


def registry(client: httpx2.AsyncClient, name: str, credentials: Credentials | None = None) -> Registry:
    return Registry(client, read_reference(name), credentials, ANY_LINE)


async def pull(source: Registry, folder: Path) -> Checked:
    """Pull as a node does."""
    pulled = await source.manifest(PLATFORM)
    await source.download(pulled, folder / "layout", bytes_max=MIB)
    return await asyncio.to_thread(check_layout, folder / "layout", PLATFORM, bytes_max=MIB)


# names


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("alpine", Reference("registry-1.docker.io", "library/alpine", "latest")),
        ("alpine:3.20", Reference("registry-1.docker.io", "library/alpine", "3.20")),
        ("user/app", Reference("registry-1.docker.io", "user/app", "latest")),
        ("docker.io/user/app:1", Reference("registry-1.docker.io", "user/app", "1")),
        ("ghcr.io/a/b/c:v1", Reference("ghcr.io", "a/b/c", "v1")),
        ("r.example:5000/a@sha256:" + "0" * 64, Reference("r.example:5000", "a", "sha256:" + "0" * 64)),
        ("r.example/a:1@sha256:" + "0" * 64, Reference("r.example", "a", "sha256:" + "0" * 64)),
    ],
)
def test_names_are_read_as_the_fields_tools_do(text: str, read: Reference) -> None:
    assert read_reference(text) == read


@pytest.mark.parametrize(
    "text",
    [
        *("", "A", "a:", "a@", "a@sha256:0", "a//b", "a/../b", "-a", "a:b:c", "a b", "a\n", "x" * 500),
        *(
            "localhost/a",
            "localhost:5000/a",
            "127.0.0.1/a",
            "10.0.0.1:5000/a",
            "[::1]/a",
            "router:5000/a",
            "2130706433:80/a",
        ),
        *("r.example:99999999/a", "r.example:/a", "user@r.example/a", "r.example/a?x", "r.example/a#x", "0x7f.0.0.1/a"),
    ],
)
def test_names_that_are_none_or_lead_into_the_owners_network(text: str) -> None:
    with pytest.raises(ValueError, match="image"):
        read_reference(text)


# pulling


async def test_an_image_is_pulled_by_name_and_by_digest(
    server: RegistryServer, client: httpx2.AsyncClient, tmp_path: Path
) -> None:
    digest = server.add(IMAGE)
    for number, name in enumerate((f"{server.name}/team/app", f"{server.name}/team/app@{digest}")):
        folder = tmp_path / str(number)
        folder.mkdir()
        assert await pull(registry(client, name), folder) == Checked(IMAGE.id, len(IMAGE.layers[0]))


async def test_a_private_image_needs_its_buyers_word(
    server: RegistryServer, client: httpx2.AsyncClient, tmp_path: Path
) -> None:
    server.add(IMAGE)
    server.password = "right"  # noqa: S105 - a test's own
    name = f"{server.name}/team/app"
    for wrong in (None, Credentials("buyer", "wrong")):
        with pytest.raises(NotAllowed):
            await registry(client, name, wrong).manifest(PLATFORM)
    assert (await pull(registry(client, name, Credentials("buyer", "right")), tmp_path)).image == IMAGE.id


async def test_what_proves_the_buyer_does_not_follow_redirects(
    server: RegistryServer, client: httpx2.AsyncClient, tmp_path: Path
) -> None:
    server.add(IMAGE)
    server.password = "right"  # noqa: S105 - a test's own
    with RegistryServer(tmp_path).serving() as other:
        server.redirects["/blobs/"] = f"https://{HOST}.:{other.name.rpartition(':')[2]}/stolen"
        source = registry(client, f"{server.name}/team/app", Credentials("buyer", "right"))
        with pytest.raises((NotFound, Unavailable)):
            await pull(source, tmp_path)
        assert all(shown == "" for _, shown in other.asked)


@pytest.mark.parametrize("where", ["manifests", "blobs"])
async def test_what_is_not_what_was_asked_for(
    server: RegistryServer, client: httpx2.AsyncClient, tmp_path: Path, where: str
) -> None:
    digest = server.add(IMAGE)
    for path, (kind, data) in server.files.items():
        if f"/{where}/" in path:
            server.files[path] = (kind, data.replace(b"{", b" {", 1) if where == "manifests" else data[:-1] + b"?")
    with pytest.raises(InvalidInput):
        await pull(registry(client, f"{server.name}/team/app@{digest}"), tmp_path)


async def test_what_is_too_large_is_not_even_begun(
    server: RegistryServer, client: httpx2.AsyncClient, tmp_path: Path
) -> None:
    server.add(bare(bytes(512)))
    source = registry(client, f"{server.name}/team/app")
    pulled = await source.manifest(PLATFORM)
    with pytest.raises(TooMuch):
        await source.download(pulled, tmp_path / "layout", bytes_max=100)
    assert not any("/blobs/" in path for path, _ in server.asked)


async def test_other_platforms_and_names_that_are_not_there(server: RegistryServer, client: httpx2.AsyncClient) -> None:
    server.add(IMAGE)
    with pytest.raises(InvalidInput, match="no image for linux/arm64"):
        await registry(client, f"{server.name}/team/app").manifest("linux/arm64")
    with pytest.raises(NotFound):
        await registry(client, f"{server.name}/team/other").manifest(PLATFORM)


# what must not be reached


@pytest.mark.parametrize(
    "text",
    [
        *("127.0.0.1", "127.9.9.9", "0.0.0.0", "10.1.2.3", "172.16.0.1", "172.31.255.255", "192.168.1.1"),
        *(
            "169.254.169.254",
            "100.64.0.1",
            "100.127.255.254",
            "192.0.0.1",
            "198.18.0.1",
            "224.0.0.1",
            "255.255.255.255",
        ),
        *("::", "::1", "fe80::1", "fc00::1", "fd00:ec2::254", "ff02::1", "::ffff:127.0.0.1", "::ffff:192.168.1.1"),
        *("64:ff9b::7f00:1", "2002:7f00:1::", "2001:0:7f00:1::", "2001:db8::1"),
    ],
)
def test_addresses_of_the_owner_and_his_networks(text: str) -> None:
    assert not is_public(ip_address(text))


@pytest.mark.parametrize("text", ["1.1.1.1", "8.8.8.8", "140.82.112.3", "2606:4700:4700::1111"])
def test_addresses_of_the_internet(text: str) -> None:
    assert is_public(ip_address(text))


async def test_a_name_that_leads_into_the_owners_network(server: RegistryServer) -> None:
    """As it does when who holds the name changes what it stands for."""
    server.add(IMAGE)
    async with httpx2.AsyncClient(transport=PublicOnly(tls=server.trust, resolve=loopback)) as guarded:
        with pytest.raises(Unavailable, match="not on the public internet"):
            await registry(guarded, f"{server.name}/team/app").manifest(PLATFORM)
    assert server.asked == []


async def test_a_name_that_stands_for_both(server: RegistryServer) -> None:
    async def both(_host: str, _port: int) -> list[Address]:
        return [ip_address("1.1.1.1"), ip_address("127.0.0.1")]

    async with httpx2.AsyncClient(transport=PublicOnly(tls=server.trust, resolve=both)) as guarded:
        with pytest.raises(Unavailable, match="not on the public internet"):
            await registry(guarded, f"{server.name}/team/app").manifest(PLATFORM)


async def test_the_address_that_is_used_is_the_one_that_was_checked(server: RegistryServer, tmp_path: Path) -> None:
    """A second look at the name, by who connects, would find another one."""
    server.add(IMAGE)
    looks: list[str] = []

    async def once(host: str, _port: int) -> list[Address]:
        looks.append(host)
        return [ip_address("127.0.0.1")]

    async with httpx2.AsyncClient(transport=PublicOnly(tls=server.trust, resolve=once, allowed=never)) as made:
        await pull(registry(made, f"{server.name}/team/app"), tmp_path)
    assert set(looks) == {HOST}
    assert len(looks) == len(server.asked)


@pytest.mark.parametrize(
    "target",
    [
        "http://169.254.169.254/latest/meta-data/",
        "https://inside.example/",
        "http://registry.test/plain",
        "https://registry.test:25/",
        "file:///etc/passwd",
    ],
)
@pytest.mark.parametrize("where", ["/manifests/", "/blobs/"])
async def test_redirects_into_the_owners_network(
    server: RegistryServer, tmp_path: Path, target: str, where: str
) -> None:
    server.add(IMAGE)
    server.redirects[where] = target
    addresses = {HOST: "127.0.0.1", "inside.example": "192.168.1.1", "169.254.169.254": "169.254.169.254"}

    async def known(host: str, _port: int) -> list[Address]:
        return [ip_address(addresses[host])]

    def allowed(address: Address) -> bool:
        return address == ip_address("127.0.0.1")

    transport = PublicOnly(tls=server.trust, resolve=known, allowed=allowed)
    async with httpx2.AsyncClient(transport=transport) as guarded:
        with pytest.raises(Unavailable):
            await pull(registry(guarded, f"{server.name}/team/app"), tmp_path)


async def test_a_registry_that_is_not_who_it_says(server: RegistryServer) -> None:
    server.add(IMAGE)
    async with httpx2.AsyncClient(transport=PublicOnly(resolve=loopback, allowed=never)) as untrusting:
        with pytest.raises(Unavailable, match="cannot be asked"):
            await registry(untrusting, f"{server.name}/team/app").manifest(PLATFORM)
