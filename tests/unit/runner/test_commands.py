"""The runner's commands, as a person calls them."""

from __future__ import annotations

import json
import os
import pwd
import re
import select
import shutil
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import yaml
from bookkeeping import NOW, Played

from contimg.alerts.alerting import Alerting, AlertingSettings, Evaluation
from contimg.cli import main
from contimg.core.release import CHECKOUT
from contimg.execute.lease import acquire
from contimg.ingest import quarantine
from contimg.runner.audit import audit
from contimg.runner.status import StatusSettings, status


@pytest.fixture
def played(tmp_path: Path) -> Played:
    return Played(tmp_path / "data")


@pytest.fixture
def call(played: Played, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """Call a command; returns its exit code and what it printed."""
    (tmp_path / "config.yaml").write_text(yaml.safe_dump({"data_root": str(played.root.root)}))

    def run(*arguments: str) -> tuple[int, str]:
        code = main([*arguments, "--config", str(tmp_path / "config.yaml")])
        said = capsys.readouterr()
        return code, said.out + said.err

    return run


def test_quarantine(played: Played, call) -> None:
    unit = played.arrive(0)
    played.failed("detect", unit, error_class="corrupt_input", message="it is bad")
    assert call("quarantine", "list")[1].startswith(f"{unit}  ")
    assert json.loads(call("quarantine", "show", unit)[1])["error_class"] == "corrupt_input"
    assert json.loads(call("quarantine", "list", "--json")[1])[0]["group"] == unit
    assert call("quarantine", "release", unit) == (0, f"{unit}: 16 files are back in incoming/\n")
    assert call("quarantine", "list") == (0, "nothing is in quarantine\n")
    code, said = call("quarantine", "release", unit)
    assert code == 1
    assert "not in quarantine" in said
    assert call("quarantine", "release")[0] == 1


def test_status_and_audit_count_the_same_groups_in_quarantine(played: Played, call) -> None:
    played.failed("detect", played.arrive(0), error_class="corrupt_input", message="it is bad")
    unit = played.arrive(1, "unusable")

    def counted() -> tuple[int, int]:
        counts = json.loads(call("audit", "--json")[1])["counts"]
        return json.loads(call("status", "--json")[1])["quarantined"], counts["groups in quarantine"]

    assert counted() == (2, 2)
    shutil.rmtree(played.root.quarantine(unit))
    assert counted() == (2, 2)
    assert f"{unit}: is said to be in quarantine and is not" in call("audit")[1]


def test_a_mosaic_window_that_was_given_up_is_listed_and_released(played: Played, call) -> None:
    played.whole_way(0)
    (due,) = played.ledger.due_windows()
    for _ in range(6):
        played.failed("mosaic", due.name, message="it is bad")
    assert played.ledger.due_windows() == []
    assert "it is bad" in call("quarantine", "list")[1]
    assert call("quarantine", "release", due.name) == (0, f"{due.name}: its mosaic is due again\n")
    assert [row.name for row in played.ledger.due_windows()] == [due.name]
    assert call("quarantine", "list") == (0, "nothing is in quarantine\n")


def test_the_ledger_is_checked_and_rebuilt(played: Played, call) -> None:
    played.whole_way(0)
    assert "1 groups" in call("ledger", "check")[1]
    played.ledger.close()
    played.root.ledger.write_bytes(os.urandom(5000))
    assert call("ledger", "check")[0] == 1
    code, said = call("ledger", "rebuild")
    assert code == 0
    assert "1 groups, 1 windows" in said
    assert "before" in said
    assert call("ledger", "check")[0] == 0
    assert json.loads(call("audit", "--json")[1])["counts"]["groups done"] == 1


def test_the_ledger_is_not_rebuilt_under_a_runner(played: Played, call) -> None:
    acquire(played.root)
    code, said = call("ledger", "rebuild")
    assert code == 1
    assert "at work" in said


def test_run_refuses_a_second_one_and_cron_takes_it_easy(played: Played, call) -> None:
    acquire(played.root)
    assert call("run")[0] == 1
    code, said = call("run", "--once")
    assert code == 0
    assert "at work" in said


def test_a_lease_that_cannot_be_read_is_not_nothing_to_do(played: Played, call) -> None:
    """Cron has to hear of it: nobody works, and nobody will."""
    (played.root.state / "runner.lock").mkdir(parents=True)
    code, said = call("run", "--once")
    assert code == 1
    assert "runner.lock" in said


def test_status_says_what_waits_for_what(played: Played, call) -> None:
    waiting = played.arrive(0)
    failed = played.arrive(1)
    played.failed("detect", failed, now=time.time(), message="the disk is full", error_class="disk_full")
    collecting = played.arrive(2, "collecting")
    content = json.loads(call("status", "--json")[1])
    assert content["queue"] == 2
    assert content["waiting"][waiting] == "detect: starts in the next pass"
    assert "the disk is full" in content["waiting"][failed]
    assert "next try in 5 min" in content["waiting"][failed]
    assert content["waiting"][collecting] == "it is short"
    assert content["failures_last_24h"] == {"disk_full": 1}
    assert content["runner"] == {"state": "stopped"}
    text = call("status")[1]
    assert "disk_full" in text
    lease = acquire(played.root)
    assert json.loads(call("status", "--json")[1])["runner"]["state"] == "running"
    lease.release()


@pytest.mark.parametrize("command", [["sets", "--at"], ["simulate", "incoming", "--day"], ["beam", "fit"]])
def test_a_time_that_is_none_is_refused_with_an_example(
    capsys: pytest.CaptureFixture[str], command: list[str]
) -> None:
    with pytest.raises(SystemExit):
        main([*command, "yesterday"])
    assert re.search(r"'yesterday' is no date (or time )?such as 2026-01-12", capsys.readouterr().err)


@pytest.mark.parametrize("command", [["status"], ["reprocess", "--from", "2026-01-12", "--until", "2026-01-13"]])
def test_before_the_first_runner_the_ledger_is_missing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], command: list[str]
) -> None:
    (tmp_path / "data" / "incoming").mkdir(parents=True)
    (tmp_path / "config.yaml").write_text(yaml.safe_dump({"data_root": str(tmp_path / "data")}))
    assert main([*command, "--config", str(tmp_path / "config.yaml")]) == 1
    said = capsys.readouterr()
    assert "there is no ledger; the runner builds it from the files when it starts" in said.out + said.err


