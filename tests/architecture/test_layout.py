"""The house keeps its shape: who may import whom, what loads lazily, pairs of files, no pickle, no index hosts."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
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


def test_gateway_needs_numpy_onnxruntime_and_tokenizers_only() -> None:
    allowed = {"numpy", "onnxruntime", "tokenizers", "routewright.core.policy", "routewright.core.types"}
    for path in sources("gateway"):
        for name in imports(path):
            root = name.split(".")[0]
            fine = root in sys.stdlib_module_names or root in allowed or any(name == a or name.startswith(a + ".") for a in allowed)
            assert fine or name.startswith("routewright.gateway"), f"{path.name} imports {name}"


def test_gateway_loads_nothing_else() -> None:
    """In a fresh interpreter, with everything heavy made impossible to import."""
    banned = [name for name in HEAVY if name != "onnxruntime"] + ["hydra", "omegaconf", "safetensors", "rich", "jinja2", "pooch"]
    code = f"import sys\nfor name in {banned!r}: sys.modules[name] = None\nimport routewright.gateway.bundle"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT.parent)


def test_core_policy_and_types_need_numpy_alone() -> None:
    for name in ("policy.py", "types.py"):
        for module in imports(ROOT / "core" / name):
            root = module.split(".")[0]
            assert root in sys.stdlib_module_names or root == "numpy" or module.startswith("routewright.core.types")


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
