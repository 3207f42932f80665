"""Checks what was composed on the command line before anything is done with it: types as the files have them, numbers in range."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from routewright.core.types import InputError

if TYPE_CHECKING:
    from omegaconf import DictConfig

KINDS = {bool: "true or false", int: "a whole number", float: "a number"}


def check(cfg: DictConfig, folder: Path, choices: Mapping[str, str]) -> None:
    """Holds every plain value of the config to the type that its file in `folder` gives it, and the few numbers of ours to their range.

    choices: which file of each group was chosen. Raises InputError.
    """
    from omegaconf import OmegaConf

    plain: Any = OmegaConf.to_container(cfg, resolve=False)
    files = {"": [folder / f"{name}.yaml" for name in ("base", "train", "evaluate", "export", "collect")]}
    files |= {group: [folder / group / f"{choice}.yaml"] for group, choice in choices.items()}
    for group, paths in files.items():
        found = plain if not group else plain.get(group)
        for path in paths:
            if path.is_file() and isinstance(found, dict):
                _same_types(OmegaConf.to_container(OmegaConf.load(path), resolve=False), found, group)
    for name, low in (("seed", 0), ("cv", 2), ("compare", 1)):
        value = plain.get(name)
        if value is not None and value < low:
            raise InputError(f"{name} is too small", expected=f"{low} or more", found=str(value))
    if plain["labels"] not in ("clean", "published"):
        raise InputError("unknown labels", expected="clean or published", found=repr(plain["labels"]))


def _same_types(default: Any, found: Any, where: str) -> None:
    """Walks both trees; a key that the user has not changed is what its file says."""
    for key, value in default.items():
        name = f"{where}.{key}" if where else str(key)
        given = found.get(key) if isinstance(found, dict) else None
        if isinstance(value, dict):
            _same_types(value, given, name)
        elif isinstance(given, str) and (given.startswith("${") or given == "???"):
            continue
        elif name == "cv" and given is not None and (isinstance(given, bool) or not isinstance(given, int)):
            raise InputError("cv has the wrong type", expected="a number of folds, or null", found=repr(given))
        elif isinstance(value, bool | int | float) and given is not None:
            kinds = (bool,) if isinstance(value, bool) else (int,) if isinstance(value, int) else (int, float)
            if not isinstance(given, kinds) or (isinstance(given, bool) and bool not in kinds):
                raise InputError(f"{name} has the wrong type", expected=f"{KINDS[kinds[-1]]}, like {value}", found=repr(given))
