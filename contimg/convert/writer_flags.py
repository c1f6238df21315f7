"""Flags of the correlator's writer: samples that a raw file itself calls bad, by `flags` or by `nsamples` of 0.

DSA-110 writes neither: no sample is flagged, and all have the same number of raw samples. A value that is the same
throughout a file carries no information, for example where an older writer set every flag or counted no sample; such
flags are logged and ignored. Where values differ, samples that are flagged or have a count of 0 are bad.

Nearly all files have the same value throughout, which is checked quickly on the raw bytes of the chunks.
"""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import h5py
import numpy as np

from contimg.core.errors import InputError
from contimg.telescope.raw_header import Header, opened
from contimg.telescope.raw_visibilities import stored_chunks

log = logging.getLogger(__name__)

_ROWS = 10_000
"""Number of rows read together through HDF5."""
_LONGEST_READ = 1_000_000
"""Approximate size (bytes) of adjacent chunks read together."""


@dataclass(frozen=True, eq=False)
class WriterFlags:
    """Flags of a raw file's samples.

    Attributes
    ----------
    bad
        Bad samples, bool, shape (rows, channels, polarizations); None without any.
    unbelieved
        Description of flags that are the same for all samples and are ignored; empty for an ordinary file.
    """

    bad: np.ndarray | None = None
    unbelieved: str = ""


def read(header: Header) -> WriterFlags:
    """Read the flags and sample counts of a raw file, as far as they can be read.

    Raises
    ------
    OSError
        If the file cannot be read now.
    """
    try:
        return _read(header)
    except InputError as error:
        return WriterFlags(unbelieved=f"its flags cannot be read ({error})")


def _read(header: Header) -> WriterFlags:
    bad: np.ndarray | None = None
    unbelieved = []
    with opened(header.path) as file, header.path.open("rb") as octets:
        for name, said, is_bad in _KINDS:
            dataset = file.get(f"Data/{name}")
            if dataset is None or dataset.shape != file["Data/visdata"].shape:
                continue
            same = _value_throughout(dataset, octets.fileno())
            if same is None:
                found = is_bad(dataset[: header.rows, 0])
                bad = found if bad is None else bad | found
            elif is_bad(np.array([same]))[0]:
                unbelieved.append(said)
    return WriterFlags(bad if bad is not None and bad.any() else None, " and ".join(unbelieved))


def tell(group: str, found: Mapping[int, WriterFlags]) -> dict[str, str]:
    """Log the ignored flags of all files in one line; returns their descriptions by subband, for the sidecar."""
    said = {f"{number:02d}": one.unbelieved for number, one in sorted(found.items()) if one.unbelieved}
    if said:
        log.warning(
            "%s: %s: %s; it is not believed, for no sample would be left",
            *(group, "subband " + ", ".join(said), "; ".join(sorted({*said.values()}))),
        )
    return said


def blank(items: np.ndarray, positions: np.ndarray, chunk: tuple[int, int, int], bad: np.ndarray, row: int) -> None:
    """Set bad samples of a stretch of rows to zero in the read buffer; zeros are flagged as missing data.

    Parameters
    ----------
    items
        Read buffer, complex64.
    positions
        Start of each chunk in the buffer (items), as a grid along rows, channels and polarizations.
    chunk
        Rows, channels and polarizations of a chunk.
    bad
        Bad samples of the stretch, bool, shape (rows, channels, polarizations).
    row
        First row of the stretch, counted from the first row of the first chunk.
    """
    places = np.stack(np.nonzero(bad))
    places[0] += row
    grid, inside = np.divmod(places, np.array(chunk)[:, np.newaxis])
    items[positions[tuple(grid)] + np.ravel_multi_index(tuple(inside), chunk)] = 0


_KINDS = (
    ("flags", "every sample is flagged", lambda values: values.astype(bool)),
    ("nsamples", "every sample counts nothing", lambda values: ~(values > 0)),
)
"""Datasets of flags, description of a dataset that is bad throughout, and test for bad values."""


def _value_throughout(dataset: h5py.Dataset, descriptor: int) -> object | None:
    """Value of a dataset that is the same throughout; None if values differ."""
    first = dataset[(0,) * dataset.ndim]
    return first if all(_is_throughout(part, first) for part in _parts(dataset, descriptor)) else None


def _is_throughout(part: np.ndarray, value: np.generic) -> bool:
    """Whether all values of a part are the same, compared eight bytes at once where the values fit into these."""
    if part.flags.c_contiguous and part.nbytes % 8 == 0 and 8 % part.itemsize == 0:
        words = part.reshape(-1).view(np.uint64)
        if (words == np.full(8 // part.itemsize, value, part.dtype).view(np.uint64)).all():
            return True
    return bool((part == value).all())


def _parts(dataset: h5py.Dataset, descriptor: int) -> Iterator[np.ndarray]:
    """Values of a dataset, part by part: raw bytes of its chunks, or read through HDF5 if filtered or not chunked."""
    if dataset.chunks is None or dataset.id.get_create_plist().get_nfilters():
        for row in range(0, dataset.shape[0], _ROWS):
            yield dataset[row : row + _ROWS]
        return
    offsets, firsts = stored_chunks(dataset)
    chunks = dataset.chunks
    in_all = math.prod(-(-size // length) for size, length in zip(dataset.shape, chunks, strict=True))
    if len(offsets) < in_all:
        yield np.array([dataset.fillvalue])  # of chunks that were never written
    octets = dataset.dtype.itemsize * math.prod(chunks)
    inside = dataset.shape - firsts
    whole = (inside >= chunks).all(axis=1)
    for offset, stops in zip(offsets[~whole].tolist(), inside[~whole].tolist(), strict=True):
        read = os.pread(descriptor, octets, offset)
        yield np.frombuffer(read, dataset.dtype).reshape(chunks)[tuple(map(slice, stops))]
    buffer = np.empty(max(1, _LONGEST_READ // octets) * octets, np.uint8)
    for offset, size in _runs(np.sort(offsets[whole]), octets, len(buffer)):
        read_bytes = os.preadv(descriptor, [buffer[:size]], offset)
        yield buffer[:read_bytes].view(dataset.dtype)


def _runs(offsets: np.ndarray, octets: int, longest: int) -> Iterator[tuple[int, int]]:
    """Adjacent chunks of equal size (bytes) at ascending offsets, merged into long reads: offset and size of each."""
    for run in np.split(offsets, np.flatnonzero(np.diff(offsets) != octets) + 1):
        stop = run[-1] + octets if len(run) else 0
        for begin in run[:: longest // octets].tolist():
            yield begin, min(longest, int(stop) - begin)
