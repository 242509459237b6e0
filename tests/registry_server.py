# ruff: noqa: D102
"""A registry over TLS on loopback, as strict as a real one, with a certificate of its own authority."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import ssl
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from fallow.adapters.certificates import issue, new_authority, new_key
from fallow.ports.public_only import Address
from tests.container_jobs import Image, packed_blobs

HOST = "registry.test"


async def loopback(_host: str, _port: int) -> list[Address]:
    """Every name is this machine's."""
    return [ip_address("127.0.0.1")]


class RegistryServer:
    """What it holds, whom it lets in, where it sends people, and what it was asked."""

    def __init__(self, folder: Path) -> None:
        now = datetime.now(UTC)
        authority = new_authority(new_key(), "test", now)
        issued = issue(authority, [HOST], now)
        (folder / "key").write_text(issued.key)
        (folder / "cert").write_text(issued.certificate)
        self.trust = ssl.create_default_context(cadata=authority.certificate)
        self.files: dict[str, tuple[str, bytes]] = {}
        self.password = ""
        self.redirects: dict[str, str] = {}
        self.asked: list[tuple[str, str]] = []
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(folder / "cert", folder / "key")
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True, do_handshake_on_connect=False)
        self._server.handle_error = lambda *_: None  # type: ignore[method-assign]  # a client that does not trust it

    @property
    def name(self) -> str:
        return f"{HOST}:{self._server.server_address[1]}"

    def add(self, image: Image, path: str = "team/app", tag: str = "latest", platform: str = "linux/amd64") -> str:
        """Hold an image under an index; return the index's digest."""
        manifest, blobs = packed_blobs(image)
        for data in blobs:
            self.files[f"/v2/{path}/blobs/{_digest(data)}"] = ("application/octet-stream", data)
        kind = "application/vnd.oci.image"
        self.files[f"/v2/{path}/manifests/{_digest(manifest)}"] = (f"{kind}.manifest.v1+json", manifest)
        system, architecture = platform.split("/")
        named = {"digest": _digest(manifest), "size": len(manifest), "mediaType": f"{kind}.manifest.v1+json"}
        named["platform"] = {"os": system, "architecture": architecture}
        index = json.dumps({"schemaVersion": 2, "manifests": [named]}).encode()
        for version in (tag, _digest(index)):
            self.files[f"/v2/{path}/manifests/{version}"] = (f"{kind}.index.v1+json", index)
        return _digest(index)

    @contextlib.contextmanager
    def serving(self) -> Iterator[RegistryServer]:
        thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield self
        finally:
            self._server.shutdown()
            thread.join()
            self._server.server_close()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        registry = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                path, shown = self.path.partition("?")[0], self.headers.get("Authorization", "")
                registry.asked.append((self.path, shown))
                status, headers, body = registry._answer(path, shown)
                self.send_response(status)
                for name, value in {**headers, "Content-Length": str(len(body))}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                pass

        return Handler

    def _answer(self, path: str, shown: str) -> tuple[int, dict[str, str], bytes]:
        basic = f"Basic {base64.b64encode(f'buyer:{self.password}'.encode()).decode()}"
        if path == "/token":
            return (200, {}, b'{"token":"let-in"}') if shown == basic else (401, {}, b"")
        if self.password and shown != "Bearer let-in":
            challenge = f'Bearer realm="https://{self.name}/token",service="{HOST}",scope="repository:team/app:pull"'
            return 401, {"WWW-Authenticate": challenge}, b""
        for part, target in self.redirects.items():
            if part in path:
                return 307, {"Location": target}, b""
        if path not in self.files:
            return 404, {}, b""
        kind, data = self.files[path]
        return 200, {"Content-Type": kind}, data


def _digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"
