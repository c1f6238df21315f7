"""Bundles: what comes out is what went in, or it is told."""

import io
import json
import os
import shutil
import subprocess
import tarfile

import pytest
import zstandard
from synthetic_root import tree

from contimg.core.errors import BundleError
from contimg.storage import bundle
from contimg.storage.inventory import Inventory, checksummed, listing


@pytest.fixture
def files_root(tmp_path):
    root = tmp_path / "files"
    (root / "a.ms" / "deep" / "er").mkdir(parents=True)
    (root / "a.ms" / "hollow").mkdir()
    (root / "a.ms" / "table.dat").write_bytes(os.urandom(70_000))
    (root / "a.ms" / "deep" / "er" / "name with ü and blank").write_text("x" * 100_000)
    (root / "a.ms" / ".snakemake_timestamp").touch()
    for each in root.rglob("*"):
        os.utime(each, ns=(1_700_000_000_123_456_789, 1_700_000_000_123_456_789))
    return root


def bundled(root):
    contents = Inventory({"kind": "ms"}, checksummed(root, listing(root, [root / "a.ms"])))
    stream = io.BytesIO()
    bundle.write(stream, root, contents)
    return stream.getvalue()


class TestBundle:
    def test_unpacks_to_the_same_names_data_times_and_modes(self, files_root, tmp_path):
        (files_root / "a.ms" / "table.dat").chmod(0o640)
        data = bundled(files_root)
        bundle.extract(io.BytesIO(data), tmp_path / "out")
        assert tree(tmp_path / "out" / "a.ms") == tree(files_root / "a.ms")
        for each in (files_root / "a.ms", *(files_root / "a.ms").rglob("*")):
            copy = tmp_path / "out" / each.relative_to(files_root)
            assert copy.stat().st_mtime_ns == each.stat().st_mtime_ns
            assert copy.stat().st_mode == each.stat().st_mode

    def test_can_be_unpacked_by_hand(self, files_root, tmp_path):
        (tmp_path / "b.tar.zst").write_bytes(bundled(files_root))
        (tmp_path / "hand").mkdir()
        command = f"zstd -dc {tmp_path}/b.tar.zst | tar -x -C {tmp_path}/hand --strip-components=1 data"
        if shutil.which("zstd") is None:
            pytest.skip("zstd is not installed")
        subprocess.run(["bash", "-c", command], check=True)
        here, there = tree(tmp_path / "hand" / "a.ms"), tree(files_root / "a.ms")
        assert {name: each and each[0] for name, each in here.items()} == {
            name: each and each[0] for name, each in there.items()
        }

    def test_any_flipped_byte_is_found(self, files_root):
        data = bundled(files_root)
        for position in range(0, len(data), max(1, len(data) // 60)):
            broken = bytearray(data)
            broken[position] ^= 0x55
            with pytest.raises(BundleError):
                bundle.verify(io.BytesIO(broken))

    def test_any_cut_is_found(self, files_root):
        data = bundled(files_root)
        for length in (0, 1, 100, len(data) // 2, len(data) - 200):
            with pytest.raises(BundleError):
                bundle.verify(io.BytesIO(data[:length]))

    @pytest.mark.parametrize("name", ["../out", "/etc/passwd", "a/../../out", ".", "a//b", ""])
    def test_names_that_lead_out_are_refused(self, tmp_path, name):
        entry = {"path": name, "directory": False, "size": 1, "mtime_ns": 0, "mode": 0o600, "sha256": "0"}
        listed = json.dumps({"about": {}, "entries": [entry]}).encode()
        stream = io.BytesIO()
        with tarfile.open(fileobj=stream, mode="w|") as tar:
            for member_name, data in (("contents.json", listed), (f"data/{name}", b"x")):
                member = tarfile.TarInfo(member_name)
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))
        with pytest.raises(BundleError, match="leads out"):
            bundle.extract(io.BytesIO(zstandard.compress(stream.getvalue())), tmp_path / "deep" / "target")
        assert not (tmp_path / "out").exists()

    def test_a_file_that_changes_while_it_is_written_makes_a_bundle_that_does_not_verify(self, files_root):
        contents = Inventory({}, checksummed(files_root, listing(files_root, [files_root / "a.ms"])))
        (files_root / "a.ms" / "table.dat").write_bytes(os.urandom(70_000))
        stream = io.BytesIO()
        bundle.write(stream, files_root, contents)
        with pytest.raises(BundleError, match=r"table\.dat differs from its checksum"):
            bundle.verify(io.BytesIO(stream.getvalue()))
