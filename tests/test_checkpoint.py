"""What comes back from the disk is what was saved, to the last code; what was touched is refused, by name."""
import ast, copy, json, os, re, subprocess, sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.numpy import load as unpacked, save as packed
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import Ridge

from mlfixes.vqvae import checkpoint
from mlfixes.vqvae.checkpoint import CheckpointError, Pipeline, load, save
from mlfixes.vqvae.compressor import GroupedRVQ
from mlfixes.vqvae.model import FamilyEncoder, GroupedVQVAE, fit, frozen_features
from mlfixes.vqvae.scaling import ColumnScaler

NAMES = [f"c{j}" for j in range(16)]
FAMILIES = {"later": np.arange(10, 16), "plain": np.arange(4), "summary": np.arange(4, 10)}
ENCODERS = {"summary": ("MLPEncoder", dict(outputs=5, hidden=(8,))),
            "later": ("TemporalCNNEncoder", dict(outputs=4, channels=2, width=4, blocks=1))}
GROUPS = {"b": np.array([12, 3, 5, 0, 1, 2]), "a/0": np.array([4, 6, 7, 8, 9, 10, 11])}   # of features
TABLE = {"one": np.arange(8, 16), "two": np.arange(8)}                                      # of columns


def table(n=300, seed=0):
    random = np.random.default_rng(seed)
    X = random.normal(size=(n, 4)) @ random.normal(size=(4, 16)) + .2 * random.normal(size=(n, 16))
    return pd.DataFrame(X * 10. ** (np.arange(16) % 4) + np.arange(16), columns=NAMES)


def network(kind="asinh", quantizer="vector", update="ours", inside=False, frozen=True):
    "A trained pipeline."
    X = table().to_numpy(copy=True)
    front = FamilyEncoder(FAMILIES, ENCODERS, seed=3) if inside or frozen else None
    made = frozen_features(front, X) if frozen and not inside else X
    scaler = ColumnScaler(kind).fit(made)
    groups = GROUPS if front else TABLE
    widths, sizes = ({name: own for name in groups} for own in ((3, 4), (7, 4)))
    model = GroupedVQVAE(groups, widths, sizes, quantizer, update, hidden=12, embedding=8, decoder=16,
                         dropout=.1, front=front if inside else None, outputs=made.shape[1])
    fit(model, scaler.transform(made), 3, batch=100, lr=3e-3)
    return Pipeline(NAMES, model, scaler, front if frozen and not inside else None,
                    None if front else {"all": np.arange(16)})


def rvq(groups=TABLE, bits=20, **settings): return GroupedRVQ(groups, bits, **settings).fit(table())


MAKE = {"rvq": rvq,
        "rvq-found": lambda: rvq(2, np.float64(20), scaler="rank", readout=False, beam=1, levels=2),
        "rvq-unscaled": lambda: rvq(bits={"one": 8, "two": 9}, scaler=None, seed=np.int64(4)),
        "frozen": network, "finite-scalar": lambda: network("rank", "finite-scalar"),
        "document": lambda: network("standard", update="document"),
        "inside": lambda: network("mad", inside=True),
        "no-encoder": lambda: network(frozen=False)}


@pytest.fixture(scope="module")
def made(): return {name: make() for name, make in MAKE.items()}


@pytest.fixture(scope="module")
def kept(made, tmp_path_factory):
    "Every system's folder."
    home = tmp_path_factory.mktemp("kept")
    for name, fitted in made.items(): save(home / name, fitted, table())
    return home


def tensors_in(folder: Path) -> dict:
    stored = unpacked((folder / checkpoint.TENSORS).read_bytes())
    return {name: np.array(value) for name, value in stored.items()}


def facts_in(folder: Path) -> dict: return json.loads((folder / checkpoint.JSON).read_text())


def resealed(source: Path, target: Path, change) -> Path:
    "A copy whose content was changed, and whose checksums fit."
    facts, tensors = facts_in(source), tensors_in(source)
    change(facts, tensors)
    target.mkdir(exist_ok=True)
    data = packed(tensors)
    (target / checkpoint.TENSORS).write_bytes(data)
    if "tensors" in facts: facts["tensors"] = checkpoint._digest(data)
    if "sha256" in facts: facts["sha256"] = checkpoint._own_digest(facts)
    (target / checkpoint.JSON).write_bytes(checkpoint._text(facts).encode())
    return target


