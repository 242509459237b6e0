"""The OCI image layout: a folder with blobs by their hash, and an index that names one image.

Source of the formats: OCI image specification 1.1 (manifest, config, layout), and Docker's image manifest version 2
schema 2, whose JSON is the same but for the media types.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Final

import msgspec
from msgspec import Meta

MANIFEST: Final = "application/vnd.oci.image.manifest.v1+json"
INDEX: Final = "application/vnd.oci.image.index.v1+json"
CONFIG: Final = "application/vnd.oci.image.config.v1+json"
LAYER: Final = "application/vnd.oci.image.layer.v1.tar"
DOCKER_MANIFEST: Final = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_INDEX: Final = "application/vnd.docker.distribution.manifest.list.v2+json"

DOCUMENT_BYTES_MAX: Final = 4 << 20
"""Of a manifest, an index or a config: what registries accept."""
LAYERS_MAX: Final = 127
"""What the overlay file system stacks, in the field's engines."""
_GZIP: Final = b"\x1f\x8b"

Digest = Annotated[str, Meta(pattern="^sha256:[0-9a-f]{64}$", max_length=71)]


class Platform(msgspec.Struct, frozen=True):
    """What an image runs on."""

    os: str = ""
    architecture: str = ""

    @property
    def text(self) -> str:
        """As buyers and tools write it."""
        return f"{self.os}/{self.architecture}"


class Descriptor(msgspec.Struct, frozen=True, rename="camel"):
    """Names a blob."""

    digest: Digest
    size: Annotated[int, Meta(ge=0)]
    media_type: str = ""
    platform: Platform | None = None

    @property
    def hex(self) -> str:
        """The hash alone."""
        return self.digest.removeprefix("sha256:")


class Document(msgspec.Struct, frozen=True, rename="camel"):
    """A manifest (a config, and layers from the lowest up) or an index (manifests by platform): what is read tells."""

    config: Descriptor | None = None
    layers: Annotated[list[Descriptor], Meta(max_length=LAYERS_MAX)] = []
    manifests: Annotated[list[Descriptor], Meta(max_length=1000)] = []


class RootFs(msgspec.Struct, frozen=True):
    """Hashes of the layers as they are without compression."""

    type: str
    diff_ids: Annotated[list[Digest], Meta(max_length=LAYERS_MAX)]


class ImageConfig(msgspec.Struct, frozen=True):
    """What is looked at of an image's config."""

    architecture: str
    os: str
    rootfs: RootFs


def blob_path(layout: Path, descriptor: Descriptor) -> Path:
    """Where a blob lies."""
    return layout / "blobs" / "sha256" / descriptor.hex


def make_folders(layout: Path) -> Path:
    """Make an empty layout and return the folder of its blobs."""
    blobs = layout / "blobs" / "sha256"
    blobs.mkdir(mode=0o700, parents=True)
    (layout / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')
    return blobs


def write_index(layout: Path, manifest: bytes, media_type: str = MANIFEST) -> None:
    """Store a manifest and make it the layout's only image."""
    digest = hashlib.sha256(manifest).hexdigest()
    (layout / "blobs" / "sha256" / digest).write_bytes(manifest)
    named = {"digest": f"sha256:{digest}", "size": len(manifest), "mediaType": media_type}
    (layout / "index.json").write_bytes(msgspec.json.encode({"schemaVersion": 2, "manifests": [named]}))


def encode_manifest(config: Descriptor, layers: Sequence[Descriptor]) -> bytes:
    """Write a manifest."""
    return msgspec.json.encode(
        {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": {"mediaType": CONFIG, "digest": config.digest, "size": config.size},
            "layers": [{"mediaType": layer.media_type, "digest": layer.digest, "size": layer.size} for layer in layers],
        }
    )


def layer_type(head: bytes) -> str:
    """The media type of a layer that begins so."""
    return f"{LAYER}+gzip" if head.startswith(_GZIP) else LAYER


def write_layout(layout: Path, config: bytes, layers: Sequence[bytes]) -> str:
    """Write a small image that is at hand into a new folder; return its id, which is the hash of its config."""
    blobs = make_folders(layout)
    described = []
    for blob in (config, *layers):
        digest = hashlib.sha256(blob).hexdigest()
        (blobs / digest).write_bytes(blob)
        described.append(Descriptor(f"sha256:{digest}", len(blob), layer_type(blob)))
    write_index(layout, encode_manifest(described[0], described[1:]))
    return described[0].hex
