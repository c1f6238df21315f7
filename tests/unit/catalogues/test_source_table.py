"""The reader of source lists: catalogues as people have them."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest
from sky_lists import sky_of

from contimg.catalogues import calibrator_catalogue, source_table
from contimg.core.errors import CatalogueError

TABLE = "name,ra_deg,dec_deg,flux_jy,spectral_index\nA,128.7,55.6,8.8,-0.36\nB,133.0,57.4,0.94,-0.7\n"
AS_PEOPLE_HAVE_THEM = {
    "whole": TABLE.encode(),
    "blank spectral index": TABLE.replace(",-0.7\n", ",\n").encode(),
    "nan for unknown": TABLE.replace(",-0.7\n", ", NaN\n").encode(),
    "byte order mark": b"\xef\xbb\xbf" + TABLE.encode(),
    "comment first": b"# made by hand\n  # twice\n" + TABLE.encode(),
    "comment within": TABLE.replace("B,", "# no, not this\n\nB,").encode(),
    "quoted header": TABLE.replace("ra_deg,", '"ra_deg", ').encode(),
    "all quoted": "".join(
        ",".join(f'"{cell}"' for cell in line.split(",")) + "\n" for line in TABLE.splitlines()
    ).encode(),
    "comma in a name": TABLE.replace("A,", '"NGC 1, core",').encode(),
    "# in a name": TABLE.replace("B,", "source #1,").encode(),
    "Latin-1": TABLE.replace("A,", "Sm\u00e5,").encode("latin-1"),
    "UTF-8": TABLE.replace("A,", "Sm\u00e5,").encode(),
    "lines of Windows": TABLE.replace("\n", "\r\n").encode(),
    "no newline at the end": TABLE.rstrip().encode(),
    "other columns": TABLE.replace("name,", "name,note,").replace("A,", "A,x,").replace("B,", "B,,").encode(),
}


@pytest.mark.parametrize("case", AS_PEOPLE_HAVE_THEM)
def test_every_reader_takes_lists_as_people_have_them(tmp_path: Path, case: str) -> None:
    path = tmp_path / "list.csv"
    path.write_bytes(AS_PEOPLE_HAVE_THEM[case])
    sky = sky_of(path)
    np.testing.assert_array_equal(sky.ra_deg, [128.7, 133.0])
    np.testing.assert_array_equal(sky.spectral_index, np.float32([-0.36, -0.7]))
    sources, calibrators = source_table.read_sources(path), calibrator_catalogue.read(path)
    for found in (sources, calibrators):
        assert [source.dec_deg for source in found] == [55.6, 57.4]
        np.testing.assert_allclose([float(source.flux(2.8e9)) for source in found], [8.8 * 2**-0.36, 0.94 * 2**-0.7])
        first = {"comma in a name": "NGC 1, core", "Latin-1": "Sm\u00e5", "UTF-8": "Sm\u00e5"}.get(case, "A")
        assert [source.name for source in found] == [first, "source #1" if case == "# in a name" else "B"]


def test_names_made_of_digits_keep_their_zeros(tmp_path: Path) -> None:
    path = tmp_path / "list.csv"
    path.write_text("name,ra_deg,dec_deg,flux_jy\n0834,1,2,3\n,4,5,6\n")
    assert [source.name for source in source_table.read_sources(path)] == ["0834", "L3"]


def test_a_row_without_a_flux_is_left_out_and_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "list.csv"
    path.write_text("# c\nname,ra_deg,dec_deg,flux_jy\nA,1,2,\nB,4,5,6\nC,4,5,nan\n")
    caplog.set_level(logging.WARNING)
    assert sky_of(path).flux_jy.tolist() == [6]
    assert "2 rows without a flux_jy are left out, line 3 first" in caplog.text


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("ra,dec,flux_jy\n1,2,3\n", "line 1: no column ra_deg, dec_deg among ra, dec, flux_jy"),
        ("#\n\nra_deg,dec_deg,flux_jy\n1,2,3\n#\n1,2,x\n", "line 6: flux_jy is 'x', not a number"),
        ("ra_deg,dec_deg,flux_jy\n1,2,3\n\n12h30m,2,3\n", "line 4: ra_deg is '12h30m', not a number"),
        ('ra_deg,dec_deg,flux_jy,name\n1,2,3,"a, b",c\n', "line 2: 5 cells under 4 columns"),
        ('ra_deg,dec_deg,flux_jy,name\n1,2,3,"a\n1,2,3,b\n', "line 2: a quotation mark is not closed"),
        ("ra_deg,dec_deg,flux_jy\n1,,3\n", "line 2: the position is not on the sky"),
    ],
)
def test_an_error_names_the_line_of_the_file(tmp_path: Path, text: str, what: str) -> None:
    path = tmp_path / "list.csv"
    path.write_text(text)
    for read in (sky_of, source_table.read_sources):
        with pytest.raises(CatalogueError, match=rf"list\.csv.*({what})") as caught:
            read(path)
        assert "\n" not in str(caught.value)
