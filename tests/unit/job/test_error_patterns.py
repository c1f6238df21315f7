"""Words of the tools, and the errors that they mean."""

from __future__ import annotations

import pytest

from contimg.job.error_patterns import recognized


@pytest.mark.parametrize(
    ("text", "error_class", "blame"),
    [
        ("OSError: [Errno 28] No space left on device: 'x.ms'", "disk_full", "machine"),
        ("can't write data (file write failed: errno = 122, error message = '')", "disk_full", "machine"),
        ("SEVERE  RegularFileIO: error in write for file MAIN/table.f3", "disk_full", "machine"),
        ("Error writing to file /data/x-psf.fits", "disk_full", "machine"),
        ('KeyError: "Can\'t open object (file read failed: errno = 5, error message = ...)"', "io_error", "machine"),
        ("RuntimeError: Unable to read (errno = 116, error message = 'Stale file handle')", "io_error", "machine"),
        ("terminate called after throwing an instance of 'std::bad_alloc'", "memory_error", "machine"),
        ("numpy: Unable to allocate 3.2 GiB for an array", "memory_error", "machine"),
        ("table.open: process is waiting to acquire a read lock on file x.ms/table.lock", "casa_timeout", "machine"),
        ("+ >>> Unknown parameter: use-wgridder", "tool_failed", "workflow"),
        ("wsclean: symbol lookup error: wsclean: undefined symbol: _ZN7casacore", "tool_failed", "workflow"),
        ("Unable to synchronously open file (truncated file: eof = 96)", "corrupt_input", "file"),
        ("The beam is neither fitted nor estimated", "corrupt_input", "group"),
    ],
)
def test_a_tools_words_tell_the_error(text: str, error_class: str, blame: str) -> None:
    found = recognized(f"an ordinary line\n{text}\nanother")
    assert found is not None
    error = found.as_error("x.ms", "it")
    assert (error.error_class, error.blame) == (error_class, blame)
    assert str(error).startswith("x.ms: it says that ")


def test_a_missing_library_is_named() -> None:
    found = recognized(
        "wsclean: error while loading shared libraries: libcasa_ms.so.7: cannot open shared object file"
    )
    assert found is not None
    assert "libcasa_ms.so.7" in found.meaning


def test_words_that_nobody_knows_mean_nothing() -> None:
    assert recognized("something that nobody has seen before\nInvalid argument") is None


def test_a_routine_line_of_a_log_makes_nothing_permanent() -> None:
    """CASA prints it for every interval without data, whatever goes wrong later."""
    routine = "2026-01-12 INFO  Insufficient unflagged antennas to proceed with this solve\n"
    assert recognized(routine * 20, passing=True) is None
    found = recognized(routine * 20 + "SEVERE  process is waiting to acquire a lock", passing=True)
    assert found is not None
    assert found.pattern.error.error_class == "casa_timeout"
