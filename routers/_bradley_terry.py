"""Bradley-Terry fits, many at once: P(i beats j) = sigmoid(s_i - s_j) from weighted wins, in numpy and as nodes of an ONNX graph.

A damped Newton method. The likelihood is generalised self-concordant with constant 1 in the largest difference of a step's entries,
r, so the share log(1 + r) / r of every Newton step lowers it from any start, and full steps are reached near the optimum (Sun and
Tran-Dinh 2019, arXiv 1703.04599, section 4). Shapes: n fits, p players.
"""

from __future__ import annotations

import numpy as np

from routewright.core.types import Floats

# Every pair has met once more and tied, with this share of all weight: too little to see where the data speak, enough that a player who
# never lost, or never met the others, keeps a finite strength. Two players are at most log(2 / PRIOR) = 21 apart.
PRIOR = 1e-9
LEAST = 1e-30  # added to the whole weight, so that there is a prior where all of it underflowed
NEAR = 1e-6  # the largest entry of a last step: its square is what remains to go
STEPS = 1000  # a bound that no data should reach


def strengths(wins: Floats, start: Floats | None = None) -> Floats:
    """[n,p] float64: the strengths behind wins[n,p,p] (i over j, a tie half a win each), up to a constant for each fit; the last is 0.

    The diagonal of wins counts in the whole weight and says nothing else. start[p]: strengths to begin with, to save steps.
    Two players have a closed form. Raises ArithmeticError where a fit does not end, as with wins that are not finite and >= 0.
    """
    wins = np.asarray(wins, dtype=np.float64)
    n, p = wins.shape[:2]
    wins = wins + PRIOR / 2 * (wins.sum(axis=(1, 2), keepdims=True) + LEAST)
    if p == 2:
        return np.stack([np.log(wins[:, 0, 1] / wins[:, 1, 0]), np.zeros(n)], axis=1)
    found = np.zeros((n, p)) if start is None else np.tile(start - start[-1], (n, 1))
    for _ in range(STEPS):
        step = _newton(wins, found)
        reach = np.ptp(step, axis=1, keepdims=True) + LEAST
        found += step * (np.log1p(reach) / reach)
        if not n or reach.max() <= NEAR:
            return found
    raise ArithmeticError(f"a Bradley-Terry fit of {p} players did not end in {STEPS} steps")


def _newton(wins: Floats, found: Floats) -> Floats:
    """[n,p]: the whole Newton step from found[n,p], the last player held."""
    behind = np.minimum(found[:, None, :] - found[:, :, None], 700)  # exp(710) is infinite
    chance = 1 / (1 + np.exp(behind))  # (n, p, p): i beats j
    upset = chance.transpose(0, 2, 1)
    pull = wins * upset
    slope = (pull - pull.transpose(0, 2, 1)).sum(axis=2)
    tie = (wins + wins.transpose(0, 2, 1)) * chance * upset
    curve = tie.sum(axis=2)[:, :, None] * np.eye(wins.shape[1]) - tie
    step = np.zeros_like(found)
    step[:, :-1] = np.linalg.solve(curve[:, :-1, :-1], slope[:, :-1, None])[:, :, 0]
    return step


def win_rate(strength: Floats, a: int, b: int) -> Floats:
    """[n]: P(a beats b) for strength[n,m] in log odds."""
    rate: Floats = np.exp(-np.logaddexp(0, strength[:, b] - strength[:, a]))
    return rate


def graph(p: int) -> str:
    """The nodes from `wins` float[n, p * p] and `start` float[1, p] to `strength` double[n, p], as strengths() computes them.

    They work in double: a player that is tied to the rest by the prior alone has a slope of 1e-9 beside rounding errors of 1e-7 in float.
    """
    shared = f"""
        last_axis = Constant <value = int64[1] {{-1}}> ()
        share = Constant <value = double {{{PRIOR / 2!r}}}> ()
        least = Constant <value = double {{{LEAST!r}}}> ()
        square = Constant <value = int64[3] {{0, {p}, {p}}}> ()
        counted = Cast <to = 11> (wins)
        total = ReduceSum (counted, last_axis)
        whole = Add(total, least)
        prior = Mul(whole, share)
        padded = Add(counted, prior)
        won = Reshape(padded, square)
        lost = Transpose <perm = [0, 2, 1]> (won)
    """
    return shared + (_pair() if p == 2 else _loop(p))


