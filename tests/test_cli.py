"""The command line as a user meets it: results on stdout, exit codes, and errors that help."""
import json, re, sqlite3
from pathlib import Path

import pandas as pd
import pytest

from mlfixes.bench import Store


def fails(done, *words, code=2):
    assert done.returncode == code, (done.returncode, done.stdout, done.stderr)
    assert "Traceback" not in done.stderr, done.stderr
    for word in words: assert word in " ".join(done.stderr.split()), done.stderr


def test_version_and_help(mlfixes):
    assert re.fullmatch(r"mlfixes \d+\.\d+\.\d+\n", mlfixes("--version").stdout)
    text = mlfixes("--help").stdout
    for command in ("list", "claims", "report", "runs", "judge", "doctor", "data"): assert f"\n  {command} " in text
    fails(mlfixes("lits"), "No such command 'lits'")


def test_list_and_claims_for_people_and_machines(mlfixes):
    assert [line.split()[0] for line in mlfixes("list").stdout.splitlines()[1:6]] == ["arcface", "coreset", "lensing", "temi", "vqvae"]
    assert [row["family"] for row in json.loads(mlfixes("list", "--json").stdout)] == ["arcface", "coreset", "lensing", "temi", "vqvae"]
    claims = json.loads(mlfixes("claims", "coreset", "--json").stdout)
    assert {"better", "stage2", "refresh"} <= {claim["id"] for claim in claims}
    assert all(claim["source"] and claim["text"] for claim in claims)
    fails(mlfixes("claims", "corset"), "unknown family 'corset'", "did you mean 'coreset'?")


@pytest.fixture
def report(mlfixes, tmp_path):
    def run(*args):
        return mlfixes("report", "coreset", "--store", tmp_path / "runs.sqlite", *args, IN_TEST="1")
    run.folder, run.store = mlfixes.folder, tmp_path / "runs.sqlite"
    return run


def test_report_writes_one_page_and_its_files(report):
    done = report("--jobs", "2")
    assert done.returncode == 0, done.stderr
    page = report.folder / done.stdout.strip()
    out = page.parent
    assert page.name == "coreset.html" and {p.name for p in out.iterdir()} == {
        "coreset.html", "coreset.ipynb", "runs.csv", "verdicts.json", "environment.json"}
    text = page.read_text()
    assert not re.findall(r'(?:src|href)="?(?:https?:)?//|@import|url\((?!#)|<script|<link|<iframe', text)
    assert set(re.findall(r"https?://[^\s\"'<>)]+", text)) <= {"http://www.w3.org/2000/svg",
                                                               "http://www.w3.org/1999/xlink"}
    assert (len(text) < 1_000_000 and "Shrunken for a test" in text
            and "no verdict: 2 paired seeds, at least 5 are needed" in text)
    assert len(set(re.findall(r'\bid="([^"]+)"', text))) == len(re.findall(r'\bid="([^"]+)"', text))
    saved = json.loads((out / "verdicts.json").read_text())
    assert saved["schema_version"] == 1 and {v["verdict"] for v in saved["verdicts"] if v["n"]} <= {
        "not tested", "not transferable"}
    rows = pd.read_csv(out / "runs.csv")
    assert (list(rows) == ["task", "arm", "seed", "metric", "value", "seconds"]
            and set(rows.seed) == {1000, 1001})
    # a second call finds every run in the store
    before = sqlite3.connect(report.store).execute("select key, finished from runs order by key").fetchall()
    assert report().returncode == 0
    assert sqlite3.connect(report.store).execute(
        "select key, finished from runs order by key").fetchall() == before


@pytest.mark.parametrize("args, words", [
    (["--profile", "quik"], ["unknown profile", "did you mean 'quick'?"]),
    (["--seeds", "ten"], ["neither a number of seeds"]), (["--seeds", "0"], ["expected a number >= 1"]),
    (["--seeds", "3,3"], ["different whole numbers"]),
    (["--engine", "slurm"], ["unknown engine 'slurm'"]), (["--jobs", "0"], ["--jobs"]),
    (["-p", "profile=standard"], ["'profile' has an option of its own"]),
    (["--record", "kept"], ["a shrunken study is not recorded"]),
    (["-p", "profil=quick"], ["unknown parameter of coreset.ipynb", "did you mean 'profile'?"]),
    (["-p", "profile"], ["not of the form name=value"]),
    (["--out", "/proc/nowhere"], ["the output folder /proc/nowhere", "name another one with --out"])])
