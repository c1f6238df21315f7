"""Averaging and reading at the same time."""

from __future__ import annotations

from threading import Event

import pytest

from contimg.visibilities.averaging import while_reading

LIMIT_S = 60


def test_the_next_part_is_read_while_one_is_averaged() -> None:
    begun, read = Event(), Event()

    def parts():
        yield 0, "first"
        assert begun.wait(LIMIT_S)
        read.set()
        yield 1, "second"

    def work(first, part):
        begun.set()
        assert read.wait(LIMIT_S)
        return first, part

    assert list(while_reading(work, parts())) == [(0, "first"), (1, "second")]


def test_an_error_of_the_work_ends_it() -> None:
    def work(first, part):
        raise ValueError(part)

    with pytest.raises(ValueError, match="first"):
        list(while_reading(work, [(0, "first"), (1, "second")]))
