"""The supervised job: whole outputs or none, a time limit, a record whatever happens."""

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import psutil
import pytest

from contimg.core import processes
from contimg.job import supervisor

HARNESS = """
import os, sys, time, signal, subprocess
from pathlib import Path
from types import SimpleNamespace
from contimg.core import errors
from contimg.job import job

class Named(list):
    def __init__(self, **items):
        super().__init__(items.values())
        self._items = items
        self.__dict__.update(items)
    def items(self): return self._items.items()
    def get(self, name, default=None): return self._items.get(name, default)

root = Path(sys.argv[1])
group = "20260112T080000"
snakemake = SimpleNamespace(
    rule="image", config={"data_root": str(root), "staging": {"directory": str(root / "tmpfs")},
                                "limits": {"image_minutes": MINUTES}},
    wildcards=Named(group=group), input=Named(ms="in.ms"), params=Named(), threads=1,
    output=Named(image="images/a.fits", table="images/a.tab", sidecar="images/a.json"),
    resources=Named(mem_mb=1500), log=["logs/image.log"])

def step(task):
BODY

BEFORE
job.run(snakemake, step, staged=STAGED, **MORE)
"""
GROUP = "20260112T080000"
WRITE = "task.output.image.write_text('fits'); task.output.table.mkdir(); (task.output.table / 'f').touch()"


