"""The price book and the ledger: tokens to dollars at dated prices. Unknown usage is refused or NaN, never assumed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from routewright.core.types import TOKEN_KINDS, Floats, InputError, Outcomes, Pool

PRICE_KEYS = ("input", "output", "cached_input", "reasoning", "call")
PER_MILLION = 1e-6
SUSPECT_ROWS = 20  # as many equal output counts are a default somebody filled in, not a measurement


@dataclass(frozen=True, kw_only=True)
class PriceBook:
    """What each model costs at one date. models: name -> prices in USD per million tokens, and `call` in USD per call.

    Keys of a model: input and output (needed); cached_input (no default: unknown); reasoning (default: the output price); call (default 0).
    date, source and currency say when and where the prices were read; currency must be USD. nominal: nobody charges these prices; costs
    made of them are called so everywhere.
    """

    date: str
    source: str
    models: Mapping[str, Mapping[str, float]]
    currency: str = "USD"
    nominal: bool = False

    def prices(self, name: str) -> dict[str, float]:
        """This model's prices, checked, with `call` filled in. Raises InputError for an unknown model, a missing or an impossible price."""
        if self.currency != "USD":
            raise InputError(
                f"prices of {self.date} are not in USD", expected="USD", found=self.currency, mend="Convert them, with the date."
            )
        if name not in self.models:
            raise InputError(
                f"model {name!r} has no price",
                where=f"the price book of {self.date}",
                expected="one of " + ", ".join(sorted(self.models)),
                found=repr(name),
                mend="Add it under models: or choose another prices=...",
            )
        given = dict(self.models[name])
        unknown, missing = sorted(set(given) - set(PRICE_KEYS)), [key for key in ("input", "output") if key not in given]
        bad = [f"{key}={value}" for key, value in given.items() if not _is_price(value)]
        if unknown or missing or bad:
            raise InputError(
                f"the price of {name!r} is not usable",
                where=f"the price book of {self.date}",
                expected="input and output, finite and >= 0, and at most " + ", ".join(PRICE_KEYS[2:]),
                found="; ".join([*(f"unknown {key}" for key in unknown), *(f"no {key}" for key in missing), *bad]),
            )
        return {"call": 0.0, **{key: float(value) for key, value in given.items()}}

    def pool(self, names: Sequence[str]) -> Pool:
        """The pool of these models, in order, at these prices. Raises InputError that lists the known models for an unknown one."""
        prices = [self.prices(name) for name in names]

        def column(key: str) -> Floats:
            return np.array([price.get(key, np.nan) * PER_MILLION for price in prices], dtype=np.float64)

        calls = np.array([price["call"] for price in prices], dtype=np.float64)
        return Pool(tuple(names), column("input"), column("cached_input"), column("output"), calls)

    def cost(self, pool: Pool, tokens: Mapping[str, Floats], usage: str) -> Floats:
        """USD of every call, (n, m), from token counts by kind, each (n, m).

        input counts all prompt tokens, cached_input those of them read from a prompt cache; output and reasoning are counted apart:
        (input - cached) * p_input + cached * p_cached + output * p_output + reasoning * p_reasoning + p_call. A NaN count gives a NaN cost.
        usage: measured, estimated or nominal. Raises InputError for missing input or output counts, for impossible counts, for cached
        tokens without a cached price, and for measured usage that is missing, all zero or constant.
        """
        counts = _counts(pool, tokens, usage)
        if usage == "measured":
            _refuse_implausible(pool, counts)
        fresh, cached = counts["input"] - counts["cached_input"], counts["cached_input"]
        for j, name in enumerate(pool.name):
            if np.isnan(pool.usd_cached_input[j]) and np.any(cached[:, j] > 0):
                raise InputError(
                    f"model {name!r} has cached input tokens but no price for them",
                    where=f"the price book of {self.date}",
                    expected="cached_input, USD per million tokens",
                    found="none",
                    mend="Add it; prompt caches are billed at a price of their own.",
                )
        # 0 cached tokens cost nothing whether or not their price is known; a NaN count stays NaN
        usd_cached = np.where(np.isnan(pool.usd_cached_input), 0.0, pool.usd_cached_input)
        usd: Floats = (
            fresh * pool.usd_input
            + cached * usd_cached
            + counts["output"] * pool.usd_output
            + counts["reasoning"] * self._reasoning(pool)
            + pool.usd_call
        )
        return usd

    def usd(self, name: str, tokens: Mapping[str, float] | None) -> float:
        """USD of one call of this model by the rule of `cost`; NaN where tokens is None or lacks the input or the output count.

        Raises InputError as `cost` does, and for a model without a price.
        """
        if tokens is None or any(kind not in tokens for kind in ("input", "output")):
            return float("nan")
        cell = {kind: np.array([[count]], dtype=np.float64) for kind, count in tokens.items()}
        return float(self.cost(self.pool([name]), cell, "nominal")[0, 0])

    def _reasoning(self, pool: Pool) -> Floats:
        """USD a reasoning token, (m,): the book's own price where it has one, else the output price."""
        own = [self.prices(name).get("reasoning") if name in self.models else None for name in pool.name]
        return np.array([pool.usd_output[j] if price is None else price * PER_MILLION for j, price in enumerate(own)], dtype=np.float64)


