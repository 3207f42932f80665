"""From an interval to words: does the router help against the best fixed mix at matched cost, and what may not be said at all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from routewright.core.types import Floats, Ints
from routewright.eval import stats

HELPS, NO_EVIDENCE, HURTS = "helps", "no evidence that it helps", "hurts"
UNIT = "mean quality above the best fixed mix of single models at the same cost, between the cheapest and the best model's cost"
CARRIES = 4.0  # standard errors: with less, dividing by the gap makes APGR explode (a pair of near equals once gave .874 [.602, 1.81])


def word(ci: Sequence[float] | None) -> str:
    """helps if the whole interval is above 0, hurts if it is below, else no evidence."""
    if ci is None:
        return NO_EVIDENCE
    return HELPS if ci[0] > 0 else HURTS if ci[1] < 0 else NO_EVIDENCE


def judge(
    router: str, difference: float, replicates: Floats, rivals: Mapping[str, tuple[float, Floats]], *, clustered: bool, n: int
) -> dict[str, Any]:
    """The verdict with its interval and a sentence, from the paired bootstrap of the difference (quality in [0, 1]).

    rivals: controls by name that know less, each with its own difference and the replicates of it from the same resamples. `unbeaten` lists
    those that the router is not shown to beat: what it seems to know may be no more than they do.
    """
    ci = stats.interval(replicates)
    if ci is not None and max(abs(ci[0]), abs(ci[1])) < 1e-9:
        ci = [0.0, 0.0]  # rounding of a difference that is exactly nothing must not become evidence
    said = word(ci)
    unit = "groups" if clustered else "queries"
    span = f"[{100 * ci[0]:+.2f}, {100 * ci[1]:+.2f}]" if ci else "without an interval"
    claim = {HELPS: f"{router} helps", HURTS: f"{router} hurts", NO_EVIDENCE: f"There is no evidence that {router} helps"}[said]
    shown = 100 * difference if abs(difference) >= 5e-5 else 0.0  # no minus before a zero
    sentence = (
        f"{claim}: {shown:+.2f} quality points {span} (95 %, {n} test queries, paired bootstrap over {unit}) "
        "against the best fixed mix of single models at the same cost."
    )
    unbeaten = {name: found for name, (found, values) in rivals.items() if not _above(replicates - values)}
    if said == HELPS and unbeaten:
        told = ", ".join(f"{name.replace('_', ' ')} ({100 * found:+.2f})" for name, found in unbeaten.items())
        sentence += f" But it is not shown to beat what knows less: {told}."
    return {"word": said, "difference": difference, "ci": ci, "unit": UNIT, "sentence": sentence, "unbeaten": sorted(unbeaten)}


def _above(differences: Floats) -> bool:
    ci = stats.interval(differences)
    return ci is not None and ci[0] > 0


def gap_reason(weak: Floats, strong: Floats, units: Ints) -> str | None:
    """Why PGR, APGR and CPT may not be quoted for quality weak[n] and strong[n], or None where the gap carries them."""
    gap = float(np.mean(strong - weak))
    if gap <= 0:
        return f"the dearer model is no better than the cheaper one here (gap {gap:+.4f}): there is no gap to recover"
    error = stats.standard_error(strong - weak, units)
    if gap < CARRIES * error:
        return (
            f"the models' gap {gap:.4f} is under {CARRIES:g} standard errors ({error:.4f}): too small to divide by; use dollars and quality"
        )
    return None
