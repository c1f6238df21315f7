"""Surveys as they are given out, imported, indexed and asked for fields."""

from __future__ import annotations

import gzip
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
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
DEGREES = list(zip(RA, DEC, strict=True))
SEXAGESIMAL = [("08 34 54.904", "+55 34 21.07"), ("22 53 57.748", "-16 08 53.56")]


NVSS_TDAT = (
    "ra dec lii bii ra_error dec_error flux_20_cm flux_20_cm_error limit_major_axis major_axis major_axis_error"
    " limit_minor_axis minor_axis minor_axis_error position_angle position_angle_error residual_code residual_flux"
    " pol_flux pol_flux_error pol_angle pol_angle_error field_name x_pixel y_pixel"
)
FIRST_TDAT = "name ra dec lii bii prob_sidelobe flux_20_cm int_flux_20_cm rms major_axis minor_axis position_angle"
TGSS_TDAT = "name ra ra_error dec dec_error lii bii int_flux_150_mhz int_flux_150_mhz_error flux_150_mhz major_axis"


def tdat_of(table: str, names: str, flux: str) -> Callable[[Path], None]:
    """The HEASARC's form: a header, the names in one line, records that end with |; what is unknown is blank."""

    def write(path: Path) -> None:
        fields = "".join(f"field[{name}] = float8:.4f [meta.ucd] // {name} \n" for name in names.split())
        records = ""
        for ra, dec, mjy in zip(RA, DEC, MJY, strict=True):
            cells = {"ra": ra, "dec": dec, flux: mjy, "name": "S1", "limit_major_axis": "<", "field_name": "C0834P56"}
            records += "".join(f"{cells.get(name, '')}|" for name in names.split()) + "\n"
        path.write_text(
            f"<HEADER>\n#\n# TABLE: {table}\n# TOTAL ROWS: 2\n#\ntable_name = {table}\n"
            f'table_description = "A catalog"\n#\n# Table Parameters\n#\n{fields}#\n'
            f"parameter_defaults = ra dec {flux}\n#\n# Data Format Specification\n#\nline[1] = {names}\n#\n<DATA>\n"
            f"{records}<END>\n"
        )

    return write


def vizier_of(
    unit: str, names: str, *, places: Sequence[tuple[object, object]] = SEXAGESIMAL, **cells: str
) -> Callable[[Path], None]:
    """VizieR's TSV: comments, names, units, dashes, then rows, whose cells are padded with blanks."""

    def write(path: Path) -> None:
        columns = names.split()
        sexagesimal = places is SEXAGESIMAL
        units = {cells["flux"]: unit, "RAJ2000": '"h:m:s"' if sexagesimal else "deg"}
        units["DEJ2000"] = '"d:m:s"' if sexagesimal else "deg"
        rows = ""
        for (ra, dec), mjy in zip(places, MJY, strict=True):
            flux = mjy / 1000 if unit == "Jy" else mjy
            known = {"RAJ2000": ra, "DEJ2000": dec, cells["flux"]: f"{flux:8}", **cells}
            rows += "\t".join(f" {known[name]} " if name in known else "" for name in columns) + "\n"
        lines = "\t".join(columns), "\t".join(units.get(name, "") for name in columns), "\t".join("-" * len(columns))
        path.write_text(
            "#\n#   VizieR Astronomical Server\n#Column S (F8.1)\n\n" + "\n".join(lines) + "\n" + rows + "\n"
        )

    return write


def compressed(write: Callable[[Path], None]) -> Callable[[Path], None]:
    def written(path: Path) -> None:
        write(path)
        path.write_bytes(gzip.compress(path.read_bytes()))

    return written


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


