"""What a clusterer must be: scikit-learn's idea of one, unharmed by kill -9, and clear about bad input."""
import json, os, subprocess, sys, time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings, strategies as st
from safetensors import safe_open
from scipy.sparse import csr_array
from sklearn.utils.estimator_checks import check_estimator

from mlfixes.temi.clusterer import TEMI

SMALL = dict(n_heads=2, epochs=2, random_state=0)
EPOCHS = 40
FIT = """
import json, sys
from mlfixes.temi.clusterer import TEMI, Trainer
from mlfixes.temi.data import digits
epoch, done = Trainer.epoch, []
Trainer.epoch = lambda trainer: done.append(0) or epoch(trainer)
def fit(folder):
    done.clear()
    model = TEMI(10, n_heads=4, epochs=int(sys.argv[2]), checkpoints=folder, random_state=0).fit(X)
    return dict(epochs=len(done), labels=model.labels_.tolist(), p=model.predict_proba(X).tolist(),
                history=model.history_.values.tolist())
X = digits(0, 800).X
print(json.dumps([fit(sys.argv[1]), fit(sys.argv[1]), fit(None)]))   # goes on; is done; never stopped
"""


def cloud(n=60, d=5, seed=0): return np.random.default_rng(seed).normal(size=(n, d))


# scikit-learn's checks

@pytest.mark.parametrize("options", [{}, dict(answer="lowest loss", pairs="all", start="k-means")],
                         ids=["usual", "other"])
def test_every_check_of_scikit_learn(options):
    "None is expected to fail."
    with np.errstate(all="ignore"):
        results = check_estimator(TEMI(**SMALL | options), on_fail=None, on_skip=None)
    outcome = {result["check_name"]: (result["status"], result["exception"]) for result in results}
    assert len(outcome) > 40
    assert {name: why for name, why in outcome.items() if why[0] != "passed"
            and name != "check_array_api_input"} == {}   # skipped: only NumPy arrays are promised


# killed and resumed

def fit(folder):
    return subprocess.Popen([sys.executable, "-c", FIT, str(folder), str(EPOCHS)], text=True,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                            env={**os.environ, "OMP_NUM_THREADS": "1"})


def epochs_in(folder) -> int:
    latest = Path(folder, "latest.safetensors")
    if not latest.exists(): return 0
    with safe_open(latest, "np") as file: return json.loads(file.metadata()["mlfixes"])["done"]


def killed(process, folder, epoch):
    "Kills a fit once an epoch is on disk; returns how many are."
    end = time.monotonic() + 120
    while epochs_in(folder) < epoch:
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < end, f"gave up waiting for epoch {epoch}"
        time.sleep(.01)
    process.kill(); process.communicate()
    return epochs_in(folder)


def test_killed_fit_goes_on_to_the_same_bits(tmp_path):
    first = killed(fit(tmp_path), tmp_path, 3)
    second = killed(fit(tmp_path), tmp_path, first + 5)
    assert 3 <= first < second < EPOCHS
    out, err = (process := fit(tmp_path)).communicate(timeout=300)
    assert process.returncode == 0, err
    resumed, again, calm = json.loads(out)
    assert [run.pop("epochs") for run in (resumed, again, calm)] == [EPOCHS - second, 0, EPOCHS]
    assert resumed == calm and again == calm


# a saved model

def test_saved_model_predicts_without_torch(tmp_path):
    model = TEMI(4, **SMALL).fit(cloud())
    model.save(tmp_path / "model.safetensors")
    np.save(tmp_path / "new.npy", cloud(30, seed=1))
    code = ("import sys, numpy as np; from mlfixes.temi.clusterer import TEMI;"
            "model = TEMI.load(sys.argv[1]); print(model.predict(np.load(sys.argv[2])).tolist());"
            "assert 'torch' not in sys.modules")
    done = subprocess.run([sys.executable, "-c", code, tmp_path / "model.safetensors", tmp_path / "new.npy"],
                          capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == model.predict(cloud(30, seed=1)).tolist()


def test_no_cut_file_is_read(tmp_path):
    path = TEMI(4, **SMALL).fit(cloud()).save(tmp_path / "model.safetensors")
    whole = path.read_bytes()
    for size in (0, 4, 8, 100, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:size])
        with pytest.raises(ValueError, match="no whole saved model"): TEMI.load(path)
    with pytest.raises(FileNotFoundError): TEMI.load(tmp_path / "nowhere")


# what comes in

@settings(deadline=None, max_examples=40, derandomize=True)
@given(st.integers(0, 10**6), st.integers(4, 40), st.integers(2, 5), st.floats(0, 1), st.booleans(),
       st.booleans())
def test_labels_are_what_is_predicted(seed, n, d, share, copies, alone):
    "Whatever the data: labels from 0 without a gap, by size, and the same for an item alone."
    X, n_clusters = cloud(n, d, seed), 1 + int(share * (n - 2))
    if copies: X = X[np.random.default_rng(seed).integers(0, n // 3 + 1, n)]
    X[:2, :2] = 7 * np.eye(2)     # not all the same
    model = TEMI(n_clusters, **SMALL).fit(X)
    sizes = np.bincount(model.labels_)
    assert model.labels_.shape == (n,) and (np.diff(sizes) <= 0).all() and sizes[-1] > 0
    assert len(sizes) == model.used_clusters_ <= n_clusters
    found = np.concatenate([model.predict(x[None]) for x in X]) if alone else model.predict(X)
    np.testing.assert_array_equal(found, model.labels_)
    p = model.predict_proba(X)
    assert p.shape == (n, n_clusters) and (abs(p.sum(1) - 1) < 1e-5).all()


@pytest.mark.parametrize("X, what", [
    (csr_array(cloud()), "[Ss]parse"), (cloud().astype(complex), "[Cc]omplex"), (cloud()[None], "dim 3"),
    (np.full((9, 2), "a"), "could not convert"), (cloud().tolist()[:1], "1 sample"),
    (cloud()[:0], "0 sample"),
    (np.where(cloud() > 2, np.inf, cloud()), "infinite values, row"), (1e300 * cloud(), "infinite values"),
    (cloud()[:2], "2 sample"), (cloud()[:4], "n_clusters=4 for 4 items"), (0 * cloud(), "are equal")])
def test_bad_embeddings_are_refused(X, what):
    with np.errstate(over="ignore"), pytest.raises((ValueError, TypeError), match=what):
        TEMI(4, **SMALL).fit(X)


def test_columns_have_names():
    frame = pd.DataFrame(cloud(), columns=list("abcde"))
    model = TEMI(4, **SMALL).fit(frame)
    assert list(model.feature_names_in_) == list("abcde")
    np.testing.assert_array_equal(model.predict(frame), model.labels_)
    with pytest.raises(ValueError, match="feature names should match"): model.predict(frame[list("edcba")])
    with pytest.warns(UserWarning, match="valid feature names"): model.predict(cloud())


def test_bar_is_shown_on_demand_on_stderr(capsys):
    TEMI(4, **SMALL).fit(cloud())
    assert capsys.readouterr() == ("", "")
    TEMI(4, **SMALL, verbose=True).fit(cloud())
    out, err = capsys.readouterr()
    assert out == "" and "2/2" in err and "loss=" in err
