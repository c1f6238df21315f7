"""Weighted averages of visibilities over time and channels, calibrated on the way: kernel of solving and imaging.

With h the inverse gains, s an antenna's factor in the weights, and w the stored weights:

    V̄ = Σ w·s_i·s_j · h_i·conj(h_j) · V / Σ w·s_i·s_j

A model of the visibilities is averaged with the same weights, so that both stay related by the same gains.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import numba
import numpy as np

R = TypeVar("R")

_BLOCKS = 64
"""Parts into which baselines are divided; fixed, so that sums do not depend on the number of threads."""


@dataclass(frozen=True)
class Visibilities:
    """Visibilities of T integrations in memory, R rows each.

    Attributes
    ----------
    data
        complex64, shape (T, R, F, P).
    flags
        True where flagged, of the same shape; of no integrations where weights of 0 stand for flags.
    weights
        Weights of unflagged visibilities, float32, shape (T, R, F, P); (T, R, 1, P) if equal for all channels.
    """

    data: np.ndarray
    flags: np.ndarray
    weights: np.ndarray


@dataclass(frozen=True)
class Baselines:
    """The rows of an integration that are averaged, and their antennas; arrays of int64, shape (B,)."""

    row: np.ndarray
    antenna1: np.ndarray
    antenna2: np.ndarray


@dataclass(frozen=True)
class VisibilitySums:
    """Sums over the data, accumulated in passes: N averaged rows of C channels.

    Attributes
    ----------
    data, model
        Weighted sums, complex64, shape (N, C, Q); Q is P, or 1 for Stokes I. Without a model it has no rows.
    weights
        float32, of the same shape.
    row_weights, used
        Sum of the weights and number of used visibilities, by row before averaging, shape (T, B).
    by_sample
        Sum of the weights by block of baselines, integration and channel before averaging, shape (blocks, T, F).
    """

    data: np.ndarray
    model: np.ndarray
    weights: np.ndarray
    row_weights: np.ndarray
    used: np.ndarray
    by_sample: np.ndarray

    @classmethod
    def zeros(
        cls, target: np.ndarray, frequencies: int, channels: int, products: int, *, model: bool = False
    ) -> VisibilitySums:
        """Sums before any data.

        Parameters
        ----------
        target
            Averaged row of each row before averaging, shape (T, B).
        frequencies, channels
            Channels before averaging, and channels in a bin.
        products
            1 for Stokes I, else the number of polarizations.
        """
        rows = int(target.max(initial=-1)) + 1
        shape = (rows, frequencies // channels, products)
        return cls(
            data=np.zeros(shape, np.complex64),
            model=np.zeros(shape if model else (0, *shape[1:]), np.complex64),
            weights=np.zeros(shape, np.float32),
            row_weights=np.zeros(target.shape),
            used=np.zeros(target.shape, np.int64),
            by_sample=np.zeros((_BLOCKS, len(target), frequencies), np.float32),
        )

    def add(
        self,
        visibilities: Visibilities,
        baselines: Baselines,
        target: np.ndarray,
        inverse: np.ndarray,
        share: np.ndarray,
        *,
        first: int = 0,
        model: np.ndarray | None = None,
    ) -> None:
        """Add some integrations.

        Parameters
        ----------
        visibilities, baselines
            Data to average, and their rows.
        target
            Averaged row of each row of these integrations, shape (T, B).
        inverse
            Inverse gains h, complex64, shape (T, A, F, P), or (1, A, F, P) where constant.
        share
            Factor s of each antenna in the weights, 0 where its gain is not known, float32, of the same shape.
        first
            Index of the first of these integrations.
        model
            Model visibilities, complex64, shape (T, B, F).
        """
        frequencies = visibilities.data.shape[2]
        _accumulate(
            (visibilities.data, visibilities.flags, visibilities.weights),
            np.empty((0, 0, 0), np.complex64) if model is None else model,
            (baselines.row, baselines.antenna1, baselines.antenna2, target),
            (inverse, share),
            frequencies // self.data.shape[1],
            (self.data, self.model, self.weights),
            (self.row_weights, self.used, self.by_sample),
            first,
        )

    def means(self) -> tuple[np.ndarray, np.ndarray]:
        """Averages of data and model, of their sums' shape and in their place, after which no data can be added."""
        divisor = np.where(self.weights > 0, self.weights, np.float32(1))
        np.divide(self.data, divisor, out=self.data)
        if len(self.model):
            np.divide(self.model, divisor, out=self.model)
        return self.data, self.model


