"""Metrics: true from the ledger and the files, cheap, and in Prometheus's own words."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from multiprocessing import active_children
from pathlib import Path

import pytest
from bookkeeping import NOW, group_row
from http_service import Served, served
from lived_root import CountedSource, lived
from prometheus_client.openmetrics.parser import text_string_to_metric_families as open_metrics
from prometheus_client.parser import text_string_to_metric_families as parsed

from contimg.core.paths import DataRoot, group_id
from contimg.core.sections import Ingest, Staging
from contimg.ledger import history
from contimg.ledger.history import LoadSample
from contimg.report import service_levels
from contimg.runner import audit
from contimg.service import audit_problems as audits
from contimg.service.alertmanager import utc
from contimg.service.audit_problems import audit_problems
from contimg.service.metrics import CONVERSION_S, coverage, render

ENDED = ("imaged", "unusable", "given_up")
OPEN = "application/openmetrics-text; version=1.0.0"
HISTORIES = (10_000, 100_000)
"""Groups: five weeks, and a year."""


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served(tmp_path_factory.mktemp("metrics") / "root") as made:
        played = made.played
        played.whole_way(1, "3C48")
        played.whole_way(2)
        unit = played.arrive(3)
        played.done("detect", unit)
        played.record("convert", unit, "ok", duration_s=45.0, trace_id="ab" * 16)
        played.product("convert", unit)
        played.settle(played.started("convert", unit), 0)
        played.failed("image", unit, error_class="memory_error")
        yield made


def values(text: str) -> dict[tuple[str, ...], float]:
    return {
        (sample.name, *(f"{key}={value}" for key, value in sorted(sample.labels.items()))): sample.value
        for family in parsed(text)
        for sample in family.samples
    }


def test_the_names_that_were_asked_for(service: Served) -> None:
    found = values(service.get("/metrics").text)
    assert found["contimg_conversion_duration_seconds_count",] == 3
    bounds = [key[1] for key in found if key[0] == "contimg_conversion_duration_seconds_bucket"]
    assert bounds == [f"le={float(bound)}" for bound in CONVERSION_S] + ["le=+Inf"]
    assert found["contimg_conversion_duration_seconds_bucket", "le=30.0"] == 2
    assert found["contimg_conversion_duration_seconds_bucket", "le=60.0"] == 3
    assert found["contimg_conversion_duration_seconds_sum",] == pytest.approx(47)
    assert found["contimg_calibration_duration_seconds_count",] == 1
    assert found["contimg_imaging_duration_seconds_count",] == 2
    assert found["contimg_queue_depth",] == 1
    assert found["contimg_active_conversions",] == 0
    assert found["contimg_failures_total", "error_type=memory_error", "stage=image"] == 1
    assert found["contimg_tmpfs_usage_bytes",] >= 0
    assert found["contimg_realtime_factor_bucket", "le=0.18", "stage=convert"] == 3
    assert found["contimg_realtime_factor_bucket", "le=0.1", "stage=convert"] == 2
    assert found["contimg_arrival_to_image_seconds_count",] == 2
    assert found["contimg_products_total", "product=image"] == 2


def test_ends_recoveries_and_the_cache_are_counted_once(tmp_path: Path) -> None:
    with served(tmp_path / "root") as made:
        played = made.played
        played.whole_way(1)
        unit = played.arrive(2)
        played.done("detect", unit)
        played.failed("convert", unit, error_class="memory_error", finished=utc(NOW - 100))
        played.record("convert", unit, "ok", finished=utc(NOW), cache={"hits": 3, "misses": 1})
        played.product("convert", unit)
        played.settle(played.started("convert", unit), 0)
        for group, state in ((unit, "quarantined"), (unit, "quarantined"), (played.arrive(3), "quarantined")):
            played.change(group, state=state, ended=NOW, error_class="corrupt_input" if group == unit else "other")
        found = values(made.get("/metrics").text)
        ended = {kind: found["contimg_groups_ended_total", f"outcome={kind}"] for kind in ENDED}
        assert ended == {"imaged": 1, "unusable": 1, "given_up": 1}
        assert found["contimg_recovery_seconds_bucket", "le=120.0"] == 1
        assert found["contimg_recovery_seconds_sum",] == pytest.approx(100, abs=1)
        assert found["contimg_cache_total", "result=hits"] == 3
        assert found["contimg_cache_total", "result=misses"] == 1


def test_resources_of_machine_and_jobs_are_the_newest_and_all_that_was_used(tmp_path: Path) -> None:
    with served(tmp_path / "root") as made:
        played, now = made.played, made.source.now()
        unit = played.arrive(1)
        played.done("detect", unit)
        used = {"cpu_s": 12.5, "peak_memory_mb": 1500, "read_mb": 2300.0, "written_mb": 700.0}
        played.record("convert", unit, "failed", **used)
        played.settle(played.started("convert", unit), 1)
        played.record("convert", unit, "ok", **used | {"peak_memory_mb": 900})
        played.product("convert", unit)
        played.settle(played.started("convert", unit), 0)
        history.add_sample(played.ledger, LoadSample(now - 90, 10, 20, 30, 1, 1, 0, 5, 15), 0.0)
        history.add_sample(played.ledger, LoadSample(now - 30, 80, 40, 60, 1, 1, 0, 70, 35), 0.0)
        found = values(made.get("/metrics").text)
        machine = [found["contimg_machine_use_ratio", f"resource={one}"] for one in ("cpu", "memory", "disk_io")]
        jobs = [found["contimg_jobs_use_ratio", f"resource={one}"] for one in ("cpu", "memory")]
        assert (machine, jobs) == ([0.8, 0.4, 0.6], [0.7, 0.35])
        assert found["contimg_job_cpu_seconds_total", "stage=convert"] == pytest.approx(25)
        assert found["contimg_job_io_bytes_total", "direction=read", "stage=convert"] == 4.6e9
        assert found["contimg_job_io_bytes_total", "direction=written", "stage=convert"] == 1.4e9
        assert found["contimg_job_peak_memory_bytes", "stage=convert"] == 1500 * 2**20
        assert found["contimg_job_cpu_seconds_total", "stage=image"] == 0
        made.source.now = lambda: now + 3600
        made.forget()
        assert "contimg_machine_use_ratio{" not in made.get("/metrics").text  # an old load is none


@pytest.mark.parametrize(
    "sidecar", ["7", "[1]", '{"validation": null}', '{"noise_jy": "noise", "thermal_noise_jy": 1}']
)
def test_a_reading_that_fails_costs_no_other_metric(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sidecar: str
) -> None:
    def broken(*_: object) -> None:
        raise ValueError

    monkeypatch.setattr(service_levels, "measure", broken)
    with served(tmp_path / "root") as made:
        unit = made.played.whole_way(1)
        made.played.root.image(unit, "json").write_text(sidecar)
        made.played.root.image(unit, "validation.html").touch()
        for _ in range(2):
            found = values(made.get("/metrics").text)
            assert found["contimg_products_total", "product=image"] == 1
        assert [made.get(path).status_code for path in ("/", f"/group/{unit}")] == [200, 200]


def test_losses_are_what_the_audit_finds_in_a_process_of_its_own(service: Served) -> None:
    assert audit_problems(service.source) is None
    service.source.started -= 3600
    audit_problems(service.source)
    end = time.monotonic() + 60
    while audit_problems(service.source) is None and time.monotonic() < end:
        time.sleep(0.05)
    played = service.played
    books = audit.audit_with_errors(
        played.root, played.settings.ingest, played.settings.staging, played.ledger, time.time()
    )
    assert audit_problems(service.source) == len(books.problems) > 0


def test_an_audit_without_an_end_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audits, "_LIMIT_S", 0.0)
    before = {*active_children()}
    with pytest.raises(TimeoutError):
        audits.audited(DataRoot(tmp_path), Ingest(), Staging())
    assert {*active_children()} <= before


def test_an_audit_whose_process_dies_is_told_in_words(tmp_path: Path) -> None:
    """It was an EOFError without a word, here for want of a ledger."""
    with pytest.raises(ChildProcessError, match="ended without an answer"):
        audits.audited(DataRoot(tmp_path), Ingest(), Staging())


def test_no_group_is_a_label(service: Served) -> None:
    assert "20260112T" not in service.get("/metrics").text


def test_exemplars_carry_the_trace(service: Served) -> None:
    text = service.get("/metrics", headers={"Accept": OPEN}).text
    found = [
        sample.exemplar.labels
        for family in open_metrics(text)
        for sample in family.samples
        if family.name == "contimg_conversion_duration_seconds" and sample.exemplar
    ]
    assert {"trace_id": "ab" * 16} in found


def test_counts_stay_when_history_goes(service: Served) -> None:
    before = values(service.get("/metrics").text)["contimg_imaging_duration_seconds_count",]
    service.played.ledger.write("DELETE FROM attempts WHERE rule = 'image'")
    service.forget()
    assert values(service.get("/metrics").text)["contimg_imaging_duration_seconds_count",] == before


def test_coverage_is_the_share_of_groups_with_a_set_near_enough(service: Served) -> None:
    ledger = service.played.ledger
    observed = datetime(2026, 1, 12, 8, 7, tzinfo=UTC)
    assert coverage(ledger, (observed + timedelta(hours=2)).timestamp(), 6.0) == 1.0
    far = group_id(observed + timedelta(hours=12))
    ledger.put_group(group_row(far, service.played.settings, arrived=1.0))
    assert coverage(ledger, (observed + timedelta(hours=13)).timestamp(), 6.0) == pytest.approx(3 / 4)
    assert coverage(ledger, observed.timestamp() - 10 * 86400, 6.0) is None


def test_without_a_ledger_the_files_still_speak(tmp_path: Path) -> None:
    with served(tmp_path / "root") as lost:
        lost.played.root.ledger.unlink()
        found = values(lost.get("/metrics").text)
        assert found["contimg_ledger_readable",] == 0
        assert found["contimg_disk_free_bytes",] > 0


def test_a_scrape_does_not_know_how_long_the_history_is(tmp_path: Path) -> None:
    work = []
    for groups in HISTORIES:
        played = lived(tmp_path / str(groups), groups, NOW)
        source = CountedSource(lambda root=played: root.settings, clock=lambda: NOW)
        render(source, "")
        work.append(source.instructions)
    assert work[1] < 1.2 * work[0]
