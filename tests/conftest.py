"""What the tests share: a clean environment, and the command line as a user calls it."""
import os, subprocess, sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
sys.path.append(str(ROOT / "tools"))


@pytest.fixture(autouse=True)
def _own_cache(monkeypatch, tmp_path):
    "No test touches the user's store or cache, and none is shrunken unless it asks for it."
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("IN_TEST", raising=False)


@pytest.fixture
def mlfixes(tmp_path):
    "Calls `mlfixes` with arguments in an empty folder and returns the finished process."
    folder = tmp_path / "work"; folder.mkdir()

    def call(*args, **env):
        return subprocess.run([str(Path(sys.executable).with_name("mlfixes")), *map(str, args)], cwd=folder,
                              capture_output=True, text=True,
                              env={**os.environ, "COLUMNS": "100", **env}, timeout=600)
    call.folder = folder
    return call