def test_report_refuses_what_it_cannot_serve_before_it_runs_anything(report, args, words):
    fails(report(*args), *words)
    assert not report.store.exists() or Store(report.store).summary() == []


def test_a_store_that_is_none(mlfixes, tmp_path):
    (tmp_path / "text").write_text("a text, long enough to be read as a header of a database file" * 20)
    fails(mlfixes("runs", "--store", tmp_path / "text"), "cannot be used", "file is not a database",
          "--store")
    Store(tmp_path / "newer")
    db = sqlite3.connect(tmp_path / "newer"); db.execute("pragma user_version = 99"); db.close()
    fails(mlfixes("runs", "--store", tmp_path / "newer"), "written by a newer mlfixes")
    fails(mlfixes("report", "coreset", "--store", tmp_path / "newer"), "written by a newer mlfixes")
    assert mlfixes("runs", "--store", tmp_path / "fresh").returncode == 0
    # SQLite's mark of a file that this version may read only
    frozen = bytearray((tmp_path / "fresh").read_bytes()); frozen[18] = 3
    (tmp_path / "frozen").write_bytes(frozen)
    fails(mlfixes("runs", "--store", tmp_path / "frozen"), "readonly database")


def table(folder, name, text): (folder / name).write_text(text); return name


WIDE = "seed,old,new\n" + "".join(f"{s},{.8 + s / 100},{.9 + s / 100 + s % 3 / 1000}\n" for s in range(8))


def test_judge_wide_long_and_json(mlfixes):
    wide = table(mlfixes.folder, "wide.csv", WIDE)
    done = mlfixes("judge", wide, "--baseline", "old", "--fixed", "new", "--figure", "figure.svg")
    assert (done.returncode == 0 and done.stdout.startswith("confirmed: ") and "no change" in done.stdout
            and "<svg" in (mlfixes.folder / "figure.svg").read_text())
    frame = pd.read_csv(mlfixes.folder / wide)
    frame.melt("seed", var_name="arm").to_csv(mlfixes.folder / "long.csv", index=False)
    as_json = [json.loads(mlfixes("judge", name, "--baseline", "old", "--fixed", "new", "--gain", ".2",
                                  "--json").stdout) for name in (wide, "long.csv")]
    assert as_json[0] == as_json[1] and as_json[0]["verdict"]["verdict"] == "refuted"
    lower = json.loads(mlfixes("judge", wide, "--baseline", "old", "--fixed", "new", "--lower",
                               "--json").stdout)
    assert lower["verdict"]["verdict"] == "refuted" and lower["verdict"]["direction"] == "worse"


def test_judge_says_how_many_seeds_would_settle_it(mlfixes):
    noisy = table(mlfixes.folder, "noisy.csv", "old,new\n1,2\n2,1\n3,5\n4,4.5\n5,4\n6,8\n")
    done = json.loads(mlfixes("judge", noisy, "--baseline", "old", "--fixed", "new", "--json").stdout)
    assert done["verdict"]["verdict"] == "inconclusive" and done["seeds_needed"] > 6
    few = table(mlfixes.folder, "few.csv", "old,new\n1,2\n2,3\n3,4.5\n")
    done = mlfixes("judge", few, "--baseline", "old", "--fixed", "new")
    assert done.returncode == 0 and "no verdict: 3 paired seeds, at least 5 are needed" in done.stdout


@pytest.mark.parametrize("text, words", [
    ("seed,old,new\n1,2,3\n1,2,3\n", ["seeds [1] more than once"]),
    ("seed,old,new\n1,2,high\n2,3,4\n", ["the text 'high'"]),
    ("seed,old,new\n1,2,\n2,3,4\n", ["expected a finite number"]),
    ("a,b\n1,2\n", ["columns ['a', 'b']", "'old'"]), ("", ["not a table"]),
    ("arm,seed,value\nold,1,2\nold,2,3\nnew,1,2\n", ["not paired", "2"]),
    ("arm,seed,value\nold,1,2\nolder,1,2\n", ["no arm 'new'"]),
    ("arm,seed,metric,value\nold,1,acc,2\nnew,1,acc,2\nnew,1,loss,2\n", ["name one with --metric"]),
    ("arm,seed,value\nold,1,2\nold,1,3\nnew,1,2\n", ["more than once"])])