def start(
    root: Path, body: str, *, minutes: float = 1, staged: dict | None = None, before: str = "", more: str = "{}"
) -> subprocess.Popen:
    (root / "tmpfs").mkdir(exist_ok=True)
    code = HARNESS.replace("BODY", textwrap.indent(textwrap.dedent(body), "    "))
    code = code.replace("BEFORE", textwrap.dedent(before))
    code = code.replace("MINUTES", str(minutes)).replace("STAGED", repr(staged or {})).replace("MORE", more)
    return subprocess.Popen(
        [sys.executable, "-c", code, str(root)], cwd=root, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


def finish(process: subprocess.Popen) -> tuple[int, str]:
    _, said = process.communicate(timeout=60)
    return process.returncode, said


def record(root: Path, number: int = 1) -> dict:
    return json.loads((root / f"logs/2026-01-12/{GROUP}/image.{number}.attempt.json").read_text())


def gone(pid: int) -> bool:
    """Whether a process ends (or waits only for its parent's notice) within some seconds."""
    for _ in range(100):
        if not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
            return True
        time.sleep(0.05)
    return False


def products(root: Path) -> list[str]:
    return sorted(path.name for path in (root / "images").rglob("*"))


def test_the_scan_which_is_no_stage_has_the_time_limit_of_its_rule(tmp_path):
    code, said = finish(start(tmp_path, WRITE, before="snakemake.rule = 'scan'\nsnakemake.resources.runtime = 10"))
    assert code == 0, said


def test_a_finished_step_leaves_whole_outputs_and_a_record(tmp_path):
    busy = "while time.process_time() < 0.1: pass\n"
    code, said = finish(start(tmp_path, f"{busy}{WRITE}; print('working'); return {{'noise_jy': 1.0}}"))
    assert (code, said) == (0, "")
    assert products(tmp_path) == ["a.fits", "a.json", "a.tab", "f"]
    sidecar = json.loads((tmp_path / "images/a.json").read_text())
    assert sidecar["noise_jy"] == 1.0
    assert sidecar["made"]["rule"] == "image"
    assert sidecar["made"]["inputs"] == {"ms": "in.ms"}
    assert record(tmp_path)["outcome"] == "ok"
    assert record(tmp_path)["cache"] == {"hits": 0, "misses": 0}
    assert record(tmp_path)["duration_s"] > 0
    assert 0.1 <= record(tmp_path)["cpu_s"] < 60
    assert record(tmp_path)["peak_memory_mb"] > 5
    assert record(tmp_path)["written_mb"] >= 0
    assert "working" in (tmp_path / "logs/image.log").read_text()


def test_a_failed_step_leaves_nothing_and_says_one_line(tmp_path):
    code, said = finish(
        start(tmp_path, f"{WRITE}; raise errors.TruncatedFileError('x_sb03.hdf5: truncated; set aside')")
    )
    assert code == 1
    assert said.count("\n") == 1
    assert "x_sb03.hdf5: truncated; set aside" in said
    assert products(tmp_path) == []
    assert {"outcome": "failed", "error_class": "corrupt_input", "permanent": True}.items() <= record(
        tmp_path
    ).items()
    assert record(tmp_path)["error_type"] == "TruncatedFileError"


def test_further_units_are_placed_with_the_own_one_and_obsolete_products_go(tmp_path):
    before = """
    snakemake.output = Named(image=f"images/{group}.fits", sidecar=f"images/{group}.json")
    os.makedirs("images")
    old = Path(f"images/{group}-old.fits")
    old.touch()
    """
    more = "dict(further=[group + '-b'], obsolete=[old])"
    write = "[path.write_text(name) for name, path in vars(task.output).items() if 'image' in name]; "
    body = write + "return {'noise_jy': 1.0, 'further': {group + '-b': {'noise_jy': 2.0}}}"
    assert finish(start(tmp_path, write + "raise OSError(5, 'no')", before=before, more=more))[0] == 1
    assert products(tmp_path) == [f"{GROUP}-old.fits"]
    (tmp_path / "images" / f"{GROUP}-old.fits").unlink()
    (tmp_path / "images").rmdir()
    assert finish(start(tmp_path, body, before=before, more=more)) == (0, "")
    names = [f"{name}.{suffix}" for name in (f"{GROUP}-b", GROUP) for suffix in ("fits", "json")]
    assert products(tmp_path) == names
    own, other = (json.loads((tmp_path / "images" / name).read_text()) for name in (names[3], names[1]))
    assert (own["noise_jy"], other["noise_jy"], "further" in own) == (1.0, 2.0, False)
    assert own["made"] == other["made"]


def test_a_step_that_forgets_an_output_is_not_done(tmp_path):
    code, said = finish(start(tmp_path, "task.output.image.touch(); return {}"))
    assert code == 1
    assert "a.tab: the step ended without writing it" in said
    assert products(tmp_path) == []


@pytest.mark.parametrize(
    ("body", "error_class", "blame"),
    [
        ("os.kill(os.getpid(), signal.SIGSEGV)", "died", "group"),
        ("os.kill(os.getpid(), signal.SIGKILL)", "died", "machine"),
        ("os._exit(3)", "died", "group"),
        ("raise MemoryError('4 GiB')", "memory_error", "machine"),
        ("raise OSError(28, 'No space left on device', 'a.fits')", "disk_full", "machine"),
        ("raise OSError(122, 'Disk quota exceeded', 'a.fits')", "disk_full", "machine"),
        ("raise OSError(116, 'Stale file handle', 'a.hdf5')", "io_error", "machine"),
        ("import a_library_that_is_not_there", "tool_failed", "workflow"),
        ("raise errors.TruncatedFileError('x_sb03.hdf5: truncated')", "corrupt_input", "file"),
        ("raise errors.UnusableSetError('set.json: gives nothing')", "missing_calibration", "set"),
        ("raise errors.CatalogueError('list.csv: no such column')", "configuration", "settings"),
        ("raise KeyError('gain')", "other", "group"),
    ],
)
def test_every_way_of_failing_has_its_class_and_blame(tmp_path, body, error_class, blame):
    code, said = finish(start(tmp_path, body))
    assert code == 1
    assert (record(tmp_path)["error_class"], record(tmp_path)["blame"]) == (error_class, blame)
    assert f"[{error_class};" in said


def test_past_its_time_limit_the_whole_process_tree_is_killed(tmp_path):
    body = (
        "Path('pid').write_text(str(subprocess.Popen(['sleep', '60'], start_new_session=True).pid))\n"
        "while time.process_time() < 0.1: pass\n"
        "time.sleep(60)"
    )
    began = time.monotonic()
    code, said = finish(start(tmp_path, body, minutes=3 / 60))
    assert code == 1
    assert time.monotonic() - began < 20
    assert record(tmp_path)["error_class"] == "timeout_killed"
    assert record(tmp_path)["cpu_s"] >= 0.1
    assert record(tmp_path)["blame"] == "machine"  # it worked, then hung
    assert "time limit" in said
    assert gone(int((tmp_path / "pid").read_text()))


@pytest.mark.parametrize(
    ("staged", "moment", "done"),
    [
        (None, "(job, 'begun')", False),
        (None, "(supervisor, 'start')", False),
        (None, "(supervisor, 'result')", True),
        (None, "(Outputs, 'place')", True),
        ({"image": 10, "table": 10}, "(Outputs, 'place')", True),
        (None, "(AttemptRecord, 'ended')", True),
    ],
)
def test_asked_to_stop_at_any_moment_it_ends_what_it_began(tmp_path, staged, moment, done):
    """The record says what happened, and no part stays: before its step has ended the job stops, then it finishes."""
    before = f"""
    from contimg.job import supervisor
    from contimg.job.attempt_record import AttemptRecord
    from contimg.job.outputs import Outputs
    owner, name = {moment}
    plain = getattr(owner, name)
    def asked_to_stop(*arguments, **named):
        os.kill(os.getpid(), signal.SIGTERM)
        return plain(*arguments, **named)
    setattr(owner, name, asked_to_stop)
    """
    code, said = finish(
        start(tmp_path, f"{WRITE}; time.sleep({0 if done else 60}); return {{}}", staged=staged, before=before)
    )
    assert code == int(not done)
    assert record(tmp_path)["outcome"] == ("ok" if done else "failed")
    assert done or "stopped by SIGTERM; it is due again" in said
    assert products(tmp_path) == (["a.fits", "a.json", "a.tab", "f"] if done else [])
    assert not list((tmp_path / "tmpfs").iterdir())


def test_a_program_of_a_job_that_was_killed_ends_with_it(tmp_path):
    """Where no runner is, nobody else would end it."""
    body = """
    from contimg.core import processes
    with processes.program(["sleep", "60"]) as program:
        Path("pid").write_text(str(program.pid))
        Path("ready").touch()
        program.wait()
    """
    process = start(tmp_path, body)
    while not (tmp_path / "ready").exists():
        time.sleep(0.05)
    process.kill()
    process.wait()
    assert gone(int((tmp_path / "pid").read_text()))


def test_stopped_from_outside_it_cleans_up_and_says_so(tmp_path):
    process = start(tmp_path, f"{WRITE}; Path('ready').touch(); time.sleep(60)", staged={"table": 10})
    while not (tmp_path / "ready").exists():
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGTERM)
    code, _ = finish(process)
    assert code == 1
    assert "SIGTERM" in record(tmp_path)["message"]
    assert products(tmp_path) == []
    assert list((tmp_path / "tmpfs").iterdir()) == []