RACS_LOW = (
    "id,catalogue_id,source_name,source_id,sbid,ra,e_ra,dec,e_dec,total_flux_source,e_total_flux_source_pybdsf,"
    "e_total_flux_source,peak_flux,e_peak_flux,maj_axis,e_maj_axis,dc_maj,noise,s_code"
)
RACS_MID = (
    "id,catalogue_id,name,source_id,field_id,ra,dec,dec_corr,e_ra,e_dec,e_dec_corr,total_flux,e_total_flux_pybdsf,"
    "e_total_flux,peak_flux,e_peak_flux,maj_axis,dc_maj_axis,noise,s_code,flag,sbid"
)
VLASS = (
    "Component_name,RA,DEC,E_RA,E_DEC,Total_flux,E_Total_flux,Peak_flux,Maj,DC_Maj,S_Code,Duplicate_flag,Quality_flag"
)
FORMS = {
    "heasarc_nvss.tdat": ("NVSS", tdat_of("heasarc_nvss", NVSS_TDAT, "flux_20_cm")),
    "heasarc_nvss.tdat.gz": ("NVSS", compressed(tdat_of("heasarc_nvss", NVSS_TDAT, "flux_20_cm"))),
    "heasarc_first.tdat.gz": ("FIRST", compressed(tdat_of("heasarc_first", FIRST_TDAT, "int_flux_20_cm"))),
    "heasarc_gmrtas150m.tdat": ("TGSS", tdat_of("heasarc_gmrtas150m", TGSS_TDAT, "int_flux_150_mhz")),
    "nvss_vizier.tsv": (
        "NVSS",
        vizier_of("Jy", "NVSS RAJ2000 DEJ2000 S1.4 e_S1.4 l_MajAxis MajAxis PA", flux="S1.4", l_MajAxis="<"),
    ),
    "nvss.fits": ("NVSS", fits_of(ra="RAJ2000", dec="DEJ2000", flux="S1_4", others="e_S1_4 MajAxis")),
    "first_14dec17.fits": ("FIRST", fits_of(ra="RA", dec="DEC", flux="FINT", others="SIDEPROB FPEAK RMS MAJOR")),
    "first_vizier.tsv": (
        "FIRST",
        vizier_of("mJy", "FIRST RAJ2000 DEJ2000 p(S) Fpeak Fint Rms Maj Min PA", flux="Fint", FIRST="J0834"),
    ),
    "AS110_Derived_Catalogue_racs_dr1_sources_galacticcut_v2021_08_v02_5725.csv": (
        "RACS-low",
        csv_of(RACS_LOW, "1,1,RACS-DR1 J1,RACS_1A_1,8576,{ra},0.1,{dec},0.1,{flux},1.0,1.1,9,0.2,25.1,0.1,0,0.2,S"),
    ),
    "AS110_Derived_Catalogue_racs_dr1_gaussians_galacticcut_v2021_08_v02_5723.csv": (
        "RACS-low",
        csv_of(
            "gaussian_id,ra,dec,total_flux_gaussian,e_total_flux_gaussian,total_flux_source",
            "G1,{ra},{dec},{flux},1,9e4",
        ),
    ),
    "AS110_Derived_Catalogue_racs_mid_components_v01_15373.csv": (
        "RACS-mid",
        csv_of(RACS_MID, "1,1,RACS J1,S1,F1,{ra},{dec},0,0.1,0.1,0.1,{flux},1.0,1.2,9,0.2,11,,0.2,S,0,1"),
    ),
    "RACS-high_sources.csv": (  # with a byte order mark, as spreadsheets save it
        "RACS-high",
        csv_of("\ufeffRA,Dec,Source_ID,Field_ID,Total_flux", "{ra},{dec},S1,F1,{flux}"),
    ),
    "CIRADA_VLASS2QLv2_table1_components.csv.gz": (
        "VLASS",
        compressed(
            csv_of(
                VLASS,
                "J1,{ra},{dec},0.1,0.1,{flux},0.1,9,2.6,2.1,S,0,4\nagain,{ra},{dec},0.1,0.1,{flux},0.1,9,2.6,2.1,S,2,0\n"
                "bad,{ra},{dec},0.1,0.1,1,0.1,9,2.6,2.1,S,0,2",
            )
        ),
    ),
    "vlass_vizier.tsv": (
        "VLASS",
        vizier_of(
            "mJy",
            "CompName RAJ2000 DEJ2000 Ftot e_Ftot Fpeak DCMaj DupFlag QualFlag MainSample",
            places=DEGREES,
            flux="Ftot",
            DupFlag="0",
            QualFlag="0",
        ),
    ),
    "TGSSADR1_7sigma_catalog.tsv": (
        "TGSS",
        csv_of(
            "Source_name\tRA\tE_RA\tDEC\tE_DEC\tTotal_flux\tE_Total_flux\tPeak_flux\tMaj\tSource_code\tMosaic_name",
            "T1\t{ra}\t1\t{dec}\t1\t{flux}\t1\t9\t26\tS\tR01D18",
        ),
    ),
    "tgss_vizier.tsv": (
        "TGSS",
        vizier_of("mJy", "TGSSADR RAJ2000 DEJ2000 Stotal e_Stotal Speak Maj PA", places=DEGREES, flux="Stotal"),
    ),
}


