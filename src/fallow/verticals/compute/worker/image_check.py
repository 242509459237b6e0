"""Images of strangers, looked through before an engine unpacks them. Runs in a child process: see `image_child`.

An archive becomes a layout that holds one image for one platform. Its layers are read to their end: what they are
without compression is counted and must be what the config says, so that the config's hash names all of the image.
"""

from __future__ import annotations

import gzip
import hashlib
import posixpath
import shutil
import stat
import tarfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path, PurePosixPath
from typing import IO, Final, NamedTuple, TypeVar, cast

import msgspec
from zstandard import ZstdDecompressor, ZstdError

from fallow.domain.errors import InvalidInput, TooMuch
from fallow.verticals.compute.worker.oci import (
    DOCUMENT_BYTES_MAX,
    MANIFEST,
    Descriptor,
    Document,
    ImageConfig,
    blob_path,
    encode_manifest,
    layer_type,
    make_folders,
    write_index,
)

ARCHIVE_ENTRIES_MAX: Final = 2000
LAYER_ENTRIES_MAX: Final = 500_000
INDEXES_MAX: Final = 10
ZSTD_WINDOW_BYTES_MAX: Final = 128 << 20
"""What the strongest setting of zstd's own tool asks for; a reader holds so much."""
_PIECE: Final = 1 << 20
_ZSTD: Final = b"\x28\xb5\x2f\xfd"
_KINDS: Final = frozenset({tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE})
_OTHER_KINDS: Final = frozenset({tarfile.FIFOTYPE})

T = TypeVar("T")


class Checked(NamedTuple):
    """An image that may be given to an engine: its id (the hash of its config) and its bytes without compression."""

    image: str
    unpacked_bytes: int


class _Saved(msgspec.Struct, frozen=True, rename="pascal"):
    """An entry of the manifest.json that `docker save` writes."""

    config: str
    layers: list[str]


def import_archive(archive: Path, layout: Path, *, bytes_max: int) -> None:
    """Copy the blobs of an OCI archive, or of what `docker save` writes, into a new layout, each under its own hash.

    Raises:
        InvalidInput: it is neither, or damaged.
        TooMuch: it holds more than `bytes_max`.
    """
    make_folders(layout)
    with _sound("The image's archive"), tarfile.open(archive, "r:") as source:
        members = _members(source)
        if sum(member.size for member in members.values()) > bytes_max:
            raise TooMuch("compute.image_too_large", f"The image has more than {bytes_max >> 20} MiB.")
        if "index.json" in members:
            _import_oci(source, members, layout)
        elif "manifest.json" in members:
            _import_saved(source, members, layout)
        else:
            raise InvalidInput("compute.image", "The archive holds neither an OCI image nor one that Docker saved.")


def check_layout(layout: Path, platform: str, *, bytes_max: int) -> Checked:
    """Choose the layout's image for a platform, look through its layers, and remove all else from the layout.

    Raises:
        InvalidInput: there is none, or it is not what it says, or holds what no image should.
        TooMuch: it unpacks to more than `bytes_max`, or to too many files.
    """
    manifest = _choose(layout, platform)
    if manifest.config is None:
        raise InvalidInput("compute.image", "The image has no config.")
    config = _document(blob_path(layout, manifest.config), ImageConfig)
    if f"{config.os}/{config.architecture}" != platform:
        raise InvalidInput("compute.image", f"The image is for {config.os}/{config.architecture}, not for {platform}.")
    if len(config.rootfs.diff_ids) != len(manifest.layers):
        raise InvalidInput("compute.image", "The image's config and its manifest have different layers.")
    left, layers = bytes_max, []
    for layer, diff_id in zip(manifest.layers, config.rootfs.diff_ids, strict=True):
        plain_bytes, kept = _check_layer(layout, layer, diff_id, left)
        left -= plain_bytes
        layers.append(kept)
    _keep_only(layout, manifest.config, layers)
    return Checked(manifest.config.hex, bytes_max - left)


@contextmanager
def _sound(what: str) -> Iterator[None]:
    """Errors of reading what somebody else has written."""
    try:
        yield
    except (tarfile.TarError, gzip.BadGzipFile, zlib.error, ZstdError, EOFError, UnicodeError, MemoryError) as error:
        raise InvalidInput("compute.image", f"{what} is not sound: {str(error) or type(error).__name__}.") from error
    except FileNotFoundError as error:
        raise InvalidInput("compute.image", "The image lacks a part that it names.") from error


