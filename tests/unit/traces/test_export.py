"""Traces over OTLP, to a real receiver on loopback."""

from __future__ import annotations

import contextlib
import sqlite3
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from bookkeeping import Played
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status
from servers import free_port

from contimg.core import files
from contimg.core.trace import trace_id, traceparent
from contimg.ledger.ledger import Ledger, open_ledger
from contimg.traces import export, spans
from contimg.traces.export import ENDPOINT, Exporter


class Receiver:
    """An OTLP/HTTP receiver that keeps what it is sent, refuses it, or does not answer until it is told to."""

    def __init__(self) -> None:
        self.spans: list[Span] = []
        self.services: set[str] = set()
        self.status = 200
        self.answers = threading.Event()
        self.answers.set()
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                receiver.answers.wait(20)
                if receiver.status == 200 and self.path == "/v1/traces":
                    receiver.take(ExportTraceServiceRequest.FromString(body))
                with contextlib.suppress(OSError):  # the client has gone
                    self.send_response(receiver.status)
                    self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}"

    def take(self, request: ExportTraceServiceRequest) -> None:
        for resource in request.resource_spans:
            self.services |= {
                each.value.string_value for each in resource.resource.attributes if each.key == "service.name"
            }
            for scope in resource.scope_spans:
                self.spans += scope.spans


@pytest.fixture
def receiver(monkeypatch: pytest.MonkeyPatch) -> Iterator[Receiver]:
    made = Receiver()
    monkeypatch.setenv(ENDPOINT, made.url)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "1")
    yield made
    made.answers.set()
    made.server.shutdown()
    made.server.server_close()


@pytest.fixture
def played(tmp_path: Path) -> Played:
    played = Played(tmp_path / "root")
    played.unit = played.whole_way(1, "3C48")
    return played


def exporter(played: Played) -> Exporter:
    return Exporter(played.root, lambda: contextlib.closing(open_ledger(played.root.ledger, read_only=True)))


def test_what_arrives_is_the_groups_trace(receiver: Receiver, played: Played) -> None:
    assert exporter(played).send()
    expected = {span.id: span for span in spans.trace(played.root, played.ledger, played.unit)}
    arrived = {span.span_id.hex(): span for span in receiver.spans}
    assert arrived.keys() == expected.keys()
    assert receiver.services == {"contimg"}
    for number, span in arrived.items():
        assert span.trace_id.hex() == trace_id(played.unit)
        assert span.parent_span_id.hex() == expected[number].parent
        assert span.name == expected[number].name
        assert 0 < span.start_time_unix_nano <= span.end_time_unix_nano
        assert span.status.code == Status.STATUS_CODE_OK


def test_nothing_is_sent_twice_and_failures_are_errors(receiver: Receiver, played: Played) -> None:
    assert exporter(played).send()
    before = len(receiver.spans)
    assert exporter(played).send()
    assert len(receiver.spans) == before
    played.failed("detect", played.arrive(2), error_class="memory_error", message="out of memory")
    assert exporter(played).send()
    [failed] = [span for span in receiver.spans[before:] if span.status.code == Status.STATUS_CODE_ERROR]
    assert failed.status.message == "out of memory"


def test_a_group_set_aside_as_it_came_is_sent_once(receiver: Receiver, played: Played) -> None:
    assert exporter(played).send()
    before = len(receiver.spans)
    unit = played.arrive(2, "unusable")
    assert exporter(played).send()
    assert {span.name for span in receiver.spans[before:]} == {f"group {unit}", "arrival", "quarantine"}
    before = len(receiver.spans)
    assert exporter(played).send()
    assert len(receiver.spans) == before


@pytest.mark.parametrize("steps", [7, [7], [{"step": "x"}], [{"step": "x", "started": "noon", "seconds": 1}]])
def test_steps_that_cannot_be_read_cost_no_attempt(receiver: Receiver, played: Played, steps: object) -> None:
    record = played.root.attempt(played.unit, "image", 1)
    files.write_json(record, files.read_json(record) | {"steps": steps})
    assert exporter(played).send()
    assert "image" in {span.name for span in receiver.spans}


