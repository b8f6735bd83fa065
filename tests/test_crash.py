"""Whatever dies, finished runs are kept, none is lost or done twice, and the next call ends the study."""
import json, os, signal, sqlite3, subprocess, sys, time
from collections import Counter
from pathlib import Path

import pandas as pd
import pytest

from mlfixes.bench import Store, Study
from slow_task import study

HERE = Path(__file__).parent


def start(store, log, jobs=2, seconds=.5):
    "The study in a process of its own, which hears Ctrl-C even where the tests run in the background."
    command = "import slow_task, sys; slow_task.main(*sys.argv[1:])"
    return subprocess.Popen([sys.executable, "-c", command, str(store), str(log), str(jobs), str(seconds)], cwd=HERE,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))


def wait_for(condition, what, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"gave up waiting for {what}"
        time.sleep(.02)


def events(log):
    return [line.split() for line in Path(log).read_text().splitlines()] if Path(log).exists() else []


def rows(store):
    return (sqlite3.connect(store).execute("select key, finished from runs").fetchall()
            if Path(store).exists() else [])


def alive(pid):
    try: return Path(f"/proc/{pid}/stat").read_text().split(") ")[1][0] != "Z"
    except OSError: return False


def assert_same_table(one: Study, other: Study):
    pd.testing.assert_frame_equal(one.frame().drop(columns="seconds"),
                                  other.frame().drop(columns="seconds"), check_exact=True)


@pytest.fixture
def undisturbed(tmp_path): return study(tmp_path / "calm.sqlite", tmp_path / "calm.log", seconds=0.).run()


def test_killed_study_goes_on(tmp_path, undisturbed):
    store, log = tmp_path / "runs.sqlite", tmp_path / "log"
    process = start(store, log)
    wait_for(lambda: len(rows(store)) >= 3, "three finished runs")
    process.kill(); process.wait()
    workers = {int(e[3]) for e in events(log)}
    kept = dict(rows(store))
    assert 3 <= len(kept) < 10
    wait_for(lambda: not any(map(alive, workers)), "orphaned workers to end")
    started = len(events(log))
    second = start(store, log)
    out, err = second.communicate(timeout=120)
    assert second.returncode == 0 and "complete" in out, err
    # nothing lost, nothing written again
    assert {key: t for key, t in rows(store) if key in kept} == kept
    again = [e for e in events(log)[started:] if e[0] == "start"]
    assert len(again) == 10 - len(kept) and max(Counter(map(tuple, (e[1:3] for e in again))).values()) == 1
    assert sqlite3.connect(store).execute("pragma integrity_check").fetchone() == ("ok",)
    assert_same_table(study(store, log, seconds=.5), undisturbed)


def test_killed_worker_costs_one_retry(tmp_path, undisturbed):
    store, log = tmp_path / "runs.sqlite", tmp_path / "log"
    process = start(store, log)
    wait_for(lambda: len(rows(store)) >= 2 and events(log)[-1][0] == "start", "a run in flight")
    os.kill(int(events(log)[-1][3]), signal.SIGKILL)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0 and "complete" in out, err
    assert len(rows(store)) == 10 and study(store, log, seconds=.5).failures().empty
    assert_same_table(study(store, log, seconds=.5), undisturbed)


def test_a_run_that_always_kills_its_worker_is_recorded_and_the_rest_finish(tmp_path):
    with pytest.warns(UserWarning, match="2 of 10 runs of 'slow' failed"):
        # in both arms
        done = study(tmp_path / "runs.sqlite", tmp_path / "log", seconds=.05, killer=1002).run()
    failed = done.failures()
    assert (set(zip(failed.arm, failed.seed)) == {("baseline", 1002), ("documented", 1002)}
            and failed.error.str.contains("killed twice").all())
    assert sum(run.ok for runs in done.runs().values() for run in runs) == 8
    verdict = done.verdicts()[0]
    assert ((verdict.verdict, verdict.failed_runs, verdict.n) == ("not tested", 2, 4)
            and "no verdict: 4 paired seeds" in verdict.reason)
    assert len(rows(tmp_path / "runs.sqlite")) == 10


def test_two_studies_share_a_store(tmp_path, undisturbed):
    store = tmp_path / "runs.sqlite"
    both = [start(store, tmp_path / f"log{k}", jobs=1) for k in range(2)]
    results = [process.communicate(timeout=120) for process in both]
    assert [process.returncode for process in both] == [0, 0], results
    assert len(rows(store)) == 20       # the log is in the config, so each has ten runs of its own
    assert_same_table(study(store, tmp_path / "log0", seconds=.5), undisturbed)


def test_two_studies_of_the_same_runs(tmp_path, undisturbed):
    store, log = tmp_path / "runs.sqlite", tmp_path / "log"
    both = [start(store, log, jobs=1) for _ in range(2)]
    results = [process.communicate(timeout=120) for process in both]
    assert [process.returncode for process in both] == [0, 0], results
    assert len(rows(store)) == 10                            # whoever commits first is kept
    assert_same_table(study(store, log, seconds=.5), undisturbed)


def test_ctrl_c_keeps_finished_runs(tmp_path):
    store, log = tmp_path / "runs.sqlite", tmp_path / "log"
    process = start(store, log)
    wait_for(lambda: len(rows(store)) >= 2, "two finished runs")
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    kept = len(rows(store))
    assert process.returncode != 0 and 2 <= kept < 10
    workers = {int(e[3]) for e in events(log)}
    wait_for(lambda: not any(map(alive, workers)), "workers to end")
    study(store, log, seconds=.5).run()
    assert len(rows(store)) == 10


@pytest.mark.parametrize("jobs", [1, 2])
def test_numbers_do_not_depend_on_jobs_or_process(tmp_path, jobs):
    "The real thing: a short training of the coreset family, against the same run in this process."
    import dataclasses, torch
    from mlfixes.bench import find_task
    task = find_task("coreset")
    small = dict(task.profiles["test"].set)
    task = dataclasses.replace(task, profiles={"quick": dataclasses.replace(task.profiles["quick"],
                                                                            set=small)})
    done = Study(task, seeds=[0, 1], store=tmp_path / "runs.sqlite", jobs=jobs).run(
        ["baseline", "documented"])
    threads = torch.get_num_threads(); torch.set_num_threads(1)
    try: here = {arm: task.run(config, 0)
                 for arm, config in task.configs(arms=["baseline", "documented"]).items()}
    finally: torch.set_num_threads(threads)
    for arm, result in here.items():
        stored = done.runs()[arm][0].result
        untimed = [m for m, rule in task.metrics.items() if rule.unit != "s" and m != "overhead"]
        assert {m: stored.metrics[m] for m in untimed} == {m: result.metrics[m] for m in untimed}
        pd.testing.assert_frame_equal(stored.history, result.history, check_exact=True)