def test_judge_refuses_tables_it_cannot_pair(mlfixes, text, words):
    fails(mlfixes("judge", table(mlfixes.folder, "bad.csv", text), "--baseline", "old", "--fixed", "new"),
          *words)


def test_judge_one_seed_and_one_arm(mlfixes):
    one = table(mlfixes.folder, "one.csv", "old,new\n1,2\n")
    done = mlfixes("judge", one, "--baseline", "old", "--fixed", "new")
    assert done.returncode == 0 and "no verdict: 1 paired seed" in done.stdout, done.stderr
    fails(mlfixes("judge", one, "--baseline", "old", "--fixed", "old"), "two different arms")


def test_a_report_whose_data_are_missing_runs_nothing(mlfixes, tmp_path):
    fails(mlfixes("report", "coreset", "--profile", "standard", "--store", tmp_path / "runs.sqlite",
                  IN_TEST="1", MLFIXES_DATA=str(tmp_path), https_proxy="http://127.0.0.1:9"),
          "'letter'", "MLFIXES_DATA", "mlfixes data get letter")
    assert Store(tmp_path / "runs.sqlite").summary() == []


def test_a_report_on_one_seed(report):
    done = report("--seeds", "1")
    assert done.returncode == 0 and (report.folder / done.stdout.strip()).exists(), done.stderr


def test_judge_without_a_file(mlfixes):
    fails(mlfixes("judge", "nothing.csv", "--baseline", "a", "--fixed", "b"), "nothing.csv")


def test_data(mlfixes, tmp_path):
    assert {"digits", "letter"} <= {row["name"]
                                    for row in json.loads(mlfixes("data", "list", "--json").stdout)}
    assert "1797 x 64" in mlfixes("data", "get", "digits").stdout
    fails(mlfixes("data", "get", "digit"), "digits")
    fails(mlfixes("data", "get", "letter", MLFIXES_DATA=str(tmp_path), https_proxy="http://127.0.0.1:9"),
          "letter", "MLFIXES_DATA")


GUEST = '''
import os, time
from dataclasses import dataclass
from mlfixes.bench import Change, Claim, Metric, Result, Task

@dataclass(frozen=True)
class Config:
    rate: float = .1
    broken: bool = False

def run(config, seed):
    import random
    if config.broken and seed == 1001: raise RuntimeError("this seed is broken")
    if os.environ.get("INTERRUPT"): time.sleep(30)
    return Result({"error": 1 - config.rate + random.Random(f"{seed} {config.rate}").gauss(0, .01)})

task = Task("guest", "Does a larger rate help?", Config, run, arms={"fragile": Config(broken=True)},
            changes=[Change("rate", {"rate": .5})], metrics={"error": Metric("lower")},
            claims=[Claim("better", "A larger rate lowers the error.", "a note", "superiority", "error"),
                    Claim("fragile", "The fragile arm is no worse.", "a note", "noninferiority", "error",
                          arm="fragile", margin=.5)], data="nothing")
'''


def test_a_family_of_another_package_and_a_failed_run(mlfixes, tmp_path):
    package = tmp_path / "site"; info = package / "guest-1.0.dist-info"; info.mkdir(parents=True)
    (package / "guest.py").write_text(GUEST)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: guest\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[mlfixes.families]\nguest = guest:task\n")
    env = {"PYTHONPATH": str(package)}
    assert [line.split()[0]
            for line in mlfixes("list", **env).stdout.splitlines()[1:]] == ["arcface", "coreset", "guest", "lensing", "temi", "vqvae"]
    done = mlfixes("report", "guest", "--store", tmp_path / "runs.sqlite", **env)
    fails(done, "1 run failed", "guest: 2 claims: 1 confirmed, 1 inconclusive", code=1)
    folder = (mlfixes.folder / done.stdout.strip()).parent
    verdicts = {v["claim"]: v for v in json.loads((folder / "verdicts.json").read_text())["verdicts"]}
    assert (verdicts["better"]["verdict"], verdicts["better"]["direction"]) == ("confirmed", "better")
    assert (verdicts["fragile"]["verdict"], verdicts["fragile"]["failed_runs"]) == ("inconclusive", 1)
    page = (folder / "guest.html").read_text()
    assert ("this seed is broken" in page and "1 of 10 runs of fragile failed" in page
            and "30 (1 failed)" in page)
    assert "this seed is broken" in (folder / "failures.csv").read_text()
