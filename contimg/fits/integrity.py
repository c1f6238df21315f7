"""Integrity check of FITS files, from the file alone, in a single read."""

from __future__ import annotations

import math
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO

import numpy as np

_BLOCK = 2880
_READ = 4096 * _BLOCK


def is_complete(path: Path) -> bool:
    """Whether a FITS file exists, with the length given in its headers and data that match their checksums."""
    if not path.is_file():
        return False
    status = path.stat()
    return _whole(path, status.st_size, status.st_mtime_ns)


@lru_cache(1024)
def _whole(path: Path, size: int, _mtime_ns: int) -> bool:
    """Result of `is_complete`, cached by size and time of the file."""
    position = 0
    with path.open("rb") as file:
        while position < size:
            file.seek(position)
            cards: dict[str, str] = {}
            while "END" not in cards:
                block = file.read(_BLOCK).decode("ascii", errors="replace")
                if len(block) < _BLOCK:
                    return False
                texts = (block[start : start + 80] for start in range(0, _BLOCK, 80))
                cards |= {text[:8].strip(): text[10:].split("/")[0].strip() for text in texts}
            try:
                axes = [int(cards[f"NAXIS{axis}"]) for axis in range(1, int(cards["NAXIS"]) + 1)]
                values = (math.prod(axes) + int(cards.get("PCOUNT", 0))) * int(cards.get("GCOUNT", 1)) if axes else 0
                data = values * abs(int(cards["BITPIX"])) // 8
            except (KeyError, ValueError):
                return False
            begin, position = file.tell(), file.tell() + -(-data // _BLOCK) * _BLOCK
            said = cards.get("DATASUM", "").strip("' ")
            if position > size or (said and int(said) != _datasum(file, position - begin)):
                return False
    return 0 < position == size


def _datasum(file: BinaryIO, length: int) -> int:
    """Checksum of the FITS standard over the next bytes: sum of their 32-bit words in ones' complement."""
    total = 0
    for start in range(0, length, _READ):
        words = np.frombuffer(file.read(min(_READ, length - start)), ">u4")
        total += int(words.sum(dtype=np.uint64))
    while total >> 32:
        total = (total & 0xFFFFFFFF) + (total >> 32)
    return total
