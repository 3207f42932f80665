"""The speed table by hand: its clocks, its pairs, its words, and the whole command beside a stand-in for the published package."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from textwrap import dedent

import numpy as np
import pytest

from routewright.core.bench import Compared, Row, Spent, Worker, alternate, duration, median, peak_growth, table, timed
from routewright.core.types import InputError

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = ROOT / "scripts"


def test_medians_and_the_ratio_of_pairs_by_hand() -> None:
    """Ratios of the three runs: 2, 10, 3; their median is 3, not the 4 of the medians."""
    ours, theirs = iter([1.0, 1.0, 4.0]), iter([2.0, 10.0, 12.0])
    said: list[str] = []

    def side(name: str, times: object) -> Spent:
        said.append(name)
        return Spent(next(times), 0.0)  # type: ignore[call-overload]

    found = alternate(lambda: side("ours", ours), lambda: side("theirs", theirs), 3)
    assert said == ["ours", "theirs", "theirs", "ours", "ours", "theirs"]
    assert (found.ours.cpu, found.theirs and found.theirs.cpu, found.ratio) == (1.0, 10.0, 3.0)


def test_nobody_to_compare_with() -> None:
    found = alternate(lambda: Spent(2.0, 3.0), None, 2)
    assert found == Compared(Spent(2.0, 3.0), None, None)


def test_medians_are_of_each_clock() -> None:
    assert median([Spent(1, 9), Spent(2, 7), Spent(3, 8)]) == Spent(2, 8)
    assert Spent(3, 6).per(3) == Spent(1, 2)


def test_cpu_time_does_not_count_sleep() -> None:
    import time

    found = timed(lambda: time.sleep(0.05))
    assert found.wall >= 0.05
    assert found.cpu < found.wall


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="the system does not tell the peak")
def test_peak_growth_sees_memory_that_was_given_back() -> None:
    found = peak_growth(lambda: np.ones(8 * 2**20))  # 64 MiB, freed at once
    assert found is not None
    assert 60 < found < 80
    again = peak_growth(lambda: None)
    assert again is not None
    assert again < 30, "the peak before does not count"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(7200.0, "2 h"), (900.0, "15 min"), (82.0, "82 s"), (0.0821, "82.1 ms"), (1.63e-5, "16.3 µs"), (5e-8, "50 ns")],
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_the_table_by_hand() -> None:
    rows = [
        Row("mf", "fit", "fit", Compared(Spent(0.5, 0.6), Spent(3, 4), 6.04), note="n"),
        Row("bert", "train", "text", Compared(Spent(0.01, 0.02)), "it trains none"),
        Row("causal_llm", "-", "fit", None),
    ]
    assert table(rows).splitlines()[2:] == [
        "| mf | fit | 500 ms (600 ms) a fit | 3 s (4 s) a fit | 6.0x | n |",
        "| bert | train | 10 ms (20 ms) a text | it trains none | - |  |",
        "| causal_llm | - | - | not measured | - |  |",
    ]


# ---- the other program


def worker(tmp_path: Path, code: str) -> Worker:
    script = tmp_path / "other.py"
    script.write_text(dedent(code))
    return Worker(Path(sys.executable), script, {"HELLO": "there"})


def test_a_worker_answers_and_ends(tmp_path: Path) -> None:
    code = """
        import json, os, sys
        for line in sys.stdin:
            print(json.dumps({"got": json.loads(line), "env": [os.environ["HELLO"], os.environ["OMP_NUM_THREADS"]]}), flush=True)
    """
    with worker(tmp_path, code) as other:
        assert other.ask(do="x", n=1) == {"got": {"do": "x", "n": 1}, "env": ["there", "1"]}
    assert other.process.returncode == 0


def test_a_worker_that_dies_is_quoted(tmp_path: Path) -> None:
    with worker(tmp_path, "import sys; sys.exit('no such package')") as other, pytest.raises(InputError, match="no such package"):
        other.ask(do="x")


def test_a_worker_that_cannot_is_quoted(tmp_path: Path) -> None:
    code = """print('{"error": "no GPU"}', flush=True); input()"""
    with worker(tmp_path, code) as other, pytest.raises(InputError, match=r"other cannot do this in fit: found no GPU"):
        other.ask(do="fit")


# ---- the command

STAND_IN = {
    "__init__.py": "",
    "routers/__init__.py": "",
    # ranks by nothing, and says so of every query
    "routers/routers.py": """
        OPENAI_CLIENT = None

        def compute_elo_mle_with_tie(table):
            return sorted(set(table.model_a) | set(table.model_b))

        def compute_tiers(ratings, num_tiers):
            return {name: min(place, num_tiers - 1) for place, name in enumerate(ratings)}

        class SWRankingRouter:
            def calculate_strong_win_rate(self, prompt):
                asked = OPENAI_CLIENT.embeddings.create(input=[prompt], model="").data[0].embedding
                assert len(asked) == self.arena_conv_embedding.shape[1]
                print("published code prints")
                return 0.5
    """,
}


def bench(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(SCRIPTS / "bench.py"), "routers", "--quick", *words]
    return subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, "OMP_NUM_THREADS": "1"})


def test_the_command_beside_a_stand_in(tmp_path: Path) -> None:
    for name, code in STAND_IN.items():
        path = tmp_path / "src" / "routellm" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(dedent(code))
    ended = bench("--only", "sw_ranking", "--published", str(tmp_path / "src"), "--json", str(tmp_path / "rows.json"))
    assert ended.returncode == 0, ended.stderr
    assert "published code prints" not in ended.stdout
    written = json.loads((tmp_path / "rows.json").read_text())
    assert written["about"]["published"]["torch"]
    assert [row["what"].partition(",")[0] for row in written["rows"]] == ["fit", "predict", "predict"] * 2
    for row in written["rows"]:
        assert row["ours"]["cpu_s"] > 0
        assert row["theirs"]["cpu_s"] > 0
        assert row["ratio"] == pytest.approx(row["theirs"]["cpu_s"] / row["ours"]["cpu_s"]), "of a single run"
    assert "win rates at most" in written["rows"][1]["note"]
    assert ended.stdout.count("\n| sw_ranking |") == 6


def test_without_the_published_code_its_column_says_so() -> None:
    ended = bench("--only", "mf")
    assert ended.returncode == 0, ended.stderr
    rows = [line for line in ended.stdout.splitlines() if line.startswith("| mf |")]
    assert len(rows) == 8
    assert all("| not measured | - |" in row for row in rows)
    assert "validation loss 0.6" in rows[0]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--only", "mf,knn"], "unknown router in --only: expected sw_ranking, mf, bert, causal_llm, found knn"),
        (["--published", "/nowhere"], "no published code in --published /nowhere"),
        (["--runs", "0"], "no runs, no figures"),
    ],
)
def test_what_cannot_be_measured_is_one_line(words: list[str], said: str) -> None:
    ended = bench(*words)
    assert ended.returncode == 1
    assert ended.stderr.strip().splitlines()[-1].startswith(f"bench: {said}")


# ---- what is measured


def test_made_up_battles_can_be_learned_and_are_the_same_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(SCRIPTS))
    import bench_data

    from routewright.routers.mf import MF

    found, again = bench_data.duel(3000, 4, 32), bench_data.duel(3000, 4, 32)
    assert np.array_equal(found.train.queries.vectors(), again.train.queries.vectors())
    assert (len(found.train), len(found.held)) == (2850, 150)
    assert not {0.5} & set(found.train.outcome)
    router = MF(epochs=15, batch_size=64, lr=3e-3).fit(found.train, rng=np.random.default_rng(0))
    delta, rows = router.predict(found.held.queries).quality, np.arange(150)
    right = (delta[rows, found.held.a] > delta[rows, found.held.b]) == (found.held.outcome == 1)
    assert right.mean() > 0.62


def test_made_up_texts_are_as_long_as_mmlu_s(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of MMLU's 14,042 questions the median has 51 words and the mean 79."""
    monkeypatch.syspath_prepend(str(SCRIPTS))
    import bench_data

    counts = np.array([len(text.split()) for text in bench_data.graded(4000).queries.text])
    assert 50 < np.median(counts) < 64
    assert 68 < counts.mean() < 84


@pytest.mark.parametrize(("sure", "least"), [(0.0, 1), (50.0, 0)])
def test_the_fewest_epochs_that_reach_a_loss(monkeypatch: pytest.MonkeyPatch, sure: float, least: int) -> None:
    """One epoch is better than a coin; three are not as good as knowing every outcome."""
    monkeypatch.syspath_prepend(str(SCRIPTS))
    import bench_data
    import bench_routers

    data = bench_data.duel(3000, 4, 32)

    class Known(Worker):
        def __init__(self) -> None:
            pass

        def ask(self, **request: object) -> dict[str, object]:
            assert request == {"do": "logits"}
            return {"logits": [float(logit) for logit in sure * (2 * data.held.outcome - 1)]}

    assert bench_routers.enough(Known(), data, 3) == least
