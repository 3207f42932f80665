"""The pocket benchmark: four real language models small enough to ship, and the questions they are split on. Import-light."""

from __future__ import annotations

from pathlib import Path

from routewright.core.types import InputError

POCKET = Path(__file__).resolve().parent
MODELS = ("pocket-xs", "pocket-num", "pocket-text", "pocket-l")


def model_path(name: str) -> Path:
    """The folder of this model in Hugging Face format; raises InputError for a name that is none of MODELS."""
    if name not in MODELS:
        raise InputError("unknown pocket model", expected="one of " + ", ".join(MODELS), found=repr(name))
    return POCKET / "models" / name