def _is_price(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and bool(np.isfinite(value)) and value >= 0


def _counts(pool: Pool, tokens: Mapping[str, Floats], usage: str) -> dict[str, Floats]:
    """Every kind as float64 (n, m), absent cached and reasoning counts as 0. Raises InputError for anything that cannot be a count."""
    if usage not in ("measured", "estimated", "nominal"):
        raise InputError(
            "usage has no cost", expected="measured, estimated or nominal", found=repr(usage), mend="Say where the counts come from."
        )
    absent = [kind for kind in ("input", "output") if kind not in tokens]
    unknown = [kind for kind in tokens if kind not in TOKEN_KINDS]
    if absent or unknown:
        raise InputError(
            f"{usage} usage lacks token counts" if absent else "unknown kind of tokens",
            expected="input and output, and at most " + ", ".join(TOKEN_KINDS),
            found=", ".join(tokens) or "none",
            mend="Give the counts: a missing one is not assumed.",
        )
    given = {kind: np.asarray(value, dtype=np.float64) for kind, value in tokens.items()}
    shape = (len(given["input"]), len(pool)) if given["input"].ndim else (0, len(pool))
    counts: dict[str, Floats] = {kind: given.get(kind, np.zeros(shape)) for kind in TOKEN_KINDS}
    for kind, value in counts.items():
        if value.shape != shape:
            raise InputError(f"tokens[{kind}] has the wrong shape", expected=str(shape), found=str(value.shape))
        _no_row(np.isinf(value) | (value < 0), f"tokens[{kind}] is no count", "finite counts >= 0, or NaN", value, pool)
    over = counts["cached_input"] > counts["input"]
    _no_row(over, "more cached than input tokens", "input to count all prompt tokens, cached ones among them", counts["cached_input"], pool)
    return counts


def _no_row(bad: np.ndarray[Any, Any], what: str, expected: str, value: Floats, pool: Pool) -> None:
    """Raises InputError that names the first bad cell, if there is one."""
    if bad.any():
        row, column = (int(i) for i in np.argwhere(bad)[0])
        raise InputError(what, where=f"row {row}, model {pool.name[column]!r}", expected=expected, found=str(value[row, column]))


def _refuse_implausible(pool: Pool, counts: Mapping[str, Floats]) -> None:
    """Measured usage must look measured, model by model."""
    for j, name in enumerate(pool.name):
        prompt, answer = counts["input"][:, j], counts["output"][:, j] + counts["reasoning"][:, j]
        prompt, answer = prompt[~np.isnan(prompt)], answer[~np.isnan(answer)]
        fault = ""
        if not len(prompt) or not len(answer):
            fault = "no counts at all"
        elif not prompt.any() or not answer.any():
            fault = f"only zeros for {'output' if prompt.any() else 'input'} tokens"
        elif len(answer) >= SUSPECT_ROWS and np.all(answer == answer[0]):
            fault = f"{len(answer)} equal output counts of {answer[0]:g}"
        if fault:
            raise InputError(
                f"the measured usage of model {name!r} was not measured",
                expected="the provider's own token counts, which vary",
                found=fault,
                mend="Take them from the logs, or say usage=estimated and count the texts with a tokenizer.",
            )


def ledger(outcomes: Outcomes) -> dict[str, Any]:
    """What this table cost: total USD and USD by model over all calls with a known cost, tokens by kind, calls without a cost by model.

    Keys: usd, usd_by_model, tokens, rows, rows_without_cost, usage. NaN cells count as calls without a cost, never as free ones.
    """
    names = outcomes.pool.name
    by_model = np.nansum(outcomes.cost, axis=0)
    without = np.isnan(outcomes.cost).sum(axis=0)
    return {
        "usd": float(by_model.sum()),
        "usd_by_model": {name: float(usd) for name, usd in zip(names, by_model, strict=True)},
        "tokens": {kind: float(np.nansum(count)) for kind, count in outcomes.tokens.items()},
        "rows": len(outcomes),
        "rows_without_cost": {name: int(count) for name, count in zip(names, without, strict=True)},
        "usage": outcomes.usage,
    }
