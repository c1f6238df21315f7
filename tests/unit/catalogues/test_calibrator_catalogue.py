"""The calibrators' catalogue: readers of both forms, flux models, and which of two entries stays."""

from __future__ import annotations

import logging
import re
from pathlib import Path

import numpy as np
import pytest

from contimg.catalogues import calibrator_catalogue, vla_manual
from contimg.catalogues.calibrator import Calibrator, FluxModel
from contimg.catalogues.calibrator_catalogue import read
from contimg.core.errors import CatalogueError
from contimg.core.sections import Calibration

MANUAL = """\
IAU NAME EQUINOX  PC RA(hh,mm,ss)    DEC(ddd,mm,ss)   POS.REF ALT.NAME
===================================================================

0834+555   J2000  A 08h34m54.904117s  55d34'21.070980"  Aug01
0831+557   B1950  A 08h31m04.379700s  55d44'41.323000"
-----------------------------------------------------
BAND        A B C D    FLUX(Jy)    UVMIN(kL)  UVMAX(kL)
=====================================================
 90cm    P  S S S S          9
 20cm L  S P P P       8.80                      100   visplot
  6cm    C  X S P P       5.60                      100

0001-060   J2000  B 00h01m02.5000s   -06d30'36.000''
-----------------------------------------------------
BAND        A B C D    FLUX(Jy)    UVMIN(kL)  UVMAX(kL)
=====================================================
 20cm    L  X X S P        3.0                        7

0002+100   J2000  C 00h02m00.0000s    10d00'00.000"     Jan97  3C999
-----------------------------------------------------
BAND        A B C D    FLUX(Jy)    UVMIN(kL)  UVMAX(kL)
=====================================================
 20cm L  P P S s       1.31             6         visplot
3.7cm X  X X ? ?       0.40                       visplot

0003+100   J2000  A 00h03m00.0000s    10d00'00.000"
-----------------------------------------------------
BAND        A B C D    FLUX(Jy)    UVMIN(kL)  UVMAX(kL)
=====================================================
0.7cm    Q  W W W W       0.18

0004+100   J2000  A 00h04m00.0000s    10d00'00.000"
-----------------------------------------------------
BAND        A B C D    FLUX(Jy)    UVMIN(kL)  UVMAX(kL)
=====================================================
 20cm    L  X X X X       0.00

0005+100   J2000  A 00h05m00.0000s    10d00'00.000"
-----------------------------------------------------

0017+815   J2000  A 00h17m08.474953s  81d35'08.136330"  Aug01  CJ2
-----------------------------------------------------
BAND        A B C D    FLUX(Jy)    UVMIN(kL)  UVMAX(kL)
=====================================================
 20cm    L  S S S C       0.70             6         visplot
"""


@pytest.fixture
def manual(tmp_path: Path) -> Path:
    path = tmp_path / "manual.txt"
    path.write_text(MANUAL)
    return path


