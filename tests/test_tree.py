"""The tree: who may import whom, and that what is generated is what was committed."""
import ast, filecmp, importlib.util, json, re, shutil, subprocess, sys
from pathlib import Path

import pytest
from conftest import ROOT

MODULES = sorted(path for path in (ROOT / "mlfixes").rglob("*.py"))
FAMILIES = {"coreset", "lensing", "temi", "arcface", "vqvae"}


def imports(path: Path) -> set[str]:
    "Dotted names of the project's modules that a module imports, anywhere in it."
    package = ".".join(path.relative_to(ROOT).with_suffix("").parts)
    package = package.removesuffix(".__init__") if path.name == "__init__.py" else package.rpartition(".")[0]
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import): found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = (importlib.util.resolve_name("." * node.level + (node.module or ""), package)
                    if node.level else node.module)
            found |= {base} | {f"{base}.{alias.name}" for alias in node.names}
    return found


def wing(name: str) -> str: return name.split(".")[1] if name.startswith("mlfixes.") else ""


def broken_rule(importer: str, imported: str) -> str:
    "The one-way door that an import breaks, or ''."
    if imported.partition(".")[0] in {"nbdev", "fastcore", "execnb"}:
        return "exported modules never import nbdev or fastcore"
    here, there = wing(importer), wing(imported)
    if there == "cli" and here != "cli": return "nothing imports cli"
    if here == "bench" and there in FAMILIES | {"doctor", "data"}:
        return "the bench knows no family, not the doctor and no data"
    if here == "doctor" and there in FAMILIES | {"bench", "data"}:
        return "the doctor knows no family, not the bench and no data"
    if here == "data" and there: return "data stands alone"
    if here in FAMILIES and there in FAMILIES - {here}: return "families never import each other"
    if here in FAMILIES and there == "doctor" and imported.split(".")[2:3] not in ([], ["findings"]):
        return "families import doctor.findings only"
    return ""


def test_one_way_doors():
    bad = [f"{path.relative_to(ROOT)} imports {name}: {rule}" for path in MODULES for name in imports(path)
           if (rule := broken_rule(".".join(path.relative_to(ROOT).with_suffix("").parts), name))]
    assert not bad, "\n".join(bad)


@pytest.mark.parametrize("importer, imported", [
    ("mlfixes.bench.study", "mlfixes.coreset.task"), ("mlfixes.doctor.findings", "mlfixes.bench.task"),
    ("mlfixes.coreset.task", "mlfixes.temi.losses"), ("mlfixes.bench.report", "mlfixes.cli"),
    ("mlfixes.coreset.data", "fastcore.basics"), ("mlfixes.coreset.checks", "mlfixes.doctor.checkup")])
def test_the_rule_sees_a_broken_door(importer, imported): assert broken_rule(importer, imported)


def test_clean_and_export_change_nothing(tmp_path):
    "In a copy, so that the tree is left alone: the notebooks are clean, and the package is what they export."
    kept = ["settings.ini", "setup.py", "nbs", "mlfixes", "reports", "README.md"]
    for name in kept:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy2
        copy(ROOT / name, tmp_path / name,
             **({"ignore": shutil.ignore_patterns("__pycache__", ".ipynb_checkpoints")}
                if copy is shutil.copytree else {}))
    tool = lambda name, *args: subprocess.run([str(Path(sys.executable).with_name(name)), *args],
                                              cwd=tmp_path, check=True, capture_output=True)
    tool("nbdev_clean"); tool("nbdev_clean", "--fname", "reports"); tool("nbdev_export")
    files = [p.relative_to(tmp_path) for p in tmp_path.rglob("*")
             if p.is_file() and p.name != ".last_checked"]
    changed = [str(f) for f in files
               if not (ROOT / f).exists() or not filecmp.cmp(ROOT / f, tmp_path / f, shallow=False)]
    gone = [str(p.relative_to(ROOT)) for p in MODULES if not (tmp_path / p.relative_to(ROOT)).exists()]
    assert not changed + gone, f"run make export and commit: {changed + gone}"


def test_readme_is_made_from_the_index():
    spec = importlib.util.spec_from_file_location("bridge", ROOT / "tools/site.py")
    bridge = importlib.util.module_from_spec(spec); spec.loader.exec_module(bridge)
    text = bridge.readme()
    assert (ROOT / "README.md").read_text() == text, "README.md differs from nbs/index.ipynb: run make export"
    links = [link for link in re.findall(r"\]\((?!https?:|#)([^)#]+)", text)]
    assert links and not [link for link in links if not (ROOT / link).exists()]


def test_notebooks_are_small_and_name_no_machine():
    for path in [*(ROOT / "nbs").rglob("*.ipynb"), *(ROOT / "reports").rglob("*.ipynb")]:
        if ".ipynb_checkpoints" in path.parts: continue
        text = path.read_text()
        assert len(text) <= 150 * 1024, f"{path.name} has {len(text) // 1024} kB; 150 are allowed"
        assert str(ROOT) not in text and str(Path.home()) + "/" not in text, (
            f"{path.name} names a path of this machine")


def test_every_module_says_where_it_comes_from():
    for path in MODULES:
        text = path.read_text()
        if "AUTOGENERATED" in text:
            assert (path.parent / re.search(r"File to edit: (\S+\.ipynb)", text)[1]).exists(), path
        else:
            assert path.name in ("_modidx.py",) or path.name == "__init__.py" and len(text) < 100, (
                f"{path} was not generated")


def test_reports_define_nothing():
    for path in (ROOT / "reports").glob("*.ipynb"):
        for cell in json.loads(path.read_text())["cells"]:
            if cell["cell_type"] != "code": continue
            tree = ast.parse("".join(cell["source"]))
            assert not [n for n in ast.walk(tree)
                        if isinstance(n, (ast.FunctionDef, ast.ClassDef, ast.Lambda))], (
                f"{path.name} defines something")


@pytest.mark.parametrize("line, absent", [
    ("import mlfixes", ["numpy", "typer"]),
    ("import mlfixes.cli", ["numpy", "pandas", "torch", "matplotlib"]),
    ("from mlfixes.bench import find_task; find_task('coreset').claims",
     ["pandas", "torch", "matplotlib", "scipy", "sklearn"])])
def test_imports_stay_light(line, absent):
    code = f"{line}; import sys; print([m for m in {absent} if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True,
                          check=True).stdout.strip() == "[]"