def _pair() -> str:
    return """
        first = Constant <value = int64[1] {1}> ()
        second = Constant <value = int64[1] {2}> ()
        above = Gather <axis = 1> (padded, first)
        below = Gather <axis = 1> (padded, second)
        odds = Div(above, below)
        ahead = Log(odds)
        zeros = Sub(ahead, ahead)
        strength = Concat <axis = 1> (ahead, zeros)
    """


def _loop(p: int) -> str:
    """Newton steps until the last one was short for every row of the batch."""
    eye = ", ".join("1" if i == j else "0" for i in range(p) for j in range(p))
    free = ", ".join(["1"] * (p - 1) + ["0"])
    return f"""
        met = Add(won, lost)
        zeros = Sub(total, total)
        begin = Cast <to = 11> (start)
        initial = Add(zeros, begin)
        trips = Constant <value = int64 {{{STEPS}}}> ()
        go = Constant <value = bool {{1}}> ()
        strength = Loop (trips, go, initial) <body = newton (int64 trip, bool on, double[n, p] found) => (bool more, double[n, p] better) {{
            one = Constant <value = int64[1] {{1}}> ()
            two = Constant <value = int64[1] {{2}}> ()
            eye = Constant <value = double[{p}, {p}] {{{eye}}}> ()
            free = Constant <value = double[{p}] {{{free}}}> ()
            near = Constant <value = double {{{NEAR!r}}}> ()
            tiny = Constant <value = double {{1e-12}}> ()
            unit = Constant <value = double {{1.0}}> ()
            of_i = Unsqueeze(found, two)
            of_j = Unsqueeze(found, one)
            gap = Sub(of_j, of_i)
            against = Exp(gap)
            all = Add(unit, against)
            chance = Div(unit, all)
            upset = Transpose <perm = [0, 2, 1]> (chance)
            pull = Mul(won, upset)
            push = Mul(lost, chance)
            flow = Sub(pull, push)
            slope = ReduceSum (flow, two)
            even = Mul(chance, upset)
            tie = Mul(met, even)
            degree = ReduceSum (tie, two)
            spread = Mul(degree, eye)
            curve = Sub(spread, tie)
            table0 = Concat <axis = 2> (curve, slope)
            {_eliminate(p)}
            side = Constant <value = int64 {{{p}}}> ()
            solved = Gather <axis = 2> (table{p - 1}, side)
            step = Mul(solved, free)
            top, top_at = TopK <largest = 1> (step, one)
            bottom, bottom_at = TopK <largest = 0> (step, one)
            range = Sub(top, bottom)
            reach = Add(range, tiny)
            grown = Add(unit, reach)
            logged = Log(grown)
            rate = Div(logged, reach)
            move = Mul(step, rate)
            better = Add(found, move)
            far = Greater(range, near)
            counts = Cast <to = 1> (far)
            many = ReduceSum <keepdims = 0> (counts)
            more = Cast <to = 9> (many)
        }}>
    """


def _eliminate(p: int) -> str:
    """Gauss-Jordan on [curve | slope] without pivoting, which a Laplacian with one player held does not need."""
    steps = []
    for k in range(p - 1):
        one_hot = ", ".join("1" if i == k else "0" for i in range(p))
        steps.append(f"""
            at{k} = Constant <value = int64[1] {{{k}}}> ()
            hot{k} = Constant <value = double[{p}, 1] {{{one_hot}}}> ()
            row{k} = Gather <axis = 1> (table{k}, at{k})
            pivot{k} = Gather <axis = 2> (row{k}, at{k})
            scaled{k} = Div(row{k}, pivot{k})
            column{k} = Gather <axis = 2> (table{k}, at{k})
            rest{k} = Sub(column{k}, hot{k})
            part{k} = Mul(rest{k}, scaled{k})
            table{k + 1} = Sub(table{k}, part{k})""")
    return "".join(steps)
