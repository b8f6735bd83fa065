"""Packaging: all is read from settings.ini; `reports/` travels as the package data of `mlfixes.reports`."""
from configparser import ConfigParser
from pathlib import Path

from setuptools import find_packages, setup

here = Path(__file__).parent
parser = ConfigParser(delimiters=["="])
parser.read(here / "settings.ini", encoding="utf-8")
cfg = parser["DEFAULT"]

extras = {key.removesuffix("_requirements"): cfg[key].split() for key in cfg if key.endswith("_requirements")}
families = [f"{name} = mlfixes.{name}.task:task" for name in cfg["families"].split()]
checks = [f"{name} = mlfixes.{name}.checks" for name in cfg["families"].split()
          if (here / f"mlfixes/{name}/checks.py").exists()]

setup(
    name=cfg["lib_name"], version=cfg["version"], description=cfg["description"], keywords=cfg["keywords"],
    author=cfg["author"], author_email=cfg["author_email"], url=cfg["git_url"],
    license="Apache-2.0", license_files=["LICENSE"],
    long_description=(here / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    packages=[*find_packages(include=["mlfixes", "mlfixes.*"]), "mlfixes.reports"],
    package_dir={"mlfixes.reports": "reports"},
    package_data={"mlfixes": ["py.typed", "lensing/*.npz"], "mlfixes.reports": ["*.ipynb", "recorded/*/*"]},
    python_requires=f">={cfg['min_python']}", install_requires=cfg["requirements"].split(),
    extras_require=extras,
    entry_points={"console_scripts": ["mlfixes = mlfixes.cli:main"],
                  "mlfixes.families": families, "mlfixes.checks": checks},
    classifiers=["Development Status :: 3 - Alpha", "Intended Audience :: Science/Research",
                 "Operating System :: POSIX :: Linux", "Operating System :: MacOS",
                 "Programming Language :: Python :: 3",
                 *(f"Programming Language :: Python :: 3.{v}" for v in (11, 12, 13)),
                 "Topic :: Scientific/Engineering :: Artificial Intelligence", "Typing :: Typed"],
    zip_safe=False,
)
