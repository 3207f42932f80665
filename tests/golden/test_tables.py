"""write_outcomes and read_outcomes: an exact round trip of everything, views into the map, whole files only."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from routewright.core.types import InputError, Outcomes, Pool, Queries
from routewright.data.tables import is_outcomes, read_metadata, read_outcomes, write_outcomes

UNIT = st.one_of(st.just(float("nan")), st.floats(0, 1, width=32))
USD = st.one_of(st.just(float("nan")), st.floats(0, 1e9))
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


@st.composite
def tables(draw: Any) -> Outcomes:
    n, m, d = draw(st.integers(1, 5)), draw(st.integers(1, 4)), draw(st.integers(1, 3))

    def matrix(values: Any, dtype: Any = np.float64, width: int = m) -> Any:
        return draw(arrays(dtype, (n, width), elements=values))

    def maybe(value: Any) -> Any:
        return value if draw(st.booleans()) else None

    texts = np.array([*draw(st.lists(TEXT, min_size=n, max_size=n)), ""], dtype=object)[:-1]
    queries = Queries(
        np.array([f"é{i}" for i in range(n)], dtype=object),
        texts,
        texts[::-1],
        maybe(matrix(st.floats(-1, 1, width=32), np.float32, d)),
    )
    prices = draw(arrays(np.float64, (4, m), elements=USD))
    pool = Pool(tuple(f"m{j}" for j in range(m)), *prices, variant=tuple(draw(st.lists(TEXT, min_size=m, max_size=m))))
    answer = np.array([None, *draw(st.lists(st.none() | TEXT, min_size=n * m, max_size=n * m))], dtype=object)[1:].reshape(n, m)
    return Outcomes(
        queries,
        pool,
        matrix(UNIT, np.float32),
        matrix(USD),
        tokens={"input": matrix(USD)} if draw(st.booleans()) else {},
        usage=draw(st.sampled_from(["measured", "none"])),
        latency=maybe(matrix(USD, np.float64)),
        answer=maybe(answer),
        signals={"log:prob": matrix(UNIT, np.float32)} if draw(st.booleans()) else {},
        propensity=maybe(draw(arrays(np.float64, n, elements=UNIT))),
        logged=maybe(draw(arrays(np.int64, n, elements=st.integers(0, m - 1)))),
    )


def same(one: Any, other: Any) -> None:
    """Equal in value, type and shape, NaN included, all the way down."""
    assert type(one) is type(other)
    if isinstance(one, np.ndarray):
        assert one.dtype == other.dtype
        np.testing.assert_array_equal(one, other)
    elif isinstance(one, dict):
        assert one.keys() == other.keys()
        for name in one:
            same(one[name], other[name])
    elif hasattr(one, "__dataclass_fields__"):
        for name in one.__dataclass_fields__:
            same(getattr(one, name), getattr(other, name))
    else:
        assert one == other


@settings(max_examples=30)
@given(tables(), st.sampled_from(["t.parquet", "t.arrow"]), st.booleans())
def test_round_trip_is_exact(outcomes: Outcomes, name: str, memory_map: bool) -> None:
    with TemporaryDirectory() as folder:
        path = write_outcomes(Path(folder) / name, outcomes, {"note": "é"})
        same(outcomes, read_outcomes(path, memory_map))
        assert read_metadata(path) == {"note": "é"}
        assert list(Path(folder).iterdir()) == [path]
        first = path.read_bytes()
        assert write_outcomes(path, outcomes, {"note": "é"}).read_bytes() == first


def test_numbers_are_views_into_the_map(tmp_path: Path, outcomes: Outcomes) -> None:
    path = write_outcomes(tmp_path / "t.arrow", outcomes)
    pa = pytest.importorskip("pyarrow")
    before = pa.total_allocated_bytes()
    again = read_outcomes(path)
    assert pa.total_allocated_bytes() - before < outcomes.queries.vectors().nbytes / 2, "the numbers were copied"
    for array in (again.quality, again.cost, again.queries.vectors()):
        assert not array.flags.owndata
        assert not array.flags.writeable
    same(again.take(np.arange(5)), outcomes.take(np.arange(5)))


def test_answers_may_stay_on_disk(tmp_path: Path, outcomes: Outcomes) -> None:
    answer = np.full(outcomes.quality.shape, "long", dtype=object)
    path = write_outcomes(tmp_path / "t.arrow", Outcomes(outcomes.queries, outcomes.pool, outcomes.quality, outcomes.cost, answer=answer))
    assert read_outcomes(path, answers=False).answer is None
    assert read_outcomes(path).answer is not None


def test_files_of_another_kind_are_refused(tmp_path: Path, outcomes: Outcomes) -> None:
    pandas = pytest.importorskip("pandas")
    other = tmp_path / "other.parquet"
    pandas.DataFrame({"a": [1]}).to_parquet(other)
    assert not is_outcomes(other)
    with pytest.raises(InputError, match="holds no outcomes"):
        read_outcomes(other)
    with pytest.raises(InputError, match="no such file"):
        read_outcomes(tmp_path / "none.arrow")
    with pytest.raises(InputError, match="unknown kind of table"):
        write_outcomes(tmp_path / "t.csv", outcomes)
    half = tmp_path / "half.arrow"
    whole = write_outcomes(tmp_path / "t.arrow", outcomes).read_bytes()
    half.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match="cannot be read"):
        read_outcomes(half)
    answer = np.full(outcomes.quality.shape, 3, dtype=object)
    with pytest.raises(InputError, match="Arrow cannot store"):
        write_outcomes(half, Outcomes(outcomes.queries, outcomes.pool, outcomes.quality, outcomes.cost, answer=answer))
    assert half.read_bytes() == whole[: len(whole) // 2], "a refused write touched the file"
