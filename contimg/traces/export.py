"""Traces sent over OTLP/HTTP where OTEL_EXPORTER_OTLP_ENDPOINT is set; nothing waits for the collector.

The cursor `state/otlp.json` holds the id of the last attempt sent, and end and name of the last group in quarantine,
which may have no attempt. While a collector is down, slow or wrong the cursor stays, and missed spans are sent later:
each span at least once, under the same id.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExportResult
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags

from contimg import __version__
from contimg.core import files
from contimg.core.errors import ContimgError
from contimg.core.paths import DataRoot
from contimg.core.stages import works_on_windows
from contimg.ledger import history
from contimg.ledger.ledger import Ledger
from contimg.traces import spans
from contimg.traces.spans import Span

log = logging.getLogger(__name__)

ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"
_AT_ONCE = 200
_EVERY_S = 5.0
_LONGEST_S = 300.0
"""Longest pause (s) after a collector that did not answer."""
_SCOPE = InstrumentationScope("contimg", __version__)


class Exporter:
    """Exporter of a data root's traces, in a thread of its own.

    Parameters
    ----------
    ledger
        Function that opens the ledger for reading.
    """

    def __init__(self, root: DataRoot, ledger: Callable[[], AbstractContextManager[Ledger]]) -> None:
        self._root = root
        self._ledger = ledger
        self._sender = OTLPSpanExporter()
        self._resource = Resource.create({"service.name": "contimg", "service.version": __version__})
        self._ended = threading.Event()

    def start(self) -> None:
        """Start sending new spans in the background."""
        threading.Thread(target=self._run, name="otlp", daemon=True).start()

    def stop(self) -> None:
        """Stop soon; unsent spans are sent after the next start."""
        self._ended.set()
        self._sender.shutdown()

    def _run(self) -> None:
        pause_s = _EVERY_S
        while not self._ended.wait(pause_s):
            try:
                sent = self.send()
            except (ContimgError, OSError) as error:
                log.warning("traces: %s", error)
                sent = False
            except Exception:  # traces wait; the service goes on, and so does this thread
                log.exception("traces could not be sent")
                sent = False
            pause_s = _EVERY_S if sent else min(2 * pause_s, _LONGEST_S)

    def send(self) -> bool:
        """Send unsent spans; returns whether the collector took all of them.

        Raises
        ------
        ContimgError, OSError
            If ledger or cursor cannot be read or written.
        """
        while not self._ended.is_set():
            with self._ledger() as ledger:
                cursor = self._cursor(ledger)
                attempts = history.attempts_after(ledger, cursor["attempt"], _AT_ONCE)
                quarantined = history.quarantined_after(ledger, cursor["quarantined"], _AT_ONCE)
                found = list(self._spans(ledger, attempts, {name for _, name in quarantined}))
            if not attempts and not quarantined:
                return True
            if found and self._sender.export(self._readable(found)) != SpanExportResult.SUCCESS:
                log.warning("traces: the collector took nothing; what it missed is sent later")
                return False
            if attempts:
                cursor["attempt"] = attempts[-1]["id"]
            if quarantined:
                cursor["quarantined"] = list(quarantined[-1])
            files.write_json(self._path, cursor)
        return False

    @property
    def _path(self) -> Path:
        return self._root.state / "otlp.json"

    def _cursor(self, ledger: Ledger) -> dict[str, Any]:
        """Last attempt and last group in quarantine that were sent.

        A rebuilt ledger starts at its last attempt.
        """
        newest = ledger.last_attempt_id()
        try:
            content = files.read_json(self._path)
            ended, name = content["quarantined"]
            return {"attempt": min(int(content["attempt"]), newest), "quarantined": [float(ended), str(name)]}
        except (OSError, ValueError, KeyError, TypeError):
            return {"attempt": 0, "quarantined": [0.0, ""]}

    def _spans(self, ledger: Ledger, attempts: Sequence[dict[str, Any]], whole: set[str]) -> Iterable[Span]:
        """Spans of attempts, and whole-group spans of the groups that ended with them or are named in `whole`.

        An attempt at a mosaic is in the trace of its window, and in that of each group whose image it adds.
        """
        windows = set()
        for attempt in attempts:
            unit = str(attempt["unit"])
            known = ledger.group(unit)
            if works_on_windows(attempt["rule"]):
                for row in ledger.groups_in(unit):
                    if self._root.image(row.name).exists():
                        yield from spans.mosaic_spans(self._root, row.name, attempt)
                        whole.add(row.name)
            elif known is not None:
                yield from spans.attempt_spans(self._root, attempt, spans.root_span_id(unit))
                if known.ended is not None:
                    whole.add(unit)
            if (known is None or works_on_windows(attempt["rule"])) and ledger.window(unit) is not None:
                yield from spans.attempt_spans(self._root, attempt, spans.window_span_id(unit))
                windows.add(unit)
        for name in sorted(whole):
            yield from (span for span in spans.trace(self._root, ledger, name) if span.of_whole)
        for name in sorted(windows):
            yield from (span for span in spans.window_trace(self._root, ledger, name) if span.of_whole)

    def _readable(self, found: Iterable[Span]) -> list[ReadableSpan]:
        return [
            ReadableSpan(
                name=span.name,
                context=_context(span.trace, span.id),
                parent=_context(span.trace, span.parent) if span.parent else None,
                resource=self._resource,
                attributes={f"contimg.{key}": value for key, value in span.attributes.items()},
                kind=SpanKind.INTERNAL,
                status=Status(StatusCode.ERROR, str(span.attributes.get("message", "")))
                if span.failed
                else Status(StatusCode.OK),
                start_time=int(span.start * 1e9),
                end_time=int(span.end * 1e9),
                instrumentation_scope=_SCOPE,
            )
            for span in found
        ]


def _context(trace: str, span: str) -> SpanContext:
    return SpanContext(int(trace, 16), int(span, 16), is_remote=False, trace_flags=TraceFlags(TraceFlags.SAMPLED))


def tracing_configured() -> bool:
    """Whether the environment names a collector."""
    return bool(os.environ.get(ENDPOINT))