def test_the_documentation_names_the_columns_that_are_looked_for() -> None:
    text = (Path(__file__).parents[3] / "docs" / "catalogues.md").read_text()
    cells = [cells[4] for line in text.splitlines() if len(cells := line.split("|")) == 6]
    named = {re.sub(r"\W", "_", name).lower() for cell in cells for name in re.findall("`([^`]+)`", cell)}
    marks = {mark for form in surveys.FORMS for mark in form.marks}
    rows = {name for form in surveys.FORMS for name in form.used or ()}
    values = {name for form in surveys.FORMS for name in (*form.flux, *form.error, *form.major, *form.name)}
    assert named - marks - rows - values == {"ra", "dec", "raj2000", "dej2000"} - marks
    assert marks <= named


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


@pytest.mark.parametrize("name", ["csource.mas", "vla.txt", "csource.txt.gz"])
def test_the_vla_calibrators_are_imported(tmp_path: Path, name: str) -> None:
    """Records of the manual's key, with its heading, a B1950 line each, and integers for fluxes."""
    band = "BAND        A B C D    FLUX(Jy)    UVMIN(kL)  UVMAX(kL)\n"
    text = (
        "IAU NAME EQUINOX  PC RA(hh,mm,ss)    DEC(ddd,mm,ss)   POS.REF ALT.NAME\n"
        "0834+555   J2000  A 08h34m54.904117s  55d34'21.070980\"  Aug01\n"
        "0831+557   B1950  A 08h31m04.379400s  55d44'41.329000\"\n"
        f"-----------------------------------------------------\n{band}"
        " 20cm    L  S P P P       8.80                      100   visplot\n"
        "  6cm    C  X S P P       5.60                      100\n\n"
        "0003-174   J2000  T 00h03m21.9969s   -17d27'11.781''\n"
        f"0000-177   B1950  T 00h00m48.4200s   -17d43'54.000''\n{band}"
        " 90cm    P  X S S S          7                        7\n"
        " 20cm    L  X X X S        2.2                        7\n"
    )
    path = tmp_path / name
    path.write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
    rows, survey = surveys.read(path)
    assert survey.name == "VLA calibrators"
    assert rows["NAME"].tolist() == [b"0834+555", b"0003-174"]
    assert rows["DEC"][1] == pytest.approx(-(17 + 27 / 60 + 11.781 / 3600))
    assert rows["ALPHA"][0] == pytest.approx(np.log(5.6 / 8.8) / np.log(4.86 / 1.4))


@pytest.mark.parametrize(
    ("name", "text", "what"),
    [
        (
            "t.csv",
            "alpha,delta,S\n1,2,3\n",
            r"its columns are of no known survey: alpha, delta, S \(looked for FIRST",
        ),
        ("t.csv", "FINT,FPEAK,DEC\n1,2,3\n", "FIRST without a column _raj2000 or raj2000 or ra"),
        ("t.csv", "RA,DEC,FINT,FPEAK\n1,2,bright,3\n", "column FINT: .*bright"),
        ("t.csv", "RA,DEC,FINT,FPEAK\n1,2,,3\n", "no row with a position and a flux"),
        ("t.csv", "ra,dec,total_flux_source\n1,2,3\n", "the band of RACS is not in the file"),
        ("t.csv", "", "it is empty"),
        ("t.fits", "no FITS", "cannot be read as a table"),
        ("t.tdat", "<HEADER>\n", r"no line\[1\]"),
        ("t.csv", "RA_Source,DEC_Source,Total_flux_source\n1,2,3\n", "of no known survey: RA_Source"),
        ("t.csv.gz", "no gzip", "cannot be read"),
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


def test_a_query_reads_its_field_alone(indexed: tuple[Path, np.ndarray]) -> None:
    """Milliseconds whatever the survey's size: its rows are mapped, and those of some zones are read."""

    class Rows(np.memmap):
        read = 0

        def __getitem__(self, key):  # type: ignore[no-untyped-def]
            if self.dtype.names and isinstance(key, slice):
                Rows.read += key.stop - key.start
            return super().__getitem__(key)

    catalogue = sky_catalogue.load(SkyCatalogue(path=indexed[0], min_flux_jy=1e-4))
    assert catalogue is not None
    assert isinstance(catalogue.rows, np.memmap)
    found = replace(catalogue, rows=catalogue.rows.view(Rows)).near(128.7, 55.6, 2.5)
    assert 0 < len(found.ra_deg) <= Rows.read < 4 * len(found.ra_deg)  # of 40,000


def test_a_table_that_is_no_index_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "plain.fits"
    Table({"RA": [1.0]}).write(path)
    with pytest.raises(CatalogueError, match=r"not an indexed catalogue .*contimg catalogue import"):
        sky_of(path)
