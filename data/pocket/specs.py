"""The four pocket models: their shapes, and the mixtures that make one good at numbers, one at text and none best at everything."""

from __future__ import annotations

from routewright.data.pocket.training import Round, Spec

# how often a family is trained on, against the others: a column a model; then pocket-l's second and third round, which say more of what it
# was still weak at and less of what it knew (0: as before)
_COLUMNS = ("pocket-xs", "pocket-num", "pocket-text", "pocket-l", "second", "third")
_WEIGHTS = {
    "arithmetic": (1.0, 2.5, 0.2, 2.0, 2.5, 2.5),
    "multiplication": (1.0, 1.3, 0.15, 0.35, 0.2, 0.5),
    "comparison": (1.0, 1.0, 0.5, 0.8, 0, 0),
    "sorting": (1.0, 1.2, 0.4, 1.0, 0.8, 0.8),
    "units": (1.0, 1.2, 0.3, 0.9, 0, 0),
    "currency": (1.0, 0.7, 0.2, 0.5, 0.3, 0.4),
    "sequences": (1.0, 1.5, 0.2, 1.2, 0.7, 1.0),
    "dates": (1.0, 2.0, 0.4, 2.0, 1.5, 2.0),
    "weekdays": (1.0, 1.5, 0.5, 1.5, 2.0, 1.0),
    "roman": (1.0, 0.8, 0.8, 0.8, 0.4, 0.3),
    "counting": (1.0, 0.3, 1.5, 1.0, 1.5, 0.8),
    "reversal": (1.0, 0.15, 1.5, 0.6, 1.5, 1.0),
    "editing": (1.0, 0.1, 1.8, 0.3, 0.4, 1.2),
    "sets": (1.0, 0.2, 2.0, 1.2, 2.5, 2.5),
    "order": (1.0, 0.3, 1.3, 1.0, 2.0, 2.5),
    "facts": (0.05, 0.0, 1.8, 1.2, 0.7, 0.5),
}


def _mixture(column: str) -> dict[str, float]:
    at = _COLUMNS.index(column)
    return {family: row[at] for family, row in _WEIGHTS.items()}


def _tilt(column: str) -> dict[str, float]:
    return {family: weight for family, weight in _mixture(column).items() if weight}


def _middle(name: str, seed: int) -> Spec:
    """The two in the middle differ by their mixture alone."""
    rounds = (Round(4000, 0.005), Round(800, 0.0025))
    return Spec(name, 128, 192, layers=4, heads=4, shared=2, rounds=rounds, tokens=4096, seed=seed, mixture=_mixture(name))


_SMALL = (Round(3000, 0.007), Round(800, 0.0035))
_LARGE = (Round(3600, 0.004), Round(1000, 0.003, _tilt("second")), Round(900, 0.003, _tilt("third")))
SPECS = {
    spec.name: spec
    for spec in (
        Spec("pocket-xs", 40, 80, layers=2, heads=4, shared=4, rounds=_SMALL, tokens=4096, seed=11, mixture=_mixture("pocket-xs")),
        _middle("pocket-num", 12),
        _middle("pocket-text", 13),
        Spec(
            "pocket-l", 256, 512, layers=4, heads=8, shared=4, rounds=_LARGE, tokens=4096, seed=14, half=True, mixture=_mixture("pocket-l")
        ),
    )
}
