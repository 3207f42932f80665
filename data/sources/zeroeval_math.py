"""The hardest MATH problems as ZeroEval recorded them: 721 of level 5 with a whole number for an answer, eleven models' full answers.

MATH: Hendrycks et al. 2021, arXiv 2103.03874. Up to a fifth of a model's answers hold none: they were cut off or never came to an end.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from routewright.data.sources._zeroeval import ZeroEval


@dataclass(frozen=True, kw_only=True)
class ZeroEvalMath(ZeroEval):
    """MATH level 5 outcomes of up to eleven models. labels: read by data/sources/_zeroeval.py, "clean" or "published"."""

    question: ClassVar[str] = "problem"
    group: ClassVar[str] = "math-l5"
