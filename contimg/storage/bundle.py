"""Bundles: a zstd-compressed tar whose first member lists the others with their checksums.

Archives and snapshots are bundles. `contents.json` comes first, with every file's size, time and checksum; the files
follow under `data/`. A bundle can be unpacked by hand: `zstd -dc FILE | tar -x --strip-components=1 data`.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import tarfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import zip_longest
from pathlib import Path
from typing import BinaryIO, cast

import zstandard

from contimg.core.errors import BundleError
from contimg.storage.inventory import Inventory, InventoryEntry

SUFFIX = ".tar.zst"
_CONTENTS = "contents.json"
_DATA = "data/"
_LEVEL = 3
_THREADS = 2
_BLOCK = 1 << 20


def write(target: BinaryIO, root: Path, contents: Inventory) -> None:
    """Write a bundle of files under `root`.

    A file that changed after the listing makes a bundle that does not verify.

    Raises
    ------
    OSError
        If a file cannot be read or has become shorter, or `target` cannot be written.
    """
    compressor = zstandard.ZstdCompressor(level=_LEVEL, threads=_THREADS, write_checksum=True)
    with (
        compressor.stream_writer(target, closefd=False) as stream,
        tarfile.open(fileobj=cast(BinaryIO, stream), mode="w|", format=tarfile.PAX_FORMAT) as tar,
    ):
        listed = json.dumps(contents.as_json()).encode()
        first = tarfile.TarInfo(_CONTENTS)
        first.size = len(listed)
        tar.addfile(first, io.BytesIO(listed))
        for entry in contents.entries:
            member = tarfile.TarInfo(_DATA + entry.path)
            member.mode = entry.mode
            member.mtime = entry.mtime_ns // 1_000_000_000
            if entry.directory:
                member.type = tarfile.DIRTYPE
                tar.addfile(member)
            else:
                member.size = entry.size
                with (root / entry.path).open("rb") as file:
                    tar.addfile(member, file)


def read_contents(source: BinaryIO) -> Inventory:
    """Contents of a bundle, as listed in its first member.

    Raises
    ------
    BundleError
        If the file is no bundle.
    """
    with _opened(source) as (contents, _):
        return contents


def verify(source: BinaryIO) -> Inventory:
    """Read a whole bundle and compare every file with its checksum.

    Raises
    ------
    BundleError
        If a file is missing, truncated, superfluous or different.
    """
    with _opened(source) as (contents, tar):
        for entry, data in _members(tar, contents):
            if data:
                _copy(entry, data, None)
    return contents


def extract(
    source: BinaryIO, directory: Path, wanted: Callable[[InventoryEntry], bool] = lambda entry: True
) -> Inventory:
    """Unpack the wanted members of a bundle into an empty folder, with their times; the whole bundle is verified.

    Raises
    ------
    BundleError
        If the bundle does not verify; the folder must then not be used.
    """
    with _opened(source) as (contents, tar):
        for entry, data in _members(tar, contents):
            path = directory / entry.path
            if not wanted(entry):
                if data:
                    _copy(entry, data, None)
            elif data is None:
                path.mkdir(parents=True)
            else:
                path.parent.mkdir(parents=True, exist_ok=True)
                with path.open("xb") as file:
                    _copy(entry, data, file)
                    file.flush()
                    os.fsync(file.fileno())
    for entry in sorted(filter(wanted, contents.entries), key=lambda entry: entry.path, reverse=True):
        path = directory / entry.path  # a folder's time is set after what it holds
        path.chmod(entry.mode)
        os.utime(path, ns=(entry.mtime_ns, entry.mtime_ns))
    return contents


@contextmanager
def _opened(source: BinaryIO) -> Iterator[tuple[Inventory, tarfile.TarFile]]:
    """Open a bundle; errors of its format become a `BundleError`."""
    try:
        with (
            zstandard.ZstdDecompressor().stream_reader(source, closefd=False) as stream,
            tarfile.open(fileobj=cast(BinaryIO, stream), mode="r|") as tar,
        ):
            first = tar.next()
            listed = tar.extractfile(first) if first and first.name == _CONTENTS else None
            if listed is None:
                raise BundleError("it does not begin with its list of contents; nothing was changed")
            yield Inventory.from_json(json.load(listed)), tar
    except (zstandard.ZstdError, tarfile.TarError, EOFError, ValueError) as error:
        raise BundleError(f"it cannot be read whole ({error}); nothing was changed") from None


def _members(tar: tarfile.TarFile, contents: Inventory) -> Iterator[tuple[InventoryEntry, BinaryIO | None]]:
    """Entries with their data (None for a folder), in the order and number of the contents list."""
    for entry, member in zip_longest(contents.entries, iter(tar.next, None)):
        if entry is None or member is None or member.name != _DATA + entry.path or member.isdir() != entry.directory:
            seen = member.name if member else "its end"
            raise BundleError(f"{entry.path if entry else 'its end'} expected, {seen} found; nothing was changed")
        yield entry, None if entry.directory else cast(BinaryIO, tar.extractfile(member))


def _copy(entry: InventoryEntry, data: BinaryIO, target: BinaryIO | None) -> None:
    digest = hashlib.sha256()
    while block := data.read(_BLOCK):
        digest.update(block)
        if target:
            target.write(block)
    if digest.hexdigest() != entry.sha256:
        raise BundleError(f"{entry.path} differs from its checksum; nothing was changed")
