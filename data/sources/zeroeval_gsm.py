"""GSM8K as ZeroEval recorded it: the 1,319 test questions of Cobbe et al. 2021 (arXiv 2110.14168), eleven models' full answers.

Ids and texts are those of data=routellm_gsm8k where the question is the same, so that a split by text sees the overlap.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from routewright.data.sources._zeroeval import ZeroEval


@dataclass(frozen=True, kw_only=True)
class ZeroEvalGsm(ZeroEval):
    """GSM8K outcomes of up to eleven models. labels: read by data/sources/_zeroeval.py, "clean" or "published"."""

    question: ClassVar[str] = "question"
    group: ClassVar[str] = "gsm8k"