def refused(folder, match, **expected):
    with pytest.raises(CheckpointError, match=match): load(folder, **expected)


# round trips

FRESH = """
import sys
import numpy as np
from mlfixes.vqvae.checkpoint import load
X, home, answers = np.load(sys.argv[1]), sys.argv[2], {}
for name in sys.argv[4:]:
    fitted = load(f"{home}/{name}")
    answers |= {f"{name} codes": fitted.encode(X), f"{name} back": fitted.reconstruct(X)}
    if "rvq" in name: assert "torch" not in sys.modules, "torch is loaded where it is not needed"
np.savez(sys.argv[3], **answers)
"""


def test_a_fresh_process_gives_the_same(made, kept, tmp_path):
    new = table(500, seed=1)
    np.save(tmp_path / "x.npy", new.to_numpy())
    done = subprocess.run([sys.executable, "-W", "error::UserWarning", "-c", FRESH, tmp_path / "x.npy", kept,
                           tmp_path / "answers.npz", *made], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    answers = np.load(tmp_path / "answers.npz")
    for name, fitted in made.items():
        codes = fitted.encode(new)
        np.testing.assert_array_equal(answers[f"{name} codes"], codes, err_msg=name)
        np.testing.assert_array_equal(answers[f"{name} back"], fitted.reconstruct(new), err_msg=name)
        assert all(len(np.unique(level)) > 1 for level in codes.T[:1]), name


@pytest.mark.parametrize("name", MAKE)
def test_what_is_loaded_is_saved_as_the_same_bytes(kept, tmp_path, name):
    again = load(kept / name)
    save(tmp_path / "again", again, table())
    for file in (checkpoint.JSON, checkpoint.TENSORS):
        assert (kept / name / file).read_bytes() == (tmp_path / "again" / file).read_bytes()
    assert sorted(os.listdir(tmp_path / "again")) == [checkpoint.JSON, checkpoint.TENSORS]


@pytest.mark.parametrize("name", [name for name in MAKE if "rvq" in name])
def test_a_compressor_comes_back_whole(made, kept, name):
    one, two = made[name], load(kept / name)
    assert {k: v for k, v in one.get_params().items() if k != "groups"} == {
        k: v for k, v in two.get_params().items() if k != "groups"}
    for what in ("names_", "sizes_", "bits_", "n_features_in_"):
        assert getattr(one, what) == getattr(two, what)
    assert list(one.groups_) == list(two.groups_)
    pd.testing.assert_frame_equal(one.report(table(seed=2)), two.report(table(seed=2)), check_exact=True)
    two.fit(table())   # by the same seed
    pd.testing.assert_frame_equal(one.report(table()), two.report(table()), check_exact=True)


def test_training_goes_on_as_if_nothing_had_happened(made, kept):
    "Counts and sums of codebooks are there as well."
    one, two = made["no-encoder"], load(kept / "no-encoder")
    one = Pipeline(NAMES, copy.deepcopy(one.model), one.scaler_)
    Z = one.scaler_.transform(table().to_numpy())
    losses = [fit(each.model, Z, 2, batch=100, kmeans=False) for each in (one, two)]
    assert losses[0] == losses[1]
    for key, value in one.model.state_dict().items(): assert (two.model.state_dict()[key] == value).all(), key


def test_few_rows_make_a_small_probe(made, tmp_path):
    for n, rows in ((1, 1), (7, 7), (64, 64), (300, 64)):
        save(tmp_path / "few", made["rvq"], table()[:n])
        assert facts_in(tmp_path / "few")["probe"] == rows
        load(tmp_path / "few")


# nothing stands there twice, nothing is executed

def test_groups_are_stored_once(kept):
    for name in MAKE:
        facts = facts_in(kept / name)
        assert facts["settings"].get("groups") in (None, 2, "given")
        assert not [key for key in tensors_in(kept / name) if "where" in key or "group" in key]


def test_no_code_is_read():
    "The module imports nothing that executes what it reads, and calls no loader of torch or NumPy."
    tree = ast.parse(Path(checkpoint.__file__).read_text())
    imports = [node for node in ast.walk(tree) if isinstance(node, (ast.Import, ast.ImportFrom))]
    imported = {alias.name for node in imports for alias in node.names}
    imported |= {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert not imported & {"pickle", "cPickle", "dill", "joblib", "cloudpickle", "marshal", "shelve", "yaml",
                           "torch.serialization"}
    called = {ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
    assert not called & {"torch.load", "torch.save", "np.load", "np.save", "eval", "exec", "__import__"}
    strict = [node for node in ast.walk(tree) if isinstance(node, ast.keyword) and node.arg == "strict"]
    assert not strict and sum(name.endswith("load_state_dict") for name in called) == 2   # never strict=False


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".pkl", ".PKL", ".ckpt", ".joblib"])
def test_pickles_are_refused_by_their_name(made, tmp_path, suffix):
    (path := tmp_path / f"model{suffix}").write_bytes(b"\x80\x04cos\nsystem\n")
    refused(path, "is named as a pickle.*fit again, or read")
    with pytest.raises(CheckpointError, match="is named as a pickle"): save(path, made["rvq"], table())
    assert path.read_bytes()[:1] == b"\x80"


# damage

@pytest.mark.parametrize("name", ["rvq", "frozen"])
def test_any_flipped_byte_is_refused(kept, tmp_path, name):
    whole = {file: (kept / name / file).read_bytes() for file in (checkpoint.JSON, checkpoint.TENSORS)}
    for file, data in whole.items(): (tmp_path / file).write_bytes(data)
    load(tmp_path)
    for file, data in whole.items():
        for k, at in enumerate(np.linspace(0, len(data) - 1, 40).astype(int)):
            for mask in (1 << k % 8, 0xFF, 0x03):     # 0x03 makes a tab of a line feed, which JSON allows
                broken = bytearray(data)
                broken[at] ^= mask
                (tmp_path / file).write_bytes(broken)
                refused(tmp_path, "model.json|model.safetensors")
        (tmp_path / file).write_bytes(data)


@pytest.mark.parametrize("file", [checkpoint.JSON, checkpoint.TENSORS])
def test_cut_lengthened_and_missing_files_are_refused(kept, tmp_path, file):
    other = {checkpoint.JSON, checkpoint.TENSORS} - {file}
    for name in other: (tmp_path / name).write_bytes((kept / "rvq" / name).read_bytes())
    refused(tmp_path, f"there is no {file}")
    whole = (kept / "rvq" / file).read_bytes()
    cut = [whole[:size] for size in (0, 1, 9, len(whole) // 2, len(whole) - 1)]
    for data in (*cut, whole + b"\n", whole + whole):
        (tmp_path / file).write_bytes(data)
        refused(tmp_path, file)


def test_tensors_of_another_checkpoint_are_refused(made, kept, tmp_path):
    save(tmp_path / "a", made["rvq"], table()[100:])
    (tmp_path / "a" / checkpoint.TENSORS).write_bytes((kept / "rvq" / checkpoint.TENSORS).read_bytes())
    refused(tmp_path / "a", "has not the checksum that model.json tells.*of another checkpoint")


@pytest.mark.parametrize("name", ["rvq", "frozen", "inside"])
def test_every_key_and_tensor_is_missed_by_its_name(kept, tmp_path, name):
    facts = facts_in(kept / name)
    for key in facts:
        resealed(kept / name, tmp_path / "x", lambda facts, _: facts.pop(key))
        refused(tmp_path / "x", {"version": "version None"}.get(key, f"'?{key}'?"))
    for part in ("settings", "seeds", "sizes"):
        for key in facts[part]:
            resealed(kept / name, tmp_path / "x", lambda facts, _: facts[part].pop(key))
            refused(tmp_path / "x", f"{part}.*missing: '{key}'")
    for key in tensors_in(kept / name):
        resealed(kept / name, tmp_path / "x", lambda _, tensors: tensors.pop(key))
        refused(tmp_path / "x", f"other tensors; missing: '{key}', unknown: none")
    resealed(kept / name, tmp_path / "x", lambda facts, _: facts.update(extra=1))
    refused(tmp_path / "x", "missing: none, unknown: 'extra'")
    resealed(kept / name, tmp_path / "x", lambda _, tensors: tensors.update(extra=np.zeros(3)))
    refused(tmp_path / "x", "missing: none, unknown: 'extra'")


@pytest.mark.parametrize("name", ["rvq", "frozen"])
def test_a_missing_key_is_told_before_the_checksum(kept, tmp_path, name):
    facts = facts_in(kept / name)
    for key in facts:
        (tmp_path / checkpoint.JSON).write_text(json.dumps({k: v for k, v in facts.items() if k != key}))
        refused(tmp_path, {"version": "version None"}.get(key, key))


@pytest.mark.parametrize("name", ["rvq", "rvq-found", "frozen"])
def test_every_tensor_has_its_shape_and_type_and_is_finite(kept, tmp_path, name):
    for key, value in tensors_in(kept / name).items():
        resealed(kept / name, tmp_path / "x", lambda _, tensors: tensors.update({key: tensors[key][None]}))
        refused(tmp_path / "x", f"'{key}' is .* of shape .*expected")
        other = "float32" if value.dtype == "float64" else "float64" if value.dtype == "float32" else "int32"
        resealed(kept / name, tmp_path / "x", lambda _, tensors: tensors.update({key: value.astype(other)}))
        refused(tmp_path / "x", f"'{key}' is {other}")
        if value.dtype.kind != "f" or not value.size: continue
        for bad in (np.nan, np.inf):
            def spoil(_, tensors): tensors[key].flat[-1] = bad
            resealed(kept / name, tmp_path / "x", spoil)
            refused(tmp_path / "x", f"'{key}' holds NaN or infinity in 1 of")


# the second line: checksums fit, and the probe tells

UNSEEN = re.compile("counts|sums|num_batches_tracked|scaler/fallback|probe")   # no answer depends on these


@pytest.mark.parametrize("name", ["rvq", "rvq-unscaled", "frozen", "inside", "no-encoder"])
def test_the_probe_tells_other_numbers(kept, tmp_path, name):
    "Of every tensor, if codes are in use; where they collapsed, nothing depends on weights."
    random = np.random.default_rng(0)
    for key, value in tensors_in(kept / name).items():
        if UNSEEN.search(key) or value.dtype.kind != "f": continue
        noise = random.normal(size=value.shape) * (1 + abs(value))
        if any(word in key for word in ("scale", "factor", "var")): noise = abs(noise)
        def spoil(_, tensors): tensors[key] += noise.astype(value.dtype)
        resealed(kept / name, tmp_path / "x", spoil)
        refused(tmp_path / "x", "probe: (scaled input|codes|reconstruction|its rows)")


def redrawn(facts, tensors):
    other = FamilyEncoder(FAMILIES, ENCODERS, seed=9).state_dict()
    tensors.update({f"front/{key}": value.numpy() for key, value in other.items()})


def unscaled(facts, tensors):
    facts["scaler"] = None
    for key in [key for key in tensors if key.startswith("scaler/")]: del tensors[key]


def swapped(facts, tensors):
    (a, b), groups = facts["groups"], facts["groups"]
    groups[a][0], groups[b][0] = groups[b][0], groups[a][0]


def turned(facts, tensors): next(iter(facts["groups"].values())).reverse()


def renamed_families(facts, tensors): facts["families"] = dict(reversed(facts["families"].items()))


def fewer_beginnings(facts, tensors): facts["settings"]["beam"] = 1


@pytest.mark.parametrize("name, change, told", [
    ("frozen", redrawn, "scaled input"), ("frozen", unscaled, "scaled input"),
    ("rvq", unscaled, "scaled input"), ("rvq", swapped, "codes"), ("frozen", swapped, "codes"),
    ("frozen", turned, "codes"), ("rvq", turned, "codes"),
    ("frozen", renamed_families, "scaled input"), ("rvq", fewer_beginnings, "codes")])
def test_parts_that_do_not_belong_together(kept, tmp_path, name, change, told):
    refused(resealed(kept / name, tmp_path / "x", change), f"probe: {told}")


# what the caller is about to do

@pytest.mark.parametrize("name", ["rvq", "frozen"])
def test_other_columns(kept, name):
    X = table()
    flipped, fewer, other = X[NAMES[::-1]], X.drop(columns="c7"), X.rename(columns={"c7": "new"})
    for wrong, told in ((flipped, "another order: position 0 holds 'c15', in training 'c0'; reorder"),
                        (fewer, "columns missing: 'c7'; unknown: none"),
                        (other, "missing: 'c7'; unknown: 'new'")):
        refused(kept / name, told, names=list(wrong.columns))
        refused(kept / name, told, X=wrong)
        with pytest.raises(ValueError, match=told): load(kept / name).encode(wrong)
    refused(kept / name, "16 names for 15 columns", X=fewer.to_numpy())
    refused(kept / name, "NaN", X=X.mask(X > 3))
    for right in (dict(names=NAMES), dict(X=X), dict(X=X.to_numpy()), dict(names=tuple(NAMES), X=X)):
        load(kept / name, **right)


@pytest.mark.parametrize("name", ["rvq", "frozen"])
def test_another_scaler(made, kept, name):
    own = made[name].scaler_
    for right in ("asinh", own, own.state()): load(kept / name, scaler=right)
    refused(kept / name, "'asinh' is stored, 'rank' was expected", scaler="rank")
    made_of = table(seed=3).to_numpy(copy=True)
    if name == "frozen": made_of = frozen_features(FamilyEncoder(FAMILIES, ENCODERS, seed=3), made_of)
    refused(kept / name, "'asinh' is stored, 'mad' was expected", scaler=ColumnScaler("mad").fit(made_of))
    for wrong in (other := ColumnScaler("asinh").fit(made_of), other.state()):
        refused(kept / name, r"of the same kind, 'asinh', but \d+ of", scaler=wrong)
    refused(kept / name, "another scaler: the state holds", scaler={"centre": own.state()["centre"]})
    refused(kept / "rvq-unscaled", "None is stored, 'asinh' was expected", scaler="asinh")


@pytest.mark.parametrize("change, told", [
    (dict(version=2), "format version 2, and this mlfixes reads version 1"),
    (dict(version="1"), "format version '1'"), (dict(format="spin"), "is not ours"),
    (dict(kind="KMeans"), "holds a 'KMeans'; expected its 'kind' to be one of GroupedRVQ, Pipeline"),
    (dict(kind=["GroupedRVQ"]), "kind"), (dict(kind="Pipeline"), "missing: 'families'"),
    (dict(scaler="cubic"), "unknown scaler 'cubic'"),
    (dict(groups={"one": [0, 1]}), "do not fit the columns: 14 of 16 columns are in no group"),
    (dict(groups={"one": list(range(16)), "two": [3, 4]}), "column 3 is in 'one' and in 'two'"),
    (dict(groups={"one": list(range(8, 16)), "two": list(range(9))}), "do not fit the columns"),
    (dict(groups={}), "there are no groups"), (dict(groups=[1, 2]), "describes nothing"),
    (dict(groups={"one": ["a", "b"]}), "positions"), (dict(sizes={"one": [3], "two": [3]}), "other tensors"),
    (dict(sizes={"one": 3, "two": 4}), "describes nothing"), (dict(names=NAMES[:-1]), "do not fit"),
    (dict(probe=63), "probe/"), (dict(probe="64"), "probe/"), (dict(seeds=7), "describes nothing")])
def test_facts_that_are_none(kept, tmp_path, change, told):
    refused(resealed(kept / "rvq", tmp_path / "x", lambda facts, _: facts.update(change)), told)


@pytest.mark.parametrize("part, value, told", [
    ("encoder", "Transformer", "Transformer"), ("encoder", None, "do not fit the columns"),
    ("arguments", {"outputs": 6, "hidden": [8]}, "do not fit the columns"),
    ("arguments", {"outputs": 5, "depth": 2}, "depth"), ("arguments", None, "describes nothing"),
    ("arguments", {"outputs": 5, "hidden": [9]}, "expected float32 of shape"),
    ("columns", [4, 5, 6, 7, 8], "every column in one family"),
    ("columns", list(range(40, 46)), "every column in one family")])
def test_families_that_are_none(kept, tmp_path, part, value, told):
    def change(facts, _): facts["families"]["summary"][part] = value
    refused(resealed(kept / "frozen", tmp_path / "x", change), told)


def test_json_that_is_not_ours(tmp_path):
    for text in ("[]", "3", "null", "{}", '{"model": 1}'):
        (tmp_path / checkpoint.JSON).write_text(text)
        refused(tmp_path, "is not ours")
    for text in ('{"format": NaN}', "[" * 10**5, '{"a": "\\ud800"}', '{"a": 1e999}', "\x00"):
        (tmp_path / checkpoint.JSON).write_text(text)
        refused(tmp_path, "is no JSON")
    refused(tmp_path / "nowhere", "there is no model.json")
    (tmp_path / "file").write_text("")
    refused(tmp_path / "file", "is a file; expected the folder")


# saving

class Killed(BaseException): pass


@pytest.mark.parametrize("before", [True, False])
def test_a_killed_save_leaves_a_whole_checkpoint(made, tmp_path, monkeypatch, before):
    "Killed at every step: after it the old or the new one is there, and the next save tidies up."
    old, new = made["rvq"], made["rvq-found"]
    answers = {name: made[name].encode(table()) for name in ("rvq", "rvq-found")}
    seen, real = [], (os.replace, os.fsync)
    for step in range(6):
        save(tmp_path / "x", old, table())
        left = [step]
        def dies(call):
            def run(*args):
                left[0] -= 1
                if before and left[0] < 0: raise Killed
                call(*args)
                if left[0] < 0: raise Killed
            return run
        with monkeypatch.context() as patched:
            patched.setattr(os, "replace", dies(real[0])); patched.setattr(os, "fsync", dies(real[1]))
            patched.setattr(Path, "unlink", lambda *args, **kwargs: None)    # nobody tidies up after kill -9
            try: save(tmp_path / "x", new, table())
            except Killed: pass
        codes = load(tmp_path / "x").encode(table())
        seen.append(next(name for name, own in answers.items() if np.array_equal(own, codes)))
    first = seen.index("rvq-found")
    assert seen == ["rvq"] * first + ["rvq-found"] * (6 - first) and 0 < first < 5
    save(tmp_path / "x", new, table())
    assert sorted(os.listdir(tmp_path / "x")) == [checkpoint.JSON, checkpoint.TENSORS]


def test_what_cannot_be_saved_is_refused_and_nothing_is_written(made, tmp_path):
    here = tmp_path / "x"
    with pytest.raises(NotFittedError): save(here, GroupedRVQ(), table())
    with pytest.raises(CheckpointError, match="a Ridge was given to save"): save(here, Ridge(), table())
    own = made["frozen"]
    with pytest.raises(CheckpointError, match="a GroupedVQVAE was given"): save(here, own.model, table())
    with pytest.raises(CheckpointError, match="a group is called 0; expected strings"):
        save(here, GroupedRVQ({0: np.arange(8), 1: np.arange(8, 16)}, bits=20).fit(table()), table())
    with pytest.raises(ValueError, match="another order"): save(here, made["rvq"], table()[NAMES[::-1]])
    with pytest.raises(ValueError, match="0 rows"): save(here, made["rvq"], table()[:0])
    strange = GroupedRVQ(TABLE, bits=20).fit(table())
    strange.seed = np.random.default_rng(0)
    with pytest.raises(CheckpointError, match="cannot be described in JSON"): save(here, strange, table())
    class Own(FamilyEncoder): pass
    front = Own(FAMILIES, ENCODERS, seed=3)
    with pytest.raises(CheckpointError, match="the encoder is a Own"):
        save(here, Pipeline(NAMES, own.model, own.scaler_, front), table())
    front = FamilyEncoder(FAMILIES, ENCODERS)
    front.parts["summary"] = torch.nn.Linear(6, 5)     # not what its recipe tells
    with pytest.raises(CheckpointError, match="other tensors; missing"):
        save(here, Pipeline(NAMES, own.model, own.scaler_, front), table())
    assert not here.exists()


def test_a_pipeline_of_parts_that_do_not_fit_is_refused(made):
    own, inside, plain = (made[name] for name in ("frozen", "inside", "no-encoder"))
    two = {name: (2,) for name in GROUPS}
    wide = GroupedVQVAE(GROUPS, two, two, outputs=16)
    for told, wrong in {
        "every column in one family": (NAMES[:-1], own.model, own.scaler_, own.front),
        "two columns of the table are called 'c1'": (["c1", *NAMES[1:]], own.model, own.scaler_, own.front),
        "knows 13 columns and there are 16 features": (NAMES, own.model, own.scaler_),
        "leave `families` out": (NAMES, own.model, own.scaler_, own.front, {"all": np.arange(16)}),
        "in front of the scaler and in the network": (NAMES, inside.model, inside.scaler_, own.front),
        "fitted to columns of other names": (NAMES[::-1], plain.model, plain.scaler_),
        "the network gives 16 columns for 13": (NAMES, wide, own.scaler_, own.front)}.items():
        with pytest.raises(ValueError, match=told): Pipeline(*wrong)