def test_a_killed_supervisor_leaves_no_orphan(tmp_path):
    process = start(tmp_path, "Path('pid').write_text(str(os.getpid())); Path('ready').touch(); time.sleep(60)")
    while not (tmp_path / "ready").exists():
        time.sleep(0.05)
    process.kill()
    finish(process)
    child = int((tmp_path / "pid").read_text())
    assert gone(child)
    assert record(tmp_path)["outcome"] == "running"  # which the runner's watchdog reads as died


def test_a_job_whose_attempt_was_closed_places_nothing(tmp_path):
    """Its runner took it for dead, on a node that could not be reached, and started another."""
    close = (
        "import json; path = next((root / 'logs').rglob('*.attempt.json')); content = json.loads(path.read_text())"
    )
    close += "; path.write_text(json.dumps(content | {'outcome': 'failed', 'finished': content['started']}))"
    code, said = finish(start(tmp_path, f"{close}; {WRITE}; return {{}}"))
    assert (code, products(tmp_path)) == (1, [])
    assert "was closed while its job ran" in said
    assert record(tmp_path)["error_class"] == "died"


def test_attempts_are_numbered_on(tmp_path):
    finish(start(tmp_path, "raise KeyError('gain')"))
    finish(start(tmp_path, f"{WRITE}; return {{}}"))
    assert record(tmp_path, 1)["outcome"] == "failed"
    assert record(tmp_path, 2)["outcome"] == "ok"


def test_staging_is_used_where_it_fits_and_left_empty(tmp_path):
    where = f"{WRITE}; Path('where').write_text(str(task.output.table)); return {{}}"
    assert finish(start(tmp_path, where, staged={"table": 1000}))[0] == 0
    assert (tmp_path / "where").read_text().startswith(f"{tmp_path}/tmpfs/contimg-")
    assert (tmp_path / "images/a.tab/f").exists()
    assert list((tmp_path / "tmpfs").iterdir()) == []


def test_staging_falls_back_to_disk_and_says_so(tmp_path):
    where = f"{WRITE}; Path('where').write_text(str(task.output.table)); return {{}}"
    code, said = finish(start(tmp_path, where, staged={"table": 10**15}))
    assert code == 0
    assert "using disk" in said
    assert "/tmpfs/" not in (tmp_path / "where").read_text()


def test_threads_are_what_the_workflow_gave(tmp_path):
    finish(start(tmp_path, f"{WRITE}; return {{'threads': os.environ['OMP_NUM_THREADS']}}"))
    assert json.loads((tmp_path / "images/a.json").read_text())["threads"] == "1"


def test_a_step_sees_the_sidecar_that_it_replaces(tmp_path):
    step = f"{WRITE}; return {{'before': task.replaced and task.replaced['before']}}"
    finish(start(tmp_path, step))
    assert json.loads((tmp_path / "images/a.json").read_text())["before"] is None
    (tmp_path / "images/a.json").write_text('{"before": 7}')
    finish(start(tmp_path, step))
    assert json.loads((tmp_path / "images/a.json").read_text())["before"] == 7
    (tmp_path / "images/a.json").write_text("{")
    finish(start(tmp_path, step))
    assert json.loads((tmp_path / "images/a.json").read_text())["before"] is None


def test_limits_are_the_jobs_own_share(tmp_path):
    """A mosaic beside three images has no more threads than Snakemake gave it, an imager no more memory."""
    step = f"{WRITE}; return {{'threads': task.settings.limits.threads, 'mem_mb': task.settings.limits.mem_mb}}"
    finish(start(tmp_path, step))
    sidecar = json.loads((tmp_path / "images/a.json").read_text())
    assert (sidecar["threads"], sidecar["mem_mb"]) == (1, 1500)


def test_a_killed_child_that_waits_for_a_dead_mount_is_not_waited_for():
    """Its job waited for it as long as the mount was dead."""
    child = processes.fork(lambda: time.sleep(60) or 0, session=False)
    try:
        began = time.monotonic()
        assert supervisor.reap(child) == (signal.SIGKILL, {})
        assert time.monotonic() - began < 10
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