def _csv(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "own.csv"
    path.write_text(text)
    return path


def _options(*lists: Path) -> Calibration:
    return Calibration(catalogues=lists)


def _by_name(sources: list[Calibrator]) -> dict[str, Calibrator]:
    return {source.name: source for source in sources}


def test_manual_keeps_what_has_an_l_band_flux(manual: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        found = _by_name(vla_manual.read(manual))
    assert list(found) == ["0834+555", "0001-060", "0002+100", "0017+815"]
    assert "4 sources with a flux at 20 cm; 3 without" in caplog.text
    bright = found["0834+555"]
    assert bright.ra_deg == pytest.approx(15 * (8 + 34 / 60 + 54.904117 / 3600), abs=1e-9)
    assert bright.dec_deg == pytest.approx(55 + 34 / 60 + 21.07098 / 3600, abs=1e-9)
    assert found["0001-060"].dec_deg == pytest.approx(-(6 + 30 / 60 + 36 / 3600), abs=1e-9)
    assert bright.flux_jy == pytest.approx(8.80)
    assert bright.flux(4.86e9) == pytest.approx(5.60)
    assert found["0002+100"].flux(8.4e9) == pytest.approx(0.40)
    assert found["0001-060"].flux(2.8e9) == pytest.approx(3.0 * 2**-0.7)


def test_manual_tells_compact_from_extended(manual: Path) -> None:
    compact = {name: source.compact for name, source in _by_name(vla_manual.read(manual)).items()}
    # UVMAX 100; UVMAX 7, under the array's 12 kilo-wavelengths; a lone 6 under UVMIN is no UVMAX; the code C occurs.
    assert compact == {"0834+555": True, "0001-060": False, "0002+100": True, "0017+815": True}


@pytest.mark.parametrize(
    ("old", "new", "line", "what"),
    [
        ("08h34m54.904117s", "08x34m54.904117s", 4, "no position"),
        ("08h34m54.904117s", "25h34m54.904117s", 4, "not on the sky"),
        ("55d34'21.070980\"", "95d34'21.070980\"", 4, "not on the sky"),
        ("20cm L  S P P P", "20cm L  S P P", 10, "no codes"),
        ("IAU NAME", " 20cm L  S P P P       8.80\nIAU NAME", 1, "before the first source"),
    ],
)
def test_manual_error_names_file_and_line(manual: Path, old: str, new: str, line: int, what: str) -> None:
    manual.write_text(MANUAL.replace(old, new))
    with pytest.raises(CatalogueError, match=rf"manual\.txt, line {line}: .*{what}") as caught:
        read(manual)
    assert "\n" not in str(caught.value)


def test_text_without_a_record_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "list.txt"
    path.write_text("name,ra_deg,dec_deg,flux_jy\nA,1,2,3\n")
    with pytest.raises(CatalogueError, match=r"list\.txt: holds no record"):
        read(path)


def test_missing_file_is_a_catalogue_error(tmp_path: Path) -> None:
    with pytest.raises(CatalogueError, match=r"gone\.csv: cannot be read"):
        calibrator_catalogue.load(_options(tmp_path / "gone.csv"))


def test_csv_defaults_and_skips(tmp_path: Path) -> None:
    path = _csv(
        tmp_path,
        "# mine\nname, ra_deg, dec_deg, flux_jy, spectral_index, compact, note\n"
        "A,10,20,2.5,-0.3,,x\n\nB,11,-20,1.5,,no,\nno flux,12,20,,,,\nzero,13,20,0,,,\n",
    )
    first, second = read(path)
    assert (first.name, first.flux_jy, first.compact) == ("A", pytest.approx(2.5), True)
    assert first.flux(2.8e9) == pytest.approx(2.5 * 2**-0.3)
    assert (second.dec_deg, second.compact) == (-20, False)
    assert second.flux(2.8e9) == pytest.approx(1.5 * 2**-0.7)


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("name,ra_deg,dec_deg\nA,1,2\n", r"line 1: no column flux_jy"),
        ("name,ra_deg,dec_deg,flux_jy\nA,1,2,bright\n", r"line 2: flux_jy is 'bright', not a number"),
        ("name,ra_deg,dec_deg,flux_jy\nA,1,2,inf\n", r"line 2: flux_jy is infinite"),
        ("name,ra_deg,dec_deg,flux_jy\n#\nA,,2,1\n", r"line 3: the position is not on the sky"),
        ("name,ra_deg,dec_deg,flux_jy\nA,360,2,1\n", r"line 2: the position is not on the sky"),
        ("name,ra_deg,dec_deg,flux_jy\nA,1,2,-1\n", r"line 2: flux_jy is negative"),
        ("name,ra_deg,dec_deg,flux_jy\nA,1,2\n", r"line 2: 3 cells under 4 columns"),
        ("name,ra_deg,dec_deg,flux_jy,compact\nA,1,2,3,maybe\n", r"line 2: compact is 'maybe'"),
        ("", r"own\.csv: is empty"),
    ],
)
def test_csv_error_names_file_and_line(tmp_path: Path, text: str, what: str) -> None:
    with pytest.raises(CatalogueError, match=what):
        read(_csv(tmp_path, text))


def test_flux_model_survives_json() -> None:
    model = FluxModel.power_law(8.8, -0.36, "somewhere")
    assert FluxModel.from_json(model.to_json()) == model
    np.testing.assert_allclose(model.flux(np.array([1.4e9, 2.8e9])), [8.8, 8.8 * 2**-0.36])


def test_standards_and_table_are_there(tmp_path: Path) -> None:
    found = _by_name(calibrator_catalogue.load(_options()))
    assert found["J0834+5534"].flux_jy == pytest.approx(8.8)
    # Perley & Butler (2017) at 1.4 GHz, in Jy.
    assert found["3C286"].flux_jy == pytest.approx(15.0, rel=0.01)
    assert found["3C147"].flux_jy == pytest.approx(22.0, rel=0.02)
    compact = {source.name for source in calibrator_catalogue.load_standards() if source.compact}
    assert compact == {"3C48", "3C138", "3C147", "3C286"}
    for declination in (16.27, 50.5, 54.57, 65.7):
        assert any(s.compact and abs(s.dec_deg - declination) < 1.5 for s in found.values())


