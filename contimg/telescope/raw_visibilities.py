"""Visibilities of a raw file, read as raw bytes, chunk by chunk.

The correlator's writer stores small chunks that split channels and polarizations. HDF5 would unpack them element by
element; here the chunks of a range of rows are read in as few and long reads as their places in the file allow, and
each value is addressed through its chunk's position in the buffer.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from types import TracebackType
from typing import NamedTuple, Self

import h5py
import numpy as np

from contimg.core.errors import MisshapenFileError, TruncatedFileError
from contimg.telescope.raw_header import Header, opened

ITEM_BYTES = np.dtype(np.complex64).itemsize
_LARGEST_GAP = 64 * 1024
"""Largest gap (bytes) between two chunks that is read with them, as quicker than a second read."""


class ByteRange(NamedTuple):
    """A single read: bytes of the file and their place in the buffer."""

    offset: int
    size: int
    position: int


@dataclass(frozen=True, eq=False)
class ReadPlan:
    """Plan of the reads of a range of rows."""

    spans: tuple[ByteRange, ...]
    positions: np.ndarray
    """Start of each chunk in the buffer (complex items), as a grid along rows, channels and polarizations."""
    first_chunk: int
    """Index, along the rows, of the first chunk of the grid."""
    size: int
    """Size of the buffer (bytes)."""


class RawVisibilities:
    """A raw file, open for reading its visibilities; a context manager.

    Raises
    ------
    TruncatedFileError
        If chunks are missing or the file ends before the last of them.
    MisshapenFileError
        If the visibilities are not plain complex64.
    """

    def __init__(self, header: Header) -> None:
        self._path = header.path
        with opened(header.path) as file:
            self.chunk, self._offsets = _layout(header.path.name, file["Data/visdata"])
        self._chunk_bytes = int(np.prod(self.chunk)) * ITEM_BYTES
        self._descriptor = os.open(header.path, os.O_RDONLY | os.O_CLOEXEC)
        if os.fstat(self._descriptor).st_size < self._offsets.max() + self._chunk_bytes:
            self.close()
            raise self._truncated()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        os.close(self._descriptor)

    def plan(self, start: int, stop: int) -> ReadPlan:
        """Plan the reading of the rows `start` to `stop` (not included)."""
        first, last = start // self.chunk[0], (stop - 1) // self.chunk[0]
        grid = self._offsets[first : last + 1]
        order = np.argsort(grid, axis=None)
        offsets = grid.ravel()[order]
        gaps = np.diff(offsets) - self._chunk_bytes
        # Items of a span are aligned, and chunks of another alignment need a span of their own.
        breaks = np.flatnonzero((gaps > _LARGEST_GAP) | (gaps % ITEM_BYTES != 0)) + 1
        begins = np.concatenate([[0], breaks])
        ends = np.concatenate([breaks, [len(offsets)]])
        sizes = offsets[ends - 1] + self._chunk_bytes - offsets[begins]
        span_positions = np.concatenate([[0], np.cumsum(sizes)])
        span_of_chunk = np.repeat(np.arange(len(begins)), ends - begins)
        positions = np.empty(grid.size, np.int64)
        positions[order] = (span_positions[span_of_chunk] + offsets - offsets[begins][span_of_chunk]) // ITEM_BYTES
        spans = zip(offsets[begins].tolist(), sizes.tolist(), span_positions.tolist(), strict=False)
        return ReadPlan(
            tuple(ByteRange(*span) for span in spans), positions.reshape(grid.shape), first, int(sizes.sum())
        )

    def read(self, plan: ReadPlan, buffer: np.ndarray) -> None:
        """Read the chunks of a plan.

        Parameters
        ----------
        plan
            Result of `plan`.
        buffer
            At least `plan.size` bytes, uint8.

        Raises
        ------
        TruncatedFileError
            If the file ends early.
        OSError
            If the disk or the mount fails; it names the file.
        """
        for span in plan.spans:
            view = memoryview(buffer)[span.position : span.position + span.size]
            done = 0
            while done < span.size:
                try:
                    count = os.preadv(self._descriptor, [view[done:]], span.offset + done)
                except OSError as error:
                    raise OSError(error.errno, error.strerror, str(self._path)) from error
                if count == 0:
                    raise self._truncated()
                done += count

    def _truncated(self) -> TruncatedFileError:
        return TruncatedFileError(f"{self._path.name}: ends before its last visibility; it is left out")


def _layout(name: str, visibilities: h5py.Dataset) -> tuple[tuple[int, int, int], np.ndarray]:
    """Shape of a chunk (rows, channels, polarizations), and the chunks' places in the file (bytes) as a grid."""
    if visibilities.dtype != np.complex64:
        raise MisshapenFileError(f"{name}: its visibilities are {visibilities.dtype}, not complex64; it is left out")
    rows, _, channels, polarizations = visibilities.shape
    if visibilities.chunks is None:
        begin = visibilities.id.get_offset()
        if begin is None:
            raise TruncatedFileError(f"{name}: its visibilities were never written; it is left out")
        row_bytes = channels * polarizations * ITEM_BYTES
        return (1, channels, polarizations), begin + row_bytes * np.arange(rows, dtype=np.int64)[:, None, None]
    if visibilities.id.get_create_plist().get_nfilters():
        raise MisshapenFileError(f"{name}: its visibilities are compressed; it is left out")
    chunk_rows, _, chunk_channels, chunk_polarizations = visibilities.chunks
    grid = (-(-rows // chunk_rows), -(-channels // chunk_channels), -(-polarizations // chunk_polarizations))
    offsets = np.full(grid, -1, np.int64)
    places, firsts = stored_chunks(visibilities)
    row, _, channel, polarization = (firsts // np.array(visibilities.chunks)).T
    offsets[row, channel, polarization] = places
    if offsets.min() < 0:
        raise TruncatedFileError(f"{name}: parts of its visibilities were never written; it is left out")
    return (chunk_rows, chunk_channels, chunk_polarizations), offsets


def stored_chunks(dataset: h5py.Dataset) -> tuple[np.ndarray, np.ndarray]:
    """Places in the file (bytes), shape (N,), of a dataset's written chunks; their first items, shape (N, D)."""
    found: list[h5py.h5d.StoreInfo] = []
    dataset.id.chunk_iter(found.append)
    places = np.array([chunk.byte_offset for chunk in found], np.int64)
    return places, np.array([chunk.chunk_offset for chunk in found], np.int64).reshape(-1, dataset.ndim)
