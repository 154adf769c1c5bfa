"""Puts into the wheel what `embed-pipeline new` writes and the repository keeps elsewhere."""

from pathlib import Path
from shutil import copyfile

from setuptools import setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).parent
SHIPPED = ("workspace.yaml", "dagster.yaml", "data/recipes/*.yaml", "data/faq_en/dataset.yaml", "data/faq_en/*.csv")


class BuildWithShippedFiles(build_py):
    """The modules, and copies of the shipped files in embed_pipeline/project/shipped."""

    def run(self) -> None:
        super().run()
        if self.editable_mode:
            return  # the checkout's own files are read
        for pattern in SHIPPED:
            paths = sorted(ROOT.glob(pattern))
            if not paths:
                raise FileNotFoundError(
                    f"{ROOT / pattern}: expected the shipped files, found none. Build from a checkout."
                )
            for path in paths:
                target = Path(self.build_lib) / "embed_pipeline/project/shipped" / path.relative_to(ROOT)
                target.parent.mkdir(parents=True, exist_ok=True)
                copyfile(path, target)


setup(cmdclass={"build_py": BuildWithShippedFiles})
