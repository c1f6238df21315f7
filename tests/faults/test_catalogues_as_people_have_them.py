"""Catalogues as people have them: what spreadsheets, editors and copies make of a list, in every reader alike."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest
from sky_lists import sky_of

from contimg.catalogues import calibrator_catalogue, source_table
from contimg.cli import main
from contimg.core import config
from contimg.core.errors import CatalogueError
from contimg.runner.loop import runnable

TABLE = "name,ra_deg,dec_deg,flux_jy,spectral_index\nA,128.7,55.6,8.8,-0.36\nB,133.0,57.4,0.94,-0.7\n"
TAKEN = {
    "tabs": (TABLE.replace(",", "\t").encode(), "A", "B"),
    "tabs, no name": (TABLE.replace("A,", ",").replace(",", "\t").encode(), "L2", "B"),
    "tabs, a comma in a name": (TABLE.replace(",", "\t").replace("A", "A, core").encode(), "A, core", "B"),
    "semicolons": (TABLE.replace(",", ";").encode(), "A", "B"),
    "semicolons and quotes": (TABLE.replace(",", ";").replace("A;", '"A; ""1""";').encode(), 'A; "1"', "B"),
    "UTF-16, as Unicode text": (TABLE.replace(",", "\t").encode("utf-16"), "A", "B"),
    "lines of an old Macintosh": (TABLE.replace("\n", "\r").encode(), "A", "B"),
    "an ellipsis of Windows": (TABLE.replace("A,", "A\x85,").encode("latin-1"), "A\x85", "B"),
    "a form feed": (TABLE.replace("A,", "A\x0cx,").encode(), "A\x0cx", "B"),
    "a form feed, tabs": (TABLE.replace("A,", "A\x0cx,").replace(",", "\t").encode(), "A\x0cx", "B"),
    "rows of blank cells": (f"{TABLE},,,,\n , ,,,\n".encode(), "A", "B"),
    "rows of quoted blank cells": (f'{TABLE}"","","","",""\n'.encode(), "A", "B"),
    "a blank name": (TABLE.replace("A,", " ,").encode(), "L2", "B"),
    "blank names in all rows": (TABLE.replace("A,", ",").replace("B,", ",").encode(), "L2", "L3"),
    "a name twice": (TABLE.replace("B,", "A,").encode(), "A", "A"),
    "names that mean nothing": (TABLE.replace("A,", "nan,").replace("B,", "--,").encode(), "nan", "--"),
    "a comma at the end of each line": (TABLE.replace("\n", ",\n").encode(), "A", "B"),
    "blanks at the ends": (TABLE.replace("\n", " \t\n").encode(), "A", "B"),
    "a quoted # first": (TABLE.replace("A,", '"#1, core",').encode(), "#1, core", "B"),
    "an apostrophe and a backslash": (TABLE.replace("A,", "O'N\\,").encode(), "O'N\\", "B"),
    "no-break spaces": (TABLE.replace("8.8", "8.8\u00a0").encode(), "A", "B"),
}


@pytest.mark.parametrize("case", TAKEN)
@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gz"])
def test_every_reader_takes_it(tmp_path: Path, case: str, *, packed: bool) -> None:
    content, *names = TAKEN[case]
    path = tmp_path / ("list.csv.gz" if packed else "list.csv")
    path.write_bytes(gzip.compress(content) if packed else content)
    np.testing.assert_array_equal(sky_of(path).ra_deg, [128.7, 133.0])
    np.testing.assert_array_equal(sky_of(path).spectral_index, np.float32([-0.36, -0.7]))
    sources = source_table.read_sources(path)
    assert [source.name for source in sources] == names
    assert [source.flux_jy for source in sources] == [8.8, 0.94]
    calibrators = calibrator_catalogue.read(path)
    assert [(one.name, one.dec_deg) for one in calibrators] == [(one.name, one.dec_deg) for one in sources]


REFUSED = {
    "a word for a number": (TABLE.replace("0.94", "faint"), "line 3: flux_jy is 'faint', not a number"),
    "a comma for a point": (
        TABLE.replace(",", ";").replace("8.8", "8,8"),
        "line 2: flux_jy is '8,8', not a number",
    ),
    "behind an ellipsis": (f"# a\x85b\n{TABLE}C,1,2,x,\n", "line 5: flux_jy is 'x', not a number"),
    "behind form feeds": (f"# a\x0cb\x0cc\n\n{TABLE}C,1,2,x,\n", "line 6: flux_jy is 'x', not a number"),
    "behind tabs and comments": (
        f"# a\n{TABLE}# b\n\nC,1,2,x,\n".replace(",", "\t"),
        "line 7: flux_jy is 'x', not a number",
    ),
    "a column twice": (TABLE.replace("name,", "flux_jy,"), "line 1: the column flux_jy is there twice"),
    "behind a line of commas": (f"{TABLE},,,,\nC,400,2,1,\n", "line 5: the position is not on the sky"),
    "no position in a row": (f"{TABLE}C,,,1,\n", "line 4: the position is not on the sky"),
    "other names of columns": (TABLE.replace("ra_deg", "RA"), "line 1: no column ra_deg among name, RA, dec_deg"),
    "too few cells": (TABLE.replace(",-0.7", ""), "line 3: 4 cells under 5 columns"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_every_reader_refuses_it_with_the_line_of_the_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], case: str
) -> None:
    """The settings at the start of a runner, the calibrators, the simulator."""
    text, what = REFUSED[case]
    path = tmp_path / "list.csv"
    path.write_bytes(text.encode("latin-1"))
    for section in ({"sky_catalogue": {"path": str(path)}}, {"calibration": {"catalogues": [str(path)]}}):
        with pytest.raises(CatalogueError, match=rf"list\.csv, {what}") as raised:
            runnable(config.validated({"data_root": str(tmp_path), **section}, {}))
        assert str(raised.value).isprintable()
    assert main(["simulate", str(tmp_path / "incoming"), "--groups", "1", "--before", "0", "--sky", str(path)]) != 0
    said = capsys.readouterr().err.strip()
    assert f"list.csv, {what}" in said
    assert len(said.splitlines()) == 1


def test_the_manual_with_an_ellipsis_of_windows(tmp_path: Path) -> None:
    path = tmp_path / "manual.txt"
    path.write_bytes(b"of 1999\x85 or so\x0c\n\n0834+555   J2000  A 25h34m54.904117s  55d34'21.070980\"  Aug01\n")
    with pytest.raises(CatalogueError, match=r"manual\.txt, line 3: the position is not on the sky"):
        calibrator_catalogue.read(path)
