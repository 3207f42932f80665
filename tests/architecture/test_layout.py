"""The house keeps its shape: who may import whom, what loads lazily, pairs of files, no pickle, no index hosts."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("core", "data", "routers", "eval", "gateway")
HEAVY = (
    "torch",
    "pandas",
    "sklearn",
    "scipy",
    "matplotlib",
    "onnx",
    "onnxruntime",
    "transformers",
    "mlflow",
    "pyarrow",
    "sentence_transformers",
    "openai",
    "aiohttp",
)
LAZY = ("onnxruntime", "tokenizers")  # what the gateway needs beside numpy, imported where it is used
BUNDLES = ("bundle.py", "cascade.py")  # what decides: it runs where none of these is
HOSTS = ("litellm", "prometheus_client", "starlette", "uvicorn")


def sources(*folders: str) -> list[Path]:
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))


def imports(path: Path, *, top_only: bool = False) -> set[str]:
    """Every module that a file imports; top_only: when it is itself imported, type checking aside."""
    tree = ast.parse(path.read_text())
    nodes = (
        [node for node in tree.body if not (isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test))] if top_only else [tree]
    )
    found: set[str] = set()
    for node in (inner for outer in nodes for inner in (ast.walk(outer) if not top_only else [outer])):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


@pytest.mark.parametrize("package", PACKAGES)
def test_packages_see_only_core(package: str) -> None:
    others = {f"routewright.{name}" for name in PACKAGES if name not in (package, "core")}
    for path in sources(package):
        wrong = {name for name in imports(path) if any(name == other or name.startswith(other + ".") for other in others)}
        assert not wrong, f"{path.relative_to(ROOT)} imports {sorted(wrong)}; what one package needs of another is handed in"


def test_no_bare_import_of_a_package() -> None:
    for path in sources(*PACKAGES, "tests"):
        wrong = {name for name in imports(path) if name.split(".")[0] in PACKAGES}
        assert not wrong, f"{path.relative_to(ROOT)} imports {sorted(wrong)} and would make a second copy of every class"


def test_heavy_imports_are_lazy() -> None:
    for path in sources(*PACKAGES):
        wrong = {name for name in imports(path, top_only=True) if name.split(".")[0] in HEAVY}
        assert not wrong, f"{path.relative_to(ROOT)} imports {sorted(wrong)} when it is imported"


def runs(tree: ast.AST) -> Iterator[ast.AST]:
    """Every node of a file that can run, whether it is at the top or inside a function: type checking aside."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            for other in node.orelse:
                yield from (other, *runs(other))
            continue
        yield node
        yield from runs(node)


