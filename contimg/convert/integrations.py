"""Integrations of a group: each read, converted and written by itself, and all flagged at the end.

Every integration is a task of its own: its rows are read from all subbands, gathered into ascending frequency,
judged, and phased from the meridian to the group's one ICRS centre (`kernel`). The tasks run in a few threads; while
one waits for the disk another computes, and the results are written in order. Statistics of the whole group for
flagging are gathered on the way (`flag`), and FLAG is written last. The visibilities are therefore touched once, and
memory holds a few integrations, not the group.

The phase of a baseline is the difference of two antenna-based ones, e_i·conj(e_j) with e = exp(−2πi·Δw·ν/c), Δw being
the change of the antenna's w from the meridian point to the centre: a sine for each antenna, integration and channel
instead of one for each visibility.
"""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from itertools import islice
from typing import Any

import numpy as np
from casacore import tables

from contimg.convert import flag as flagging
from contimg.convert import kernel, receivers, writer_flags
from contimg.convert.geometry import Geometry, first_channel
from contimg.convert.subbands import Subbands
from contimg.core.errors import NoUsableDataError
from contimg.core.sections import Flag
from contimg.telescope import stations
from contimg.telescope.raw_visibilities import ITEM_BYTES


class Clock:
    """Seconds by phase; phases that run in several threads add up."""

    def __init__(self) -> None:
        self._start = time.perf_counter()
        self._spent: Counter[str] = Counter()
        self._lock = threading.Lock()

    @contextmanager
    def __call__(self, phase: str) -> Iterator[None]:
        """Add the time that what is inside takes to a phase."""
        start = time.perf_counter()
        yield
        with self._lock:
            self._spent[phase] += time.perf_counter() - start  # type: ignore[assignment]

    def seconds(self) -> dict[str, float]:
        """Seconds by phase, and `total`, the elapsed time."""
        total = time.perf_counter() - self._start
        return {phase: round(spent, 3) for phase, spent in [*self._spent.items(), ("total", total)]}