def test_status_watched_from_before_the_first_runner_waits_for_it(tmp_path: Path) -> None:
    (tmp_path / "data" / "incoming").mkdir(parents=True)
    (tmp_path / "config.yaml").write_text(yaml.safe_dump({"data_root": str(tmp_path / "data")}))
    command = [sys.executable, "-m", "contimg", "status", "--watch", "--config", str(tmp_path / "config.yaml")]
    terminal, screen = os.openpty()
    watching = subprocess.Popen(command, cwd=CHECKOUT, stdin=screen, stdout=screen, stderr=screen)
    try:
        said, deadline = b"", time.monotonic() + 60
        while b"waiting for it" not in said and time.monotonic() < deadline:
            if select.select([terminal], [], [], 1)[0]:
                said += os.read(terminal, 65536)
        assert b"waiting for it" in said
        assert watching.poll() is None
    finally:
        watching.kill()
        watching.wait()
        os.close(terminal)
        os.close(screen)


def test_status_counts_what_running_calls_may_take(tmp_path: Path) -> None:
    memory_mb = psutil.virtual_memory().total // 1_000_000
    played = Played(tmp_path, limits={"mem_mb": memory_mb // 2 + 1}, runner={"memory_percent": 100})
    running, waiting = played.arrive(0), played.arrive(1)
    for unit in (running, waiting):
        played.done("detect", unit)
        played.done("convert", unit)
    content = status(played.root, played.settings.part(StatusSettings), played.ledger, NOW)
    assert content["waiting"][waiting] == "image: starts in the next pass"
    played.ledger.add_call(1, "image", [running], NOW)
    lease = acquire(played.root)
    content = status(played.root, played.settings.part(StatusSettings), played.ledger, NOW)
    assert content["waiting"][waiting].startswith("image: memory: ")
    lease.release()
    content = status(played.root, played.settings.part(StatusSettings), played.ledger, NOW)
    assert content["running"] == []  # calls end with their runner
    assert content["waiting"][waiting] == "image: starts in the next pass"


def test_status_says_that_the_workflow_is_held(played: Played) -> None:
    waiting = played.arrive(0)
    alerting = Alerting(played.root)
    for after_s, why in (
        (
            0,
            "detect fails for every group, and not through their fault: it is held and tried once a minute;"
            " its newest log says why",
        ),
        (20, "detect: starts in the next pass"),
    ):
        now = NOW + after_s
        alerting.tick(
            Evaluation(played.ledger, played.settings.part(AlertingSettings), now),
            held=() if after_s else ("detect",),
            well=True,
        )
        later = status(played.root, played.settings.part(StatusSettings), played.ledger, now + (3 * after_s))
        assert later["waiting"][waiting] == why


def test_a_user_without_a_name_can_call_everything(played: Played, call, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.delenv(name, raising=False)

    def unknown(uid: int) -> None:
        raise KeyError(f"getpwuid(): uid not found: {uid}")

    monkeypatch.setattr(pwd, "getpwuid", unknown)
    assert call("alerts", "list") == (0, "no alert is open\n")
    played.ledger.write(
        "INSERT INTO alerts (condition, subject, severity, message, opened, told, seen)"
        " VALUES ('queue_groups', '', 'warning', 'many wait', 0, 0, 0)"
    )
    assert call("alerts", "ack", "1")[0] == 0
    assert json.loads(call("alerts", "list", "--json")[1])[0]["acknowledged_by"] == str(os.getuid())


# The books


def whole_image(played: Played, unit: str) -> None:
    for product in ("noise.fits", "pb.fits", "png"):
        played.root.image(unit, product).write_text("x")


def test_the_books_balance(played: Played, call) -> None:
    whole_image(played, played.whole_way(0))
    played.failed("detect", played.arrive(1), error_class="corrupt_input")
    played.arrive(2, "collecting")
    code, said = call("audit")
    assert (code, said.splitlines()[-1]) == (0, "the books balance")
    assert "16  files in quarantine" in said


@pytest.mark.parametrize(
    ("breaks", "said"),
    [
        (lambda p, unit: next(p.root.incoming.iterdir()).unlink(), "nothing was made of it"),
        (lambda p, unit: p.root.image(unit, "noise.fits").unlink(), "half a product"),
        (lambda p, unit: p.root.ms_sidecar(unit).unlink(), "half a product"),
        (lambda p, unit: p.root.image(unit, "json").unlink(), "done and has no image"),
        (lambda p, unit: p.root.manifest(unit).unlink(), "no manifest"),
        (lambda p, unit: (p.root.ms(unit).parent / f".{unit}.ms.part-999999").mkdir(), "half-written"),
        (lambda p, unit: (p.root.calibration(unit) / "gain.cal").mkdir(), "half a product"),
        (lambda p, unit: p.ledger.write("DELETE FROM groups"), "the ledger does not know it"),
        (lambda p, unit: (p.root.quarantine("x")).mkdir(parents=True), "no reason.json"),
        (lambda p, unit: p.change(unit, state="quarantined"), "said to be in quarantine"),
        (lambda p, unit: p.root.incoming.rename(p.root.root / "unmounted"), "/incoming'\n"),
    ],
)
def test_what_is_wrong_with_the_books_is_said(played: Played, call, breaks, said: str) -> None:
    unit = played.whole_way(0)
    whole_image(played, unit)
    waiting = played.arrive(1)
    assert call("audit")[0] == 0
    breaks(played, waiting if "nothing was made" in said else unit)
    if "nothing was made" in said:
        for path in played.root.incoming.iterdir():
            if waiting[9:13] in path.name.replace(":", ""):
                path.unlink()
                break
    code, text = call("audit")
    assert code == 1
    assert said in text


def test_a_dead_runner_s_call_excuses_no_half_product(played: Played) -> None:
    unit = played.whole_way(0)
    whole_image(played, unit)
    played.root.image(unit, "noise.fits").unlink()
    played.ledger.add_call(1, "image", [unit], NOW)
    lease = acquire(played.root)
    books = audit(played.root, played.settings.ingest, played.settings.staging, played.ledger, NOW)
    assert not [said for said in books.problems if "half a product" in said]
    lease.release()
    books = audit(played.root, played.settings.ingest, played.settings.staging, played.ledger, NOW)
    assert [said for said in books.problems if "half a product" in said]


def test_a_file_that_has_just_come_is_no_problem_and_one_that_stays_without_a_group_is(played: Played) -> None:
    (played.root.incoming / "2026-01-12T10:00:00_sb00.hdf5").touch()
    books = [
        audit(played.root, played.settings.ingest, played.settings.staging, played.ledger, time.time() + 60 * minutes)
        for minutes in (0, 31)
    ]
    assert [book.balance for book in books] == [True, False]
    assert books[0].counts["files in incoming/ that have just come"] == 1
    assert "is in no group" in books[1].problems[0]


def test_a_file_missing_from_quarantine_is_missed(played: Played, call) -> None:
    unit = played.arrive(1)
    played.failed("detect", unit, error_class="corrupt_input")
    (played.root.quarantine(unit) / quarantine.entry(played.root, unit).names[0]).unlink()
    assert "by its record, and it is gone" in call("audit")[1]


def test_config_show_says_where_from_and_masks(call, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CONTIMG_SLACK_WEBHOOK_URL", "https://hooks.slack.com/services/secret")
    monkeypatch.setenv("CONTIMG_MAX_RETRY_ATTEMPTS", "7")
    code, said = call("config", "show")
    assert code == 0
    lines = {line.split()[0]: line.split()[1:] for line in said.splitlines()}
    assert lines["retry.max_attempts"] == ["7", "CONTIMG_MAX_RETRY_ATTEMPTS"]
    assert lines["retry.disk_full.retries"] == ["3", "default"]
    assert lines["data_root"][1] == str(tmp_path / "config.yaml")
    assert lines["alerts.slack_webhook_url"] == ['"**********"', "CONTIMG_SLACK_WEBHOOK_URL"]
    assert "secret" not in said
    shown = json.loads(call("config", "show", "--json")[1])
    assert shown["retry.max_attempts"] == {"value": 7, "source": "CONTIMG_MAX_RETRY_ATTEMPTS"}
