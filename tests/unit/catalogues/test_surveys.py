"""Surveys as they are given out, imported, indexed and asked for fields."""

from __future__ import annotations

import gzip
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from astropy.table import Table
from sky_lists import sky_of

from contimg.catalogues import sky_catalogue, surveys
from contimg.catalogues.sky_catalogue import ROW, Survey
from contimg.cli import main
from contimg.core.errors import CatalogueError
from contimg.core.sections import SkyCatalogue

RA, DEC, MJY = [128.728767, 343.490616], [55.572520, -16.148211], [8800.5, 12.5]
SEXAGESIMAL = [("08 34 54.904", "+55 34 21.07"), ("22 53 57.748", "-16 08 53.56")]


def tdat(path: Path) -> None:
    """The HEASARC's form: a header, the names in one line, records that end with |; an unknown size is blank."""
    path.write_text(
        "<HEADER>\n#\n# TABLE: heasarc_nvss\n#\ntable_name = heasarc_nvss\n"
        "field[ra] = float8:.4f_degree [meta.ucd;pos.eq.ra;meta.main] (key) // Right Ascension\n"
        "field[dec] = float8:.4f_degree // Declination\nfield[flux_20_cm] = float8:8.1f_mJy // flux\n"
        "parameter_defaults = ra dec flux_20_cm\n"
        "line[1] = ra dec lii flux_20_cm flux_20_cm_error limit_major_axis major_axis field_name\n<DATA>\n"
        + "".join(
            f"{ra}|{dec}|{100 + n}.5|{flux}|0.5|{'<' if n else ''}|{'' if n else 14.5}|C0834P56|\n"
            for n, (ra, dec, flux) in enumerate(zip(RA, DEC, MJY, strict=True))
        )
        + "<END>\n"
    )


def compressed_tdat(path: Path) -> None:
    tdat(path)
    path.write_bytes(gzip.compress(path.read_bytes()))


def vizier(path: Path) -> None:
    """VizieR's TSV: comments, names, units, dashes, then rows."""
    rows = "".join(
        f"{n}\t{ra}\t{dec}\t{flux / 1000}\t0.01\t {'' if n else 14.5}\n"
        for n, ((ra, dec), flux) in enumerate(zip(SEXAGESIMAL, MJY, strict=True))
    )
    path.write_text(
        "#\n#   VizieR Astronomical Server\n#Column S1.4 (F8.1)\n\n"
        "NVSS\tRAJ2000\tDEJ2000\tS1.4\te_S1.4\tMajAxis\n"
        '\t"h:m:s"\t"d:m:s"\tJy\tJy\tarcsec\n---\t---\t---\t---\t---\t---\n' + rows
    )


def csv_of(columns: str, cells: str) -> Callable[[Path], None]:
    """Rows of CSV; `cells` is formatted with ra, dec and flux (mJy)."""

    def write(path: Path) -> None:
        rows = (cells.format(ra=ra, dec=dec, flux=flux) for ra, dec, flux in zip(RA, DEC, MJY, strict=True))
        path.write_text("\n".join([columns, *rows]) + "\n")

    return write


def fits_of(**names: str) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        columns = {"ra": RA, "dec": DEC, "flux": MJY}
        table = Table({names[key]: values for key, values in columns.items()})
        for name in names.get("others", "").split():
            table[name] = [1.5, np.nan]
        table.write(path, format="fits")

    return write


FORMS = {
    "heasarc_nvss.tdat": ("NVSS", tdat),
    "heasarc_nvss.tdat.gz": ("NVSS", compressed_tdat),
    "nvss_vizier.tsv": ("NVSS", vizier),
    "nvss.fits": ("NVSS", fits_of(ra="RAJ2000", dec="DEJ2000", flux="S1_4", others="e_S1_4 MajAxis")),
    "first_14dec17.fits": ("FIRST", fits_of(ra="RA", dec="DEC", flux="FINT", others="FPEAK RMS MAJOR")),
    "AS110_racs_low_sources.csv": (
        "RACS-low",
        csv_of(
            "catalogue_id,source_name,ra,dec,total_flux_source,e_total_flux_source,maj",
            "1,RACS J1,{ra},{dec},{flux},1.0,25.1",
        ),
    ),
    "racs_mid_components.csv": (
        "RACS-mid",
        csv_of("name,field_id,ra,dec,total_flux,e_total_flux,maj_axis", "RACS J1,F1,{ra},{dec},{flux},1.0,"),
    ),
    "VLASS1QLCIR.csv": (
        "VLASS",
        csv_of(
            "Component_name,RA,DEC,Total_flux,E_Total_flux,DC_Maj,Duplicate_flag,Quality_flag",
            "J1,{ra},{dec},{flux},0.1,2.1,0,4\nagain,{ra},{dec},{flux},0.1,2.1,2,0\nbad,{ra},{dec},1,0.1,2.1,0,2",
        ),
    ),
    "TGSSADR1_7sigma_catalog.tsv": (
        "TGSS",
        csv_of(
            "Source_name\tRA\tDEC\tTotal_flux\tE_Total_flux\tMaj\tMosaic_name",
            "T1\t{ra}\t{dec}\t{flux}\t1\t26\tR01",
        ),
    ),
}


