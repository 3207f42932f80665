"""The contract suite: every configs/grader/*.yaml is built by Hydra and must keep every promise of core/contracts.Grader."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import pytest
from hydra.utils import get_class, instantiate
from omegaconf import OmegaConf

from routewright.core.contracts import Grader
from routewright.core.types import InputError

ROOT = Path(__file__).resolve().parents[2]
CONFIGS = sorted((ROOT / "configs" / "grader").glob("*.yaml"))
NAMES = [path.stem for path in CONFIGS]

# for each grader: a gold, an answer that is right in other words, and one that is wrong
EXAMPLES = {
    "choice": ("B", "So the correct option is **(b)**.", "The answer is A and B."),
    "exact": ("label_3", " label_3\n", "Label_3"),
    "json_equal": ('{"a": 1, "b": [true]}', 'Here:\n```json\n{"b": [true], "a": 1.0}\n```', '{"a": 1}'),
    "normalised": ("New York City|NYC", "**Answer:** new york city.", "York"),
    "number": ("1/2", "The answer is 0.50.", "51"),
    "regex": ("18", "9 * 2 = 18\n#### 18", "18"),
    "unit_tests": ("assert double(2) == 4", "```python\ndef double(x):\n    return 2 * x\n```", "def double(x): return x"),
}

HOSTILE = [
    *(
        "",
        " ",
        "\n" * 5000,
        "\0",
        "\0" * 5000,
        "\ud800",
        "\udfff\ud800",
        "a\ud800" * 500,
        "\ufeff",
        "\u202e(B)\u202c",
        "\u200f\u05d0\u05d1 4",
    ),
    *(
        "\U0001f600" * 500,
        "\U0001f468\u200d\U0001f469\u200d\U0001f467",
        "\u0301" * 5000,
        "a" + "\u0301\u0323" * 5000,
        "\ufdfa" * 500,
        "\x1b[31mB\x1b[0m",
    ),
    *(
        "(" * 100_000,
        "[" * 100_000,
        "{" * 100_000,
        "[" * 50_000 + "]" * 50_000,
        '{"a":' * 50_000,
        "\\boxed{" * 20_000,
        "<" * 50_000,
        "```" * 20_000,
    ),
    *(
        '["' * 20_000,
        '"' * 50_001,
        "\\" * 50_001,
        "a" * 50_000 + "!",
        "aaaa " * 20_000,
        "=" * 50_000,
        "-" * 50_000,
        "A, " * 20_000,
        "no, " * 20_000,
    ),
    *(
        "9" * 50_000,
        "0." + "0" * 50_000 + "1",
        "1e999999999",
        "10^99999",
        "1/0",
        "-" * 999 + "1",
        "1," * 20_000,
        "NaN",
        "Infinity",
        "-0",
        "0x1F",
        "\u0661\u0662",
    ),
    *(
        "null",
        "true",
        "{}",
        "[]",
        '{"a": 1, "a": 2}',
        "[NaN]",
        "${oc.env:HOME}",
        "%s%n{0}",
        "'; DROP TABLE x; --",
        "__import__('os').abort()",
    ),
    *(
        "import sys; sys.exit(0)",
        "```python\nimport os\nos._exit(0)\n```",
        "raise SystemExit",
        "def f(:",
        "\r\n\r\r\n",
        "\u2028\u2029\x85",
        "|",
        "the",
        "I",
    ),
]


def config(name: str) -> Any:
    return OmegaConf.load(ROOT / "configs" / "grader" / f"{name}.yaml")


def make(name: str) -> Grader:
    grader: Grader = instantiate(config(name))
    return grader


@pytest.fixture(params=NAMES)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_every_grader_has_a_config_and_every_config_a_grader_and_an_example() -> None:
    files = {path.stem for path in (ROOT / "data" / "graders").glob("*.py") if not path.stem.startswith("_")}
    assert files == set(NAMES) == set(EXAMPLES), "a new grader needs a YAML of its name and a row of EXAMPLES"
    for path in CONFIGS:
        target = OmegaConf.load(path)["_target_"]
        assert target.startswith(f"routewright.data.graders.{path.stem}."), f"{path.name} names {target}"
        first = path.read_text().partition("\n")[0]
        assert first.startswith("# "), f"{path.name} begins with a comment that says what it is"
        assert len(first) >= 18


def test_init_only_stores_its_arguments(name: str) -> None:
    settings = {key: value for key, value in config(name).items() if key != "_target_"}
    cls = get_class(config(name)["_target_"])
    assert set(inspect.signature(cls).parameters) == set(settings), "the YAML lists every option"
    sentinels = {key: object() for key in settings}  # unusable values: anything but storing them would fail
    assert vars(cls(**sentinels)) == sentinels
    defaults = {key: parameter.default for key, parameter in inspect.signature(cls).parameters.items()}
    for key, value in settings.items():
        default = defaults[key]
        assert default is inspect.Parameter.empty or value == (list(default) if isinstance(default, tuple) else default) or name == "regex"


def test_it_is_a_grader(name: str) -> None:
    grader = make(name)
    assert isinstance(grader, Grader)
    assert isinstance(grader.needs_gold, bool)
    with pytest.raises(AttributeError):
        grader.needs_gold = False  # frozen


def test_right_is_one_and_wrong_is_zero(name: str) -> None:
    gold, right, wrong = EXAMPLES[name]
    grader = make(name)
    assert grader.grade(right, gold, question="Which?") == 1
    assert grader.grade(wrong, gold, question="Which?") == 0
    assert grader.grade("", gold) == 0, "an answer without anything to grade"
    assert grader.extract("") is None


def test_a_gold_that_holds_nothing_is_refused(name: str) -> None:
    with pytest.raises(InputError):
        make(name).grade(EXAMPLES[name][1], "")


def test_no_answer_makes_it_raise_and_the_same_answer_has_the_same_grade(name: str) -> None:
    assert len(set(HOSTILE)) >= 40
    gold, right, _ = EXAMPLES[name]
    grader, again = make(name), make(name)
    for answer in [*HOSTILE, right, gold, right + HOSTILE[5], right * 50]:
        spelling, grade = grader.extract(answer), grader.grade(answer, gold)
        assert spelling is None or isinstance(spelling, str)
        assert isinstance(grade, float)
        assert 0 <= grade <= 1
        assert (again.extract(answer), again.grade(answer, gold)) == (spelling, grade), repr(answer[:40])


def test_equal_spellings_have_equal_grades(name: str) -> None:
    gold, right, _ = EXAMPLES[name]
    grader = make(name)
    spelling = grader.extract(right)
    assert spelling
    if name != "regex":  # what a pattern finds need not hold the pattern
        assert grader.extract(spelling) == spelling
        assert grader.grade(spelling, gold) == grader.grade(right, gold)