def _standards_of_casadata() -> dict[str, tuple[float, float, list[float]]]:
    """Right ascension and declination (deg) and last epoch's coefficients, by the name that casadata uses."""
    from contimg.visibilities import casa

    folder = casa.data_path() / "nrao/VLA/standards"
    table = casa.tools().table()
    table.open(str(folder / "PerleyButler2017Coeffs"))
    columns = [name.removesuffix("_coeffs") for name in table.colnames() if name.endswith("_coeffs")]
    coefficients = {name: table.getcell(f"{name}_coeffs", table.nrows() - 1).tolist() for name in columns}
    table.close()
    table.open(str(folder / "fluxcalibrator.data"))
    rows = zip(table.getcol("Name"), table.getcol("RA_J2000"), table.getcol("Dec_J2000"), strict=True)
    positions = {str(name): (float(np.degrees(ra)) % 360, float(np.degrees(dec))) for name, ra, dec in rows}
    table.close()
    positions["J0133-3629"] = positions["0133-3629"]
    return {name: (*positions[name], values) for name, values in coefficients.items()}


def test_standards_are_those_of_casadata(in_process) -> None:  # type: ignore[no-untyped-def]
    theirs = in_process(_standards_of_casadata)
    ours = {re.sub(" ", "_", source.name).upper(): source for source in calibrator_catalogue.load_standards()}
    assert set(ours) == set(theirs)
    for name, (ra, dec, coefficients) in theirs.items():
        np.testing.assert_allclose(ours[name].flux_model.coefficients, coefficients, atol=1e-6)
        assert abs(ours[name].dec_deg - dec) * 3600 < 0.5
        assert abs(ours[name].ra_deg - ra) * 3600 * np.cos(np.radians(dec)) < 0.5


def test_which_of_two_entries_stays(tmp_path: Path, manual: Path) -> None:
    standard_again = (
        "\n0542+498   J2000  A 05h42m36.137916s  49d51'07.233560\"  Aug01  3C147\n"
        " 20cm    L  P P P P       99.0\n"
        "\n1958+407   J2000  T 19h59m30.0000s    40d44'02.000\"            CygA\n"
        " 20cm    L  X X X X       99.0\n"
    )
    manual.write_text(MANUAL.replace("8.80", "8.00") + standard_again)
    both = calibrator_catalogue.load(_options(manual))
    found = _by_name(both)
    # The manual's text wins over our table, not over a flux standard, an extended one (Cygnus A) included.
    assert found["0834+555"].flux_jy == pytest.approx(8.0)
    assert not {"J0834+5534", "0542+498", "1958+407"} & set(found)
    assert found["3C147"].flux_jy < 25
    own = _csv(tmp_path, "name,ra_deg,dec_deg,flux_jy\nmine,85.65057,49.85201,21.0\n")
    found = _by_name(calibrator_catalogue.load(_options(manual, own)))
    assert "3C147" not in found
    assert found["mine"].flux_jy == pytest.approx(21.0)


def test_sources_across_the_wrap_are_one() -> None:
    def at(name: str, ra_deg: float, dec_deg: float) -> Calibrator:
        return Calibrator(name, ra_deg, dec_deg, FluxModel.power_law(1.0, 0.0, "test"))

    near = [at("a", 359.9999, 10.0), at("b", 0.0001, 10.0), at("c", 0.01, 10.0)]
    assert [source.name for source in calibrator_catalogue.merge([near])] == ["c", "a"]
    pole = [at("d", 10.0, 89.9999), at("e", 190.0, 89.9999)]
    assert [source.name for source in calibrator_catalogue.merge([pole])] == ["d"]
    assert calibrator_catalogue.merge([[], []]) == []


def test_examples_in_the_documentation_are_read(tmp_path: Path) -> None:
    page = (Path(__file__).parents[3] / "docs/calibrators.md").read_text()
    blocks = dict(re.findall(r"```(csv|text)\n(.*?)```", page, re.DOTALL))
    own = read(_csv(tmp_path, blocks["csv"]))
    assert [source.name for source in own] == ["J0834+5534", "J2253+1608"]
    text = tmp_path / "manual.txt"
    text.write_text(blocks["text"])
    [bright] = read(text)
    assert bright.name == "0834+555"
    assert bright.flux(4.86e9) == pytest.approx(own[0].flux(4.86e9), rel=0.01)
    assert len(calibrator_catalogue.merge([[bright], own])) == 2