class Integrations:
    """Integrations of a group, converted in threads, `ahead` of the writer, with the statistics for flagging."""

    def __init__(
        self,
        subbands: Subbands,
        geometry: Geometry,
        written: Mapping[int, Future[writer_flags.WriterFlags]],
        *,
        ahead: int,
        clock: Clock,
        clip_sigma: float,
    ) -> None:
        self._raw = subbands.raw
        self._written = written
        self._geometry = geometry
        self._clip_sigma = clip_sigma
        self._clock = clock
        self._local = threading.local()
        observation = geometry.observation
        integrations, baselines = len(observation.times_mjd_s), len(observation.first)
        channels, polarizations = len(observation.frequencies_hz), len(observation.polarizations)
        self._shape = (baselines, channels, polarizations)
        self._data = [np.empty(self._shape, np.complex64) for _ in range(ahead)]
        self._subband_channels = next(iter(subbands.headers.values())).channels
        self._slots = {number: first_channel(number, self._subband_channels) for number in subbands.headers}
        self._rows = [
            {number: row for number in self._raw if (row := subbands.row(number, t)) is not None}
            for t in range(integrations)
        ]
        self._plans = [
            {number: self._raw[number].plan(row, row + baselines) for number, row in rows.items()}
            for rows in self._rows
        ]
        self.bytes_read = sum(plan.size for plans in self._plans for plan in plans.values())
        self._bad = np.empty((integrations, baselines, channels), np.uint8)
        self._amplitude_sum = np.zeros((integrations, polarizations, channels))
        self._amplitude_count = np.zeros((integrations, polarizations, channels))
        self._step_sum = np.zeros((integrations, polarizations, channels))
        self._step_count = np.zeros((integrations, polarizations, channels))
        self._lag = max(1, round(flagging.STEP_HZ / observation.channel_width_hz))
        self._row_median = np.zeros((integrations, baselines, polarizations), np.float32)
        self._coherence = np.zeros((integrations, baselines, polarizations), np.complex64)
        self._power = np.zeros((integrations, baselines, polarizations), np.float32)
        self._clipped = np.zeros((integrations, channels), np.int64)
        self._zeros = np.zeros((integrations, channels), np.int64)

    def converted(self, pool: ThreadPoolExecutor) -> Iterator[np.ndarray]:
        """Start to read and convert all integrations; returns them in order, each valid until the next."""
        return self._ahead(self._converted, pool)

    def write(self, converted: Iterable[np.ndarray], table: tables.table, flush: Callable[[], None]) -> None:
        """Write the converted integrations."""
        for integration, data in enumerate(converted):
            with self._clock("write"):
                table.putcol("DATA", data, integration * self._shape[0], self._shape[0])
                flush()

    def _ahead(self, work: Callable[[int], np.ndarray], pool: ThreadPoolExecutor) -> Iterator[np.ndarray]:
        """Results by integration in order of time, as casacore writes unordered rows twice.

        At most as many integrations are under way or in use as there are buffers.
        """
        integrations = iter(range(len(self._plans)))
        pending = deque(pool.submit(work, integration) for integration in islice(integrations, len(self._data)))

        def in_order() -> Iterator[np.ndarray]:
            while pending:
                yield pending.popleft().result()
                pending.extend(pool.submit(work, integration) for integration in islice(integrations, 1))

        return in_order()

    def _converted(self, integration: int) -> np.ndarray:
        """Read and convert one integration, into a buffer that is free again after the write."""
        if not hasattr(self._local, "buffer"):
            largest = max(sum(plan.size for plan in plans.values()) for plans in self._plans)
            self._local.buffer = np.empty(-(-largest // ITEM_BYTES), np.complex64)
        with self._clock("read"):
            raw = self._read(integration, self._local.buffer)
        with self._clock("compute"):
            out = kernel.Converted(
                self._data[integration % len(self._data)],
                self._bad[integration],
                self._amplitude_sum[integration],
                self._amplitude_count[integration],
                self._step_sum[integration],
                self._step_count[integration],
                self._row_median[integration],
                self._coherence[integration],
                self._power[integration],
                self._clipped[integration],
                self._zeros[integration],
            )
            phasor = self._geometry.phasor(integration)
            kernel.convert_integration(raw, self._geometry.rows, phasor, self._clip_sigma, self._lag, out)
        return out.data

    def _read(self, integration: int, buffer: np.ndarray) -> kernel.Raw:
        plans = self._plans[integration]
        octets = buffer.view(np.uint8)
        begin = grid = 0
        positions, layout = [], []
        for number, plan in plans.items():
            self._raw[number].read(plan, octets[begin:])
            in_buffer = plan.positions + begin // ITEM_BYTES
            first = self._rows[integration][number]
            bad = self._written[number].result().bad
            if bad is not None:
                chunk = self._raw[number].chunk
                of_integration = bad[first : first + self._shape[0]]
                writer_flags.blank(buffer, in_buffer, chunk, of_integration, first - plan.first_chunk * chunk[0])
            positions.append(in_buffer.ravel())
            layout.append([*self._raw[number].chunk, plan.first_chunk, *plan.positions.shape[1:], grid, first])
            begin += plan.size
            grid += plan.positions.size
        return kernel.Raw(
            buffer,
            np.concatenate([np.empty(0, np.int64), *positions]),
            np.array(layout, np.int64).reshape(-1, 8),
            np.array([self._slots[number] for number in plans], np.int64),
            self._subband_channels,
        )

    def is_zero(self, number: int) -> bool:
        """Whether all visibilities of a subband are zero, missing or not finite."""
        slot = self._slots[number]
        samples = self._bad.shape[0] * self._shape[0] * self._shape[2] * self._subband_channels
        return int(self._zeros[:, slot : slot + self._subband_channels].sum()) == samples

    def flag(
        self, zeroed: Collection[int], settings: Flag, table: tables.table, pool: ThreadPoolExecutor
    ) -> dict[str, Any]:
        """Flag bad data, write FLAG, and return the flagged fractions.

        Raises
        ------
        NoUsableDataError
            If more than `flag.max_fraction` is flagged.
        """
        rows, observation = self._geometry.rows, self._geometry.observation
        with np.errstate(invalid="ignore"):
            mean = self._amplitude_sum / np.where(self._amplitude_count > 0, self._amplitude_count, np.nan)
            step = self._step_sum / np.where(self._step_count > 0, self._step_count, np.nan)
        order = np.argsort(rows.target)
        statistics = flagging.Statistics(
            *(mean, step, self._row_median, self._coherence, self._power),
            first=rows.first[order],
            second=rows.second[order],
            polarizations=observation.polarizations,
        )
        decision = flagging.decide(statistics, settings.rfi_sigma, settings.clip_sigma)

        flagged = np.zeros((len(self._bad), self._shape[1]), np.int64)
        flagged_rows = np.zeros((len(self._bad), self._shape[0], self._shape[2]), np.int64)

        def spread(integration: int) -> np.ndarray:
            flags = np.empty(self._shape, bool)
            bits = self._bad[integration], decision.channels[integration], decision.rows[integration]
            kernel.spread_flags(*bits, flags, flagged[integration], flagged_rows[integration])
            return flags

        for integration, flags in enumerate(self._ahead(spread, pool)):
            table.putcol("FLAG", flags, integration * self._shape[0], self._shape[0])
        whole = (1 << self._shape[2]) - 1
        table.putcol("FLAG_ROW", decision.rows.ravel() == whole)
        quality = self._quality(decision, flagged.sum(axis=0), zeroed, settings)
        present = self._present(zeroed)
        with_data = np.union1d(observation.first, observation.second)
        return quality | {
            "receivers": receivers.measure(
                statistics,
                (flagged_rows - int((~present).sum())) / int(present.sum()),
                tuple(stations.NAMES[number] for number in with_data),
                integration_s=observation.integration_s,
                channel_hz=observation.channel_width_hz,
            )
        }

    def _present(self, zeroed: Collection[int]) -> np.ndarray:
        """Channels of subbands with data, bool, shape (C,)."""
        present = np.zeros(self._shape[1], bool)
        for number, slot in self._slots.items():
            if number not in zeroed:
                present[slot : slot + self._subband_channels] = True
        return present

    def _quality(
        self, decision: flagging.Decision, flagged: np.ndarray, zeroed: Collection[int], settings: Flag
    ) -> dict[str, Any]:
        """Flagged fractions of the present data; missing and zeroed subbands are not counted."""
        observation = self._geometry.observation
        used = {number: slot for number, slot in self._slots.items() if number not in zeroed}
        present = self._present(zeroed)
        by_channel = self._bad.shape[0] * self._shape[0] * self._shape[2]
        samples = by_channel * int(present.sum())
        total = float(flagged[present].sum() / samples)
        if total > settings.max_fraction:
            raise NoUsableDataError(
                f"{observation.name}: {total:.0%} of the data is flagged, "
                f"at most {settings.max_fraction:.0%} may be; the group is set aside"
            )
        bits = [decision.rows >> pol & 1 for pol in range(self._shape[2])]
        dead_bits = [decision.dead_rows >> pol & 1 for pol in range(self._shape[2])]
        dead = float(np.mean(dead_bits))
        with_data = np.union1d(observation.first, observation.second)
        return {
            "flagged_fraction": total,
            "flagged_by_reason": {
                "zero": float(self._zeros[:, present].sum() / samples),
                "clip": float(self._clipped[:, present].sum() / samples + np.mean(bits) - dead),
                "rfi": float(np.mean(decision.channels[:, present])),
                "dead": dead,
            },
            "flagged_by_subband": {
                f"{number:02d}": float(flagged[slot : slot + self._subband_channels].mean() / by_channel)
                for number, slot in sorted(used.items())
            },
            "dead_antennas": with_data[decision.dead.all(axis=1)].tolist(),
            "dead_receptors": {
                receptor: with_data[decision.dead[:, column]].tolist() for column, receptor in enumerate("XY")
            },
            "degraded": total > settings.degraded_fraction,
        }
