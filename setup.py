"""The build: the workflow files travel inside the package, so that an installed wheel runs without a checkout."""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

WORKFLOW = ("Snakefile", "rules", "scripts", "config", "profiles", "envs", "report", "deploy")


class BuildPackage(build_py):
    """The package with the workflow files in `contimg/data/workflow`."""

    def run(self) -> None:
        """Build, then add the workflow files; an editable install uses those of the checkout."""
        super().run()
        if self.editable_mode:
            return
        folder = Path(self.build_lib, "contimg", "data", "workflow")
        folder.mkdir(parents=True, exist_ok=True)
        for name in WORKFLOW:
            if Path(name).is_dir():
                shutil.copytree(name, folder / name, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy2(name, folder / name)


setup(cmdclass={"build_py": BuildPackage})