def test_an_error_ends_no_export(receiver: Receiver, played: Played, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export, "_EVERY_S", 0.01)
    errors = [sqlite3.OperationalError("disk I/O error"), ValueError()]

    @contextlib.contextmanager
    def ledger() -> Iterator[Ledger]:
        if errors:
            raise errors.pop()
        with contextlib.closing(open_ledger(played.root.ledger, read_only=True)) as opened:
            yield opened

    made = Exporter(played.root, ledger)
    made.start()
    end = time.monotonic() + 30
    while not receiver.spans:
        assert time.monotonic() < end
        time.sleep(0.01)
    made.stop()


def test_a_mosaic_is_in_its_own_trace_and_in_its_groups(receiver: Receiver, played: Played) -> None:
    window = played.ledger.group(played.unit).window
    played.failed("mosaic", window, error_class="memory_error", message="out of memory", steps=[])
    played.done("mosaic", window)
    assert exporter(played).send()
    own = [span for span in receiver.spans if span.trace_id.hex() == trace_id(window)]
    assert {span.span_id.hex() for span in own} == {
        span.id for span in spans.window_trace(played.root, played.ledger, window)
    }
    [whole] = [span for span in own if not span.parent_span_id]
    tried = {span.span_id.hex(): span.status.code for span in own if span.name == "mosaic"}
    assert tried == {
        traceparent(window, "mosaic", 1).split("-")[2]: Status.STATUS_CODE_ERROR,
        traceparent(window, "mosaic", 2).split("-")[2]: Status.STATUS_CODE_OK,
    }
    assert whole.name == f"mosaic window {window}"
    classes = [
        each.value.string_value for span in own for each in span.attributes if each.key.endswith("error_class")
    ]
    assert classes == ["memory_error"]
    of_group = [span for span in receiver.spans if span.trace_id.hex() == trace_id(played.unit)]
    assert [span.name for span in of_group].count("mosaic") == 2


def test_what_arrives_keeps_to_the_schema(receiver: Receiver, played: Played) -> None:
    """Ids of the right length and alone of their kind, parents that arrive, times in order, named attributes."""
    waiting = played.arrive(2)
    played.failed("detect", waiting, error_class="memory_error", message="out of memory")
    played.arrive(3, "unusable")
    played.done("mosaic", played.ledger.group(played.unit).window)
    assert exporter(played).send()
    known = {(span.trace_id, span.span_id) for span in receiver.spans}
    assert len(known) == len(receiver.spans)
    for span in receiver.spans:
        assert (len(span.trace_id), len(span.span_id)) == (16, 8)
        of_waiting = span.trace_id.hex() == trace_id(waiting)  # the whole group follows when it has ended
        assert ((span.trace_id, span.parent_span_id) in known) == bool(span.parent_span_id and not of_waiting)
        assert 0 < span.start_time_unix_nano <= span.end_time_unix_nano
        assert span.name
        assert span.kind == Span.SPAN_KIND_INTERNAL
        assert all(each.key.startswith("contimg.") and each.value.WhichOneof("value") for each in span.attributes)
        if span.status.code == Status.STATUS_CODE_ERROR:
            assert span.status.message


@pytest.mark.parametrize("broken", ["down", "wrong", "slow"])
def test_a_collector_that_takes_nothing_loses_no_group(
    receiver: Receiver, played: Played, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    receiver.status = 400
    if broken == "slow":
        receiver.answers.clear()
    if broken == "down":
        monkeypatch.setenv(ENDPOINT, f"http://127.0.0.1:{free_port()}")
    assert not exporter(played).send()
    assert not (played.root.state / "otlp.json").exists()
    receiver.status = 200
    receiver.answers.set()
    monkeypatch.setenv(ENDPOINT, receiver.url)
    assert exporter(played).send()
    assert {span.name for span in receiver.spans} >= {"detect", "convert", "solve", "image", f"group {played.unit}"}


def test_a_ledger_that_was_built_again_starts_at_its_end(receiver: Receiver, played: Played) -> None:
    (played.root.state / "otlp.json").write_text('{"attempt": 100000, "quarantined": [0, ""]}')
    assert exporter(played).send()
    assert receiver.spans == []
    unit = played.arrive(2)
    played.done("detect", unit)
    assert exporter(played).send()