def _members(source: tarfile.TarFile) -> dict[str, tarfile.TarInfo]:
    """The archive's plain files by name, and by the names of links in it that lead to them, as old Docker saves have.

    Whatever else there is in it is left out, and nothing is ever followed out of it.
    """
    found: dict[str, tarfile.TarInfo] = {}
    links: dict[str, str] = {}
    for count, member in enumerate(source):
        if count >= ARCHIVE_ENTRIES_MAX:
            raise TooMuch("compute.image_too_large", f"The archive has more than {ARCHIVE_ENTRIES_MAX} entries.")
        name = posixpath.normpath(member.name)
        if member.isreg() and not member.issparse():
            found[name] = member
        elif member.issym():
            links[name] = posixpath.normpath(posixpath.join(posixpath.dirname(name), member.linkname))
    return found | {name: found[target] for name, target in links.items() if target in found and name not in found}


def _import_oci(source: tarfile.TarFile, members: Mapping[str, tarfile.TarInfo], layout: Path) -> None:
    for name, member in members.items():
        if name.startswith("blobs/sha256/"):
            digest, _ = _copy(source, member, layout)
            if digest != name.removeprefix("blobs/sha256/"):
                raise InvalidInput("compute.image", f"The archive's blob {name[:100]!a} does not have that hash.")
    (layout / "index.json").write_bytes(_read(source, members["index.json"]))


def _import_saved(source: tarfile.TarFile, members: Mapping[str, tarfile.TarInfo], layout: Path) -> None:
    with _sound("The image's archive"):
        saved = _decoded(_read(source, members["manifest.json"]), list[_Saved])
        if len(saved) != 1:
            raise InvalidInput("compute.image", f"The archive holds {len(saved)} images; save a single one.")
        try:
            wanted = [members[posixpath.normpath(name)] for name in (saved[0].config, *saved[0].layers)]
        except KeyError as error:
            raise InvalidInput("compute.image", f"The archive lacks {str(error)[:100]}.") from error
    blobs = []
    for member in wanted:
        digest, head = _copy(source, member, layout)
        blobs.append(Descriptor(f"sha256:{digest}", member.size, layer_type(head)))
    write_index(layout, encode_manifest(blobs[0], blobs[1:]))


def _copy(source: tarfile.TarFile, member: tarfile.TarInfo, layout: Path) -> tuple[str, bytes]:
    """Copy a file to where its hash says; return that, and how it begins."""
    digest, head = hashlib.sha256(), b""
    partial = layout / "partial"
    with _opened(source, member) as file, partial.open("wb") as to:
        while piece := file.read(_PIECE):
            head = head or piece[:4]
            digest.update(piece)
            to.write(piece)
    partial.rename(layout / "blobs" / "sha256" / digest.hexdigest())
    return digest.hexdigest(), head


