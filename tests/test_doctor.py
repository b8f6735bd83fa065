"""The doctor as a stranger meets it: a file, an exit code, and nothing run, changed or copied that should not be."""
import importlib, io, json, pickle, subprocess, sys, tracemalloc
from zipfile import ZIP_STORED, ZipFile

import numpy as np
import pytest
from test_cli import fails

from mlfixes.doctor import INPUTS, examine, load_checks, read_run
from mlfixes.doctor.findings import Adviser, proof_of

CHECKS = {code: check for code, check in load_checks().items() if check.family != "toy"}


@pytest.fixture
def arrays():
    rng = np.random.default_rng(0)
    labels = rng.integers(10, size=1000)
    noise = rng.normal(size=(1000, 10)).astype(np.float32)
    return {"well": noise + 4 * np.eye(10, dtype=np.float32)[labels], "labels": labels,
            "sick": noise + 9 * np.eye(10, dtype=np.float32)[3]}


def save(folder, name, **arrays):
    np.savez(folder / name, **arrays)
    return name


def test_exit_codes(mlfixes, arrays):
    well = save(mlfixes.folder, "well.npz", logits=arrays["well"], labels=arrays["labels"])
    sick = save(mlfixes.folder, "sick.npz", logits=arrays["sick"], labels=arrays["labels"])
    done = mlfixes("doctor", well)
    assert (done.returncode, done.stdout.splitlines()[0][:13], done.stderr) == (0, "Nothing found", "")
    done = mlfixes("doctor", sick)
    assert done.returncode == 1 and "fail  CLS01" in done.stdout and "\033[" not in done.stdout
    assert mlfixes("doctor", sick, "--fail-on", "never").returncode == 0
    found = json.loads(mlfixes("doctor", sick, "--format", "json").stdout)
    assert found["schema_version"] == 1 and found["findings"][0]["status"] == found["worst"] == "fail"


def test_warnings_fail_only_where_asked(mlfixes, arrays):
    name = save(mlfixes.folder, "aside.npz", logits=arrays["sick"])   # without labels one class is a warning
    assert json.loads(mlfixes("doctor", name, "--only", "CLS01", "--format", "json").stdout)["worst"] == "warn"
    assert [mlfixes("doctor", name, "--only", "CLS01", "--fail-on", on).returncode for on in ("fail", "warn")] == [0, 1]


def test_what_cannot_be_used(mlfixes, arrays):
    folder = mlfixes.folder
    save(folder, "short.npz", logits=arrays["well"], labels=arrays["labels"][:90])
    save(folder, "outside.npz", logits=arrays["well"], labels=arrays["labels"] + 5)
    save(folder, "unsound.npz", probs=arrays["well"], codes=arrays["labels"], codebook_sizes=10)
    save(folder, "useless.npz", something=arrays["well"])
    save(folder, "objects.npz", logits=np.array([{}, None], dtype=object))
    save(folder, "nothing.npz", logits=np.zeros((0, 10)))
    fails(mlfixes("doctor", "short.npz"), "logits has 1,000 rows, labels has 90 rows; expected as many")
    fails(mlfixes("doctor", "useless.npz"), "holds something; expected arrays named as inputs")
    fails(mlfixes("doctor", "objects.npz"), "never opened")
    fails(mlfixes("doctor", "nothing.npz"), "logits", "0")
    fails(mlfixes("doctor", "gone.npz"), "is not there")
    fails(mlfixes("doctor"), "no file was named")
    fails(mlfixes("doctor", "short.npz", "--format", "yaml"), "expected one of text, json, md, html")
    done = mlfixes("doctor", "unsound.npz")
    fails(done, "rows of probs must be >= 0 and sum to 1")
    assert "VQ01" in done.stdout                                      # what could be found is not lost
    assert mlfixes("doctor", "outside.npz").returncode == 1           # labels out of range are a finding


def test_nothing_is_unpickled(mlfixes):
    class Trap:
        def __reduce__(self): return open, (str(mlfixes.folder / "sprung"), "w")
    for name in ("run.pkl", "run.pt", "run.npz", "run.npy"): (mlfixes.folder / name).write_bytes(pickle.dumps(Trap()))
    np.save(mlfixes.folder / "objects.npy", np.array([Trap()]), allow_pickle=True)
    for name in ("run.pkl", "run.pt", "run.npz", "run.npy", "objects.npy"):
        fails(mlfixes("doctor", name))
    assert not (mlfixes.folder / "sprung").exists()


class Hole(io.FileIO):
    "A file that leaves holes where zeros are written, so that gigabytes of them take no room."
    def write(self, data):
        if any(memoryview(data)): return super().write(data)
        self.seek(len(data), 1)
        return len(data)


def test_a_large_archive_is_mapped_and_sampled(tmp_path):
    path, n = tmp_path / "large.npz", 300_000      # 1.2 GB
    with Hole(path, "w") as file, ZipFile(file, "w", ZIP_STORED) as archive:
        with archive.open("logits.npy", "w", force_zip64=True) as member:
            np.lib.format.write_array_header_2_0(member, {"descr": "<f4", "fortran_order": False, "shape": (n, 1000)})
            for _ in range(n // 10_000): member.write(bytes(4 * 1000 * 10_000))
    inputs, _ = read_run(path)
    assert isinstance(inputs["logits"], np.memmap)
    tracemalloc.start()
    found = examine(**inputs, memory=2**26)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found.notes[0].startswith("logits: 16,777 of 300,000 rows were drawn (1.12 GiB)"), found.notes
    assert peak < 2**28 < path.stat().st_size / 4, peak


def test_nothing_is_copied():
    "Logits of 160 MB, examined within twice their memory."
    script = ("import resource, numpy as np; from mlfixes.doctor import examine; load = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
              "rng = np.random.default_rng(0); labels = rng.integers(1000, size=40_000)\n"
              "examine(logits=rng.normal(size=(4000, 1000)).astype('f4'), labels=labels[:4000], embeddings=rng.normal(size=(4000, 8)))\n"
              "logits = rng.standard_normal((40_000, 1000), np.float32); logits[np.arange(40_000), labels] += 6; before = load()\n"
              "found = examine(logits=logits, labels=labels); assert found.worst == 'ok', str(found); print(1024 * (load() - before) / logits.nbytes)")
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert float(done.stdout) <= 1, done.stdout


def test_every_input_means_one_thing():
    takes = {name for check in CHECKS.values() for name in check.takes} - {"seed"}
    assert takes == set(INPUTS), f"unlisted: {sorted(takes - set(INPUTS))}; taken by none: {sorted(set(INPUTS) - takes)}"


@pytest.mark.parametrize("family", sorted({check.family for check in CHECKS.values()}))
def test_remedies_name_confirmed_claims_only(family):
    module = importlib.import_module("mlfixes.doctor.checkup" if family == "doctor" else f"mlfixes.{family}.checks")
    adviser = module.adviser
    assert isinstance(adviser, Adviser) and adviser.family == family
    for case, advice in adviser.advice.items():
        assert case.split()[0] in CHECKS and advice.cause and advice.remedy, case
        assert advice.claim is None or proof_of(f"{family}/{advice.claim}"), f"{case}: {advice.claim} is not confirmed"
    assert {case.split()[0] for case in adviser.advice} == {code for code, check in CHECKS.items() if check.family == family}
