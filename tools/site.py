"""The bridge from notebooks to readers: `readme` writes README.md, `execute` stores outputs in notebooks."""
import re, subprocess, sys
from pathlib import Path

import nbformat
from nbconvert import MarkdownExporter

ROOT = Path(__file__).parent.parent
NOTE = "<!-- Made from nbs/index.ipynb by `make export`; edit that notebook. -->\n\n"


def readme() -> str:
    "The front page as Markdown: nbs/index.ipynb without hidden cells, `#|` lines and execution noise."
    notebook = nbformat.read(ROOT / "nbs/index.ipynb", 4)
    notebook.cells = [cell for cell in notebook.cells
                      if not re.search(r"^#\|\s*(hide|default_exp)", cell.source, re.M)]
    for cell in notebook.cells:
        silent = re.search(r"^#\|\s*echo:\s*false", cell.source, re.M)
        cell.source = "" if silent else re.sub(r"^#\|.*\n?", "", cell.source, flags=re.M)
    notebook.metadata["language_info"] = {"name": "python"}          # colours the code on the front page
    text, _ = MarkdownExporter().from_notebook_node(notebook)
    text = text.replace("```python\n\n```\n", "")
    # links relative to nbs/
    text = re.sub(r"\]\((?!https?:|#)([^)]+)", r"](nbs/\1", text).replace("](nbs/../", "](")
    return NOTE + re.sub(r"\n{3,}", "\n\n", text).strip() + "\n"


def _noise(output) -> bool:
    "Progress rather than result: stderr, and widgets."
    return output.get("name") == "stderr" or any("widget" in kind for kind in output.get("data", ()))


def execute():
    "Runs the front page and keeps its outputs, which the README shows."
    subprocess.run([sys.executable, "-m", "nbconvert", "--to", "notebook", "--execute", "--inplace",
                    "--log-level=ERROR", str(ROOT / "nbs/index.ipynb")], check=True)
    notebook = nbformat.read(ROOT / "nbs/index.ipynb", 4)
    notebook.metadata.pop("widgets", None)
    for cell in notebook.cells:
        if cell.cell_type == "code": cell.outputs = [o for o in cell.outputs if not _noise(o)]
    nbformat.write(notebook, ROOT / "nbs/index.ipynb")
    subprocess.run([str(Path(sys.executable).with_name("nbdev_clean"))], check=True, cwd=ROOT)


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["readme"]: (ROOT / "README.md").write_text(readme(), encoding="utf-8")
        case ["execute"]: execute()
        case _: sys.exit("usage: python tools/site.py readme | execute")
