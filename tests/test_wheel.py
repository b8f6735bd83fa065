"""What pip installs works in an empty folder, without the repository."""
import os, subprocess, sys, venv, zipfile
from pathlib import Path

import pytest
from conftest import ROOT


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    "sdist -> wheel, as a release would be built; the build backend is this environment's."
    copy, out = tmp_path_factory.mktemp("source") / "mlfixes", tmp_path_factory.mktemp("dist")
    names = (subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True).stdout.split("\n")
             if (ROOT / ".git").exists() else [])
    if not any(names): pytest.skip("needs a git checkout: it tells which files belong to the project")
    for name in filter(None, names):
        target = copy / name; target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes((ROOT / name).read_bytes())
    done = subprocess.run([sys.executable, "-m", "build", "--no-isolation", "--outdir", str(out), str(copy)],
                          capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return next(out.glob("*.whl"))


def test_wheel_holds_package_reports_and_licence(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    for name in ("mlfixes/py.typed", "mlfixes/bench/study.py", "mlfixes/reports/coreset.ipynb",
                 "mlfixes/reports/__init__.py", "mlfixes/lensing/emulator.npz"): assert name in names
    assert (any(name.endswith("licenses/LICENSE") for name in names)
            and not any(name.startswith(("tests", "nbs", "tools")) for name in names))


def test_wheel_works_in_an_empty_folder(wheel, tmp_path):
    "A new environment with its own interpreter; dependencies are lent from this one, mlfixes is not."
    venv.create(tmp_path / "env", with_pip=False)
    python = tmp_path / "env/bin/python"
    own = Path(subprocess.run([str(python), "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"],
                              capture_output=True, text=True, check=True).stdout.strip())
    subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(own),
                    str(wheel)], check=True, capture_output=True)
    import numpy
    # .pth files of that folder are not read: its editable mlfixes stays out
    (own / "lent.pth").write_text(str(Path(numpy.__file__).parent.parent) + "\n")
    empty = tmp_path / "empty"; empty.mkdir()
    run = lambda *args: subprocess.run([str(python), "-c", "from mlfixes.cli import main; main()", *args],
                                       cwd=empty, capture_output=True, text=True, timeout=600,
                                       env={**os.environ, "IN_TEST": "1", "XDG_CACHE_HOME": str(tmp_path),
                                            "JUPYTER_PATH": str(Path(sys.prefix) / "share/jupyter")})
    where = subprocess.run([str(python), "-c", "import mlfixes; print(mlfixes.__file__)"], cwd=empty,
                           capture_output=True, text=True).stdout
    assert where.startswith(str(own))
    assert run("list").stdout.splitlines()[2].startswith("coreset")
    done = run("report", "coreset")
    assert done.returncode == 0, done.stderr
    assert (empty / done.stdout.strip()).exists()