@pytest.mark.parametrize("name", FORMS)
def test_a_survey_is_imported_as_it_is_given_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    survey, write = FORMS[name]
    write(tmp_path / name)
    output = tmp_path / "sky.fits"
    assert main(["catalogue", "import", str(tmp_path / name), "--output", str(output)]) == 0
    known = surveys.SURVEYS[survey]
    assert f"2 sources of {survey}, {known.frequency_hz / 1e6:g} MHz" in capsys.readouterr().out
    found = sky_of(output)
    to_1_4 = (1.4e9 / known.frequency_hz) ** -0.7
    np.testing.assert_allclose(found.ra_deg, RA[::-1], atol=1e-5)
    np.testing.assert_allclose(found.dec_deg, DEC[::-1], atol=1e-5)
    np.testing.assert_allclose(found.flux_jy, np.array(MJY[::-1]) / 1000 * to_1_4, rtol=1e-6)
    catalogue = sky_catalogue.load(SkyCatalogue(path=output, min_flux_jy=1e-4))
    assert catalogue is not None
    assert catalogue.survey == known
    assert catalogue.complete_jy == pytest.approx(known.complete_jy * to_1_4)


def test_the_vla_calibrators_are_imported(tmp_path: Path) -> None:
    path = tmp_path / "vla.txt"
    path.write_text(
        "0834+555   J2000  A 08h34m54.904117s  55d34'21.070980\"  Aug01\n"
        " 20cm L  S P P P       8.80                      100   visplot\n"
        "  6cm    C  X S P P       5.60                      100\n"
    )
    rows, survey = surveys.read(path)
    assert survey.name == "VLA calibrators"
    assert rows["NAME"][0] == b"0834+555"
    assert rows["ALPHA"][0] == pytest.approx(np.log(5.6 / 8.8) / np.log(4.86 / 1.4))


@pytest.mark.parametrize(
    ("name", "text", "what"),
    [
        ("t.csv", "alpha,delta,S\n1,2,3\n", r"no survey has these columns: alpha, delta, S \(looked for FIRST"),
        ("t.csv", "FINT,FPEAK,DEC\n1,2,3\n", "FIRST without a column _raj2000 or raj2000 or ra"),
        ("t.csv", "RA,DEC,FINT,FPEAK\n1,2,bright,3\n", "column FINT: .*bright"),
        ("t.csv", "RA,DEC,FINT,FPEAK\n1,2,,3\n", "no row with a position and a flux"),
        ("t.csv", "ra,dec,total_flux_source\n1,2,3\n", "which band of RACS"),
        ("t.csv", "", "it is empty"),
        ("t.fits", "no FITS", "cannot be read as a table"),
        ("t.tdat", "<HEADER>\n", r"no line\[1\]"),
        ("gone.csv", None, "cannot be read"),
    ],
)
def test_what_is_wrong_with_a_table_is_named(tmp_path: Path, name: str, text: str | None, what: str) -> None:
    if text is not None:
        (tmp_path / name).write_text(text)
    with pytest.raises(CatalogueError, match=what) as caught:
        surveys.read(tmp_path / name)
    assert "\n" not in str(caught.value)


@pytest.fixture(scope="module")
def indexed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, np.ndarray]:
    """A catalogue of the whole sky, as dense at the poles and at 0 h as elsewhere."""
    rng = np.random.default_rng(3)
    rows = np.zeros(40_000, ROW)
    rows["RA"], rows["DEC"] = rng.uniform(0, 360, len(rows)), np.degrees(np.arcsin(rng.uniform(-1, 1, len(rows))))
    rows["FLUX"], rows["ALPHA"], rows["MAJOR"] = rng.uniform(0.001, 1, len(rows)), np.nan, np.nan
    path = tmp_path_factory.mktemp("catalogue") / "sky.fits"
    sky_catalogue.write(path, rows, Survey("test", 1.4e9))
    return path, rows


@pytest.mark.parametrize("ra", [0.01, 180.0, 359.9])
@pytest.mark.parametrize("dec", [-90.0, -89.0, -16.3, 0.0, 54.57, 87.5, 90.0])
@pytest.mark.parametrize("radius", [0.05, 2.5, 30.0])
def test_a_query_finds_what_is_near_and_nothing_else(
    indexed: tuple[Path, np.ndarray], ra: float, dec: float, radius: float
) -> None:
    from contimg.telescope.beam import separation

    path, rows = indexed
    catalogue = sky_catalogue.load(SkyCatalogue(path=path, min_flux_jy=0.1))
    assert catalogue is not None
    found = catalogue.near(ra, dec, radius)
    angle = separation(np.radians(ra), np.radians(dec), np.radians(rows["RA"]), np.radians(rows["DEC"]))
    expected = rows[(np.degrees(angle) <= radius) & (rows["FLUX"] >= 0.1)]
    assert sorted(found.ra_deg) == sorted(expected["RA"])


def test_a_query_costs_milliseconds(indexed: tuple[Path, np.ndarray]) -> None:
    path, _ = indexed
    began = time.process_time()
    for _ in range(10):
        catalogue = sky_catalogue.load(SkyCatalogue(path=path))
        assert catalogue is not None
        catalogue.near(128.7, 55.6, 2.5)
    assert (time.process_time() - began) / 10 < 0.05


def test_a_table_that_is_no_index_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "plain.fits"
    Table({"RA": [1.0]}).write(path)
    with pytest.raises(CatalogueError, match=r"not an indexed catalogue .*contimg catalogue import"):
        sky_of(path)