def _read(source: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    if member.size > DOCUMENT_BYTES_MAX:
        raise TooMuch("compute.image_too_large", f"The archive's {member.name[:100]!a} is too long.")
    with _opened(source, member) as file:
        return file.read()


def _opened(source: tarfile.TarFile, member: tarfile.TarInfo) -> IO[bytes]:
    return cast("IO[bytes]", source.extractfile(member))  # None only for what is no plain file


def _choose(layout: Path, platform: str) -> Document:
    """The manifest for a platform, among those that the index names, and the indexes in it."""
    waiting = list(_document(layout / "index.json", Document).manifests)
    indexes = 0
    while waiting:
        one = waiting.pop(0)
        if one.platform is not None and one.platform.text != platform:
            continue
        found = _document(blob_path(layout, one), Document)
        if found.config is not None:
            return found
        indexes += 1
        if indexes > INDEXES_MAX:
            break
        waiting += found.manifests
    raise InvalidInput("compute.image", f"There is no image for {platform}.")


def _document(path: Path, kind: type[T]) -> T:
    with _sound("The image"):
        if path.stat().st_size > DOCUMENT_BYTES_MAX:
            raise TooMuch(
                "compute.image_too_large", f"A document of the image has more than {DOCUMENT_BYTES_MAX} bytes."
            )
        return _decoded(path.read_bytes(), kind)


def _decoded(data: bytes, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(data, type=kind)
    except msgspec.MsgspecError as error:
        raise InvalidInput("compute.image", f"A document of the image is not valid: {error}.") from error


class _Counted:
    """A layer without compression, counted and hashed as it is read, and written to `copy` where there is one."""

    def __init__(self, file: IO[bytes], bytes_max: int, copy: IO[bytes] | None) -> None:
        self._file = file
        self._bytes_max = bytes_max
        self._copy = copy
        self.digest = hashlib.sha256()
        self.bytes = 0

    def read(self, size: int) -> bytes:
        """Read on. Raises TooMuch beyond the limit."""
        piece = self._file.read(size)
        self.bytes += len(piece)
        if self.bytes > self._bytes_max:
            raise TooMuch("compute.image_too_large", "The image unpacks to more than a node takes.")
        self.digest.update(piece)
        if self._copy is not None:
            self._copy.write(piece)
        return piece


def _check_layer(layout: Path, layer: Descriptor, diff_id: str, bytes_max: int) -> tuple[int, Descriptor]:
    """Read a layer to its end; return its bytes without compression, and what the engine is to have of it.

    One that is packed with zstd is unpacked for the engine: not each can read it, and so none reads it otherwise than
    it was read here.
    """
    with _sound("A layer of the image"), blob_path(layout, layer).open("rb") as file:
        head = file.read(4)
        file.seek(0)
        if head != _ZSTD:
            plain = cast("IO[bytes]", gzip.GzipFile(fileobj=file)) if layer_type(head).endswith("gzip") else file
            return _read_layer(plain, diff_id, bytes_max, None), layer
        unpacked = layout / "partial"
        with _unpacked(file) as source, unpacked.open("wb") as copy:
            size = _read_layer(source, diff_id, bytes_max, copy)
    kept = Descriptor(diff_id, size)
    unpacked.rename(blob_path(layout, kept))
    return size, kept


def _unpacked(file: IO[bytes]) -> AbstractContextManager[IO[bytes]]:
    unpacking = ZstdDecompressor(max_window_size=ZSTD_WINDOW_BYTES_MAX)
    # Several frames after one another are one stream, as for every other reader (RFC 8878, section 3).
    return cast("AbstractContextManager[IO[bytes]]", unpacking.stream_reader(file, read_across_frames=True))


def _read_layer(plain: IO[bytes], diff_id: str, bytes_max: int, copy: IO[bytes] | None) -> int:
    """Read it to its end and return its size. Raises InvalidInput when it is not the one that the config names."""
    counted = _Counted(plain, bytes_max, copy)
    with tarfile.open(fileobj=cast("IO[bytes]", counted), mode="r|") as layer:
        for count, entry in enumerate(layer):
            if count >= LAYER_ENTRIES_MAX:
                raise TooMuch("compute.image_too_large", f"A layer has more than {LAYER_ENTRIES_MAX} entries.")
            _check_entry(entry)
    while counted.read(_PIECE):
        pass
    if f"sha256:{counted.digest.hexdigest()}" != diff_id:
        raise InvalidInput("compute.image", "A layer is not the one that the image's config names.")
    return counted.bytes


def _check_entry(entry: tarfile.TarInfo) -> None:
    names = [entry.name, entry.linkname] if entry.islnk() else [entry.name]
    for name in names:
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts:
            raise InvalidInput("compute.image", f"A layer has an entry that leads out of it: {name[:100]!a}.")
    if entry.type not in _KINDS | _OTHER_KINDS and not entry.issparse():
        raise InvalidInput("compute.image", f"A layer holds a device or something else: {entry.name[:100]!a}.")


def _keep_only(layout: Path, config: Descriptor, layers: list[Descriptor]) -> None:
    """Leave the layout with this image alone, under a manifest of our own."""
    kept = {blob.hex for blob in (config, *layers)}
    for path in (layout / "blobs" / "sha256").iterdir():
        if path.name not in kept:
            path.unlink()
    typed = [msgspec.structs.replace(layer, media_type=layer_type(_head(blob_path(layout, layer)))) for layer in layers]
    write_index(layout, encode_manifest(config, typed), MANIFEST)


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(4)


def remove(layout: Path) -> None:
    """Remove a layout, or what there is of it."""
    if layout.exists() and stat.S_ISDIR(layout.lstat().st_mode):
        shutil.rmtree(layout)