Part = tuple[int, Visibilities]
"""First integration and visibilities of a part of a group."""


def while_reading(work: Callable[[int, Visibilities], R], parts: Iterable[Part]) -> Iterator[R]:
    """Results of the work on each part of a group, done in a thread of its own while the next part is read.

    casacore reads with Python's lock (GIL) held: the work begins before, and its kernel needs no lock.
    """
    began = threading.Event()

    def begin(first: int, part: Visibilities) -> R:
        began.set()
        return work(first, part)

    with ThreadPoolExecutor(1, initializer=numba.set_num_threads, initargs=(numba.get_num_threads(),)) as worker:
        under_way = None
        for part in parts:
            if under_way:
                yield under_way.result()
            began.clear()
            under_way = worker.submit(begin, *part)
            began.wait()
            del part  # its memory is free once the work on it is done
        if under_way:
            yield under_way.result()


def inverse_gains(values: np.ndarray, good: np.ndarray) -> np.ndarray:
    """1/g, and 0 where there is no good gain; complex64, of the same shape."""
    good = good & (values != 0)
    return np.where(good, 1 / np.where(good, values, 1), 0).astype(np.complex64)


@numba.njit(parallel=True, cache=True, fastmath=True, nogil=True)
def _accumulate(  # noqa: PLR0917 — one loop, and numba takes positional arguments
    visibilities, model, rows, gains, width, sums, by_row, first
):  # pragma: no cover — compiled
    """Accumulate by block of baselines; each block belongs to a thread, which takes integrations in order."""
    data, flags, weights = visibilities
    row, antenna1, antenna2, target = rows
    inverse, share = gains
    sum_data, sum_model, sum_weights = sums
    row_weights, used, by_sample = by_row
    integrations, _, frequencies, polarizations = data.shape
    bins = frequencies // width
    flagged, modelled, by_channel = len(flags) > 0, len(model) > 0, weights.shape[2] > 1
    products = sum_data.shape[2]
    for block in numba.prange(_BLOCKS):
        for t in range(integrations):
            g = min(t, len(inverse) - 1)
            for b in range(block * len(row) // _BLOCKS, (block + 1) * len(row) // _BLOCKS):
                n, r, i, j = target[t, b], row[b], antenna1[b], antenna2[b]
                total, count = np.float64(0), 0
                for c in range(bins):
                    for p in range(polarizations):
                        real = imag = model_real = model_imag = mass = np.float32(0)
                        for f in range(c * width, (c + 1) * width):
                            weight = weights[t, r, f if by_channel else 0, p] * share[g, i, f, p] * share[g, j, f, p]
                            if (flagged and flags[t, r, f, p]) or not weight > 0:
                                continue
                            left, right, value = inverse[g, i, f, p], inverse[g, j, f, p], data[t, r, f, p]
                            factor_real = weight * (left.real * right.real + left.imag * right.imag)
                            factor_imag = weight * (left.imag * right.real - left.real * right.imag)
                            real += factor_real * value.real - factor_imag * value.imag
                            imag += factor_real * value.imag + factor_imag * value.real
                            mass += weight
                            by_sample[block, first + t, f] += weight
                            count += 1
                            if modelled:
                                model_real += weight * model[t, b, f].real
                                model_imag += weight * model[t, b, f].imag
                        q = p if products > 1 else 0
                        sum_data[n, c, q] += complex(real, imag)
                        sum_weights[n, c, q] += mass
                        total += mass
                        if modelled:
                            sum_model[n, c, q] += complex(model_real, model_imag)
                row_weights[first + t, b] = total
                used[first + t, b] = count
