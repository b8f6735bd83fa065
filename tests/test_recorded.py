"""Recorded studies: verdicts follow from the numbers beside them; a record tells when its code is newer."""
import csv, itertools, json
from pathlib import Path

import pandas as pd
import pytest
from conftest import ROOT

from mlfixes.bench import find_task
from mlfixes.bench.store import code_of
from mlfixes.bench.study import judge_claims, protocol_digest

RECORDS = sorted(path.parent for path in (ROOT / "reports/recorded").glob("*/verdicts.json"))


def seeds_of(text):
    "'1000-1009' or '3 5 8' as a set."
    if "-" not in text: return set(map(int, text.split()))
    first, last = map(int, text.split("-"))
    return set(range(first, last + 1))


def same(a, b):
    return a == b or (isinstance(a, float) and isinstance(b, float)
                      and a == pytest.approx(b, rel=1e-9, abs=1e-12))


@pytest.mark.parametrize("folder", RECORDS, ids=lambda folder: folder.name)
def test_verdicts_follow_from_runs(folder):
    saved, task = json.loads((folder / "verdicts.json").read_text()), find_task(folder.name)
    if saved["protocol"] != protocol_digest(task, saved["profile"]):
        pytest.skip(f"the record of {folder.name} is older than its claims or arms: "
                    f"make record FAMILY={folder.name}")
    derived = [v.to_dict() for v in judge_claims(task, pd.read_csv(folder / "runs.csv"), saved["data"],
                                                 saved["seeds"], saved.get("seeds_by_arm"),
                                                 task.configs(saved["profile"]))]
    wrong = [f"{new['claim']}.{key}: {old[key]} in verdicts.json, {new[key]} from runs.csv"
             for old, new in zip(saved["verdicts"], derived, strict=True)
             for key in new if not same(old[key], new[key])]
    assert not wrong, f"{folder}: " + "\n".join(wrong)


@pytest.mark.parametrize("folder", RECORDS, ids=lambda folder: folder.name)
def test_record_is_as_new_as_its_code(folder):
    saved = json.loads((folder / "environment.json").read_text())
    if saved["code"] != code_of(find_task(folder.name).run).digest:
        pytest.skip(f"the record of {folder.name} is older than the code it ran: "
                    f"make record FAMILY={folder.name}")


@pytest.mark.parametrize("folder", RECORDS, ids=lambda folder: folder.name)
def test_looks_hold_the_record(folder):
    "The seeds of the record were looked at; no protocol was, on seeds that an earlier one had used."
    saved, looks = (json.loads((folder / "verdicts.json").read_text()),
                    list(csv.DictReader((folder / "looks.csv").open())))
    planned = set(saved["seeds"]).union(*saved.get("seeds_by_arm", {}).values())
    assert (seeds_of(looks[-1]["seeds"]) == planned
            and looks[-1]["digest"] == f"{saved['protocol'][:12]}+{saved['code'][:12]}")
    for earlier, later in itertools.combinations(looks, 2):
        fresh = not seeds_of(earlier["seeds"]) & seeds_of(later["seeds"])
        assert earlier["profile"] != later["profile"] or earlier["digest"] == later["digest"] or fresh, (
            f"seeds {later['seeds']} were looked at under another protocol before")


def test_an_edited_record_is_found(tmp_path):
    "The check above can fail: one changed number changes a verdict's fields."
    if not RECORDS: pytest.skip("no study is recorded yet")
    folder = RECORDS[0]
    saved, frame = json.loads((folder / "verdicts.json").read_text()), pd.read_csv(folder / "runs.csv")
    task = find_task(folder.name)
    claim = next(claim for claim in task.claims if claim.paired and claim.transferable)
    row = frame[(frame.arm == claim.arm) & (frame.metric == claim.metric)].index[0]
    frame.loc[row, "value"] += 1
    derived = [v.to_dict() for v in judge_claims(task, frame, saved["data"], saved["seeds"],
                                                 saved.get("seeds_by_arm"), task.configs(saved["profile"]))]
    assert any(not same(old[key], new[key]) for old, new in zip(saved["verdicts"], derived) for key in new)