def needed(path: Path) -> set[str]:
    """Every module that a file may import when it runs; `from . import x` and imports by a name that is worked out count as "?"."""
    found: set[str] = set()
    for node in runs(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            module = "?" if node.level or not node.module else node.module
            # `from package import module` needs the module, `from module import name` the module alone
            inner = (
                {f"{module}.{alias.name}" for alias in node.names} if module.startswith("routewright") and module.count(".") == 1 else set()
            )
            found |= inner or {module}
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in ("__import__", "import_module", "importlib.import_module"):
            found.add("?")
    return found


def reached(root: Path, files: list[Path]) -> list[Path]:
    """These files, and every module of gateway/ and core/ that they come to import, by whatever way."""
    found = list(files)
    for path in found:  # grows on the way
        names = sorted(
            {tuple(name.split(".")[1:3]) for name in needed(path) if name.startswith(("routewright.core.", "routewright.gateway."))}
        )
        found += [file for folder, name in names if (file := root / folder / f"{name}.py") not in found]
    return found


def at_the_gateway(root: Path) -> list[Path]:
    """All of gateway/ and the part of core/ that it reaches."""
    return reached(root, sorted((root / "gateway").rglob("*.py")))


def too_heavy(root: Path) -> list[str]:
    """Imports that do not belong beside a gateway: all but the standard library, numpy, gateway/, core/ and, in functions, LAZY.

    In functions too, a file of gateway/ may import the HOSTS that it is for, unless a bundle needs that file.
    """
    wrong, deciding = [], reached(root, [file for name in BUNDLES if (file := root / "gateway" / name).is_file()])
    for path in at_the_gateway(root):
        mine = ("routewright.core.", "routewright.gateway.") if path.parent.name == "gateway" else ("routewright.core.",)
        late = LAZY + (() if path in deciding or path.parent.name == "core" else HOSTS)
        first = {name.split(".")[0] for name in imports(path, top_only=True)}
        for name in sorted(needed(path)):
            head = name.split(".")[0]
            if not (head in sys.stdlib_module_names or head == "numpy" or (head in late and head not in first) or name.startswith(mine)):
                wrong.append(f"{path.parent.name}/{path.name} imports {name}")
    return wrong


def test_gateway_needs_numpy_onnxruntime_and_tokenizers_only() -> None:
    """Of core it may import any module that needs no more, however many modules lie between."""
    assert not too_heavy(ROOT)


@pytest.mark.parametrize(
    ("deep", "wrong"),
    [
        ("import numpy as np\nfrom routewright.core.types import Floats", None),
        ("def f():\n    import tokenizers", None),
        ("import tokenizers", "core/deep.py imports tokenizers"),
        ("def f():\n    if True:\n        import torch.nn", "core/deep.py imports torch.nn"),
        ("class A:\n    def f(self):\n        from scipy.stats import norm", "core/deep.py imports scipy.stats"),
        ("from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import onnx", None),
        ("from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import onnx\nelse:\n    import pandas", "core/deep.py imports pandas"),
        ("from routewright.data.split import folds", "core/deep.py imports routewright.data.split"),
        ("from routewright.gateway.bundle import Bundle", "core/deep.py imports routewright.gateway.bundle"),
        ("from . import types", "core/deep.py imports ?"),
        ("import importlib\nimportlib.import_module('torch')", "core/deep.py imports ?"),
    ],
)
def test_what_the_gateway_must_not_import_is_found_two_modules_away(tmp_path: Path, deep: str, wrong: str | None) -> None:
    """The list of core modules is read off the imports: gateway -> core/near.py, in a function -> core/deep.py."""
    (tmp_path / "core").mkdir()
    (tmp_path / "gateway").mkdir()
    (tmp_path / "gateway" / "bundle.py").write_text("from routewright.core import near")
    (tmp_path / "core" / "near.py").write_text("def f():\n    from routewright.core.deep import g")
    (tmp_path / "core" / "deep.py").write_text(deep)
    (tmp_path / "core" / "types.py").write_text("import numpy")
    (tmp_path / "core" / "aside.py").write_text("import torch")  # nobody at the gateway imports it
    assert too_heavy(tmp_path) == ([wrong] if wrong else [])


@pytest.mark.parametrize(
    ("bundle", "hook", "wrong"),
    [
        ("import numpy", "def f():\n    import litellm", []),
        ("import numpy", "import litellm", ["gateway/hook.py imports litellm"]),
        ("import numpy", "def f():\n    import torch", ["gateway/hook.py imports torch"]),
        ("from routewright.gateway.hook import f", "def f():\n    import litellm", ["gateway/hook.py imports litellm"]),
    ],
)
def test_a_host_is_imported_in_functions_of_what_no_bundle_needs(tmp_path: Path, bundle: str, hook: str, wrong: list[str]) -> None:
    (tmp_path / "gateway").mkdir()
    (tmp_path / "gateway" / "bundle.py").write_text(bundle)
    (tmp_path / "gateway" / "hook.py").write_text(hook)
    assert too_heavy(tmp_path) == wrong


def test_gateway_loads_nothing_else() -> None:
    """In a fresh interpreter, with everything heavy made impossible to import, all of it and of the core that it reaches."""
    banned = [*HEAVY, *LAZY, *HOSTS, "hydra", "omegaconf", "safetensors", "rich", "jinja2", "pooch"]
    modules = [f"routewright.{path.parent.name}.{path.stem}" for path in at_the_gateway(ROOT) if path.stem != "__init__"]
    lines = ["import sys", f"for name in {banned!r}: sys.modules[name] = None", *(f"import {module}" for module in modules)]
    subprocess.run([sys.executable, "-c", "\n".join(lines)], check=True, cwd=ROOT.parent)


def test_every_file_says_its_job() -> None:
    for path in [*sources(*PACKAGES, "tests", "scripts"), *ROOT.glob("*.py")]:
        text = path.read_text()
        if text.strip():
            first = (ast.get_docstring(ast.parse(text)) or "").partition("\n")[0]
            assert len(first) > 10, f"{path.relative_to(ROOT)} has no first line that says what it is for"


@pytest.mark.parametrize(
    ("folder", "group"),
    [
        ("routers", "router"),
        ("routers/cascades", "cascade"),
        ("routers/signals", "signal"),
        ("routers/students", "student"),
        ("data/backends", "backend"),
        ("data/graders", "grader"),
        ("data/sources", "data"),
    ],
)
def test_components_and_their_configs_come_in_pairs(folder: str, group: str) -> None:
    code = {path.stem for path in (ROOT / folder).glob("*.py") if not path.stem.startswith("_") and path.stem != "base"}
    configs = {path.stem for path in (ROOT / "configs" / group).glob("*.yaml")}
    assert code == configs


def test_no_pickle_and_no_index_hosts() -> None:
    hosts = re.compile(r"pypi\.org|pythonhosted|registry\.npmjs|files\.python")
    for path in [*sources(*PACKAGES), *ROOT.glob("*.py"), ROOT / "Makefile", ROOT / "requirements.lock", ROOT / "pyproject.toml"]:
        text = path.read_text()
        assert not hosts.search(text), f"{path.name} names a package index"
        assert "weights_only=False" not in text
        assert "allow_pickle=True" not in text


def test_modules_stay_short() -> None:
    long = {str(path.relative_to(ROOT)): count for path in sources(*PACKAGES) if (count := len(path.read_text().splitlines())) > 425}
    assert not long
