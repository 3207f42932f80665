"""What was learned, as named arrays: how routers, cascades, signals and students are saved and come back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Self

import numpy as np

from routewright.core.contracts import State
from routewright.core.types import InputError


class Stored:
    """state() and load() by name. A class sets `learned`, and `ALSO` for what all of its kind learn."""

    KIND: ClassVar[str] = "router"  # the config group that it comes from
    ALSO: ClassVar[tuple[str, ...]] = ()
    learned: tuple[str, ...] = ()  # names of the arrays that fit sets

    def state(self) -> State:
        """Everything learned, as named arrays. Raises InputError before fit."""
        self._require_fitted()
        return {name: np.ascontiguousarray(getattr(self, name)) for name in self._names()}

    def load(self, state: Mapping[str, np.ndarray[Any, Any]]) -> Self:
        """The inverse of state(). Raises InputError where the names are not this one's."""
        if set(state) != set(self._names()):
            raise InputError(
                f"this state is not one of {type(self).__name__}",
                expected=", ".join(sorted(self._names())) or "nothing",
                found=", ".join(sorted(state)) or "nothing",
                mend=f"Load it with the {self.KIND} config that trained it.",
            )
        for name, array in state.items():
            setattr(self, name, array)
        return self

    def _names(self) -> tuple[str, ...]:
        return (*self.learned, *self.ALSO)

    def _require_fitted(self) -> None:
        missing = [name for name in self._names() if not hasattr(self, name)]
        if missing:
            raise InputError(f"{type(self).__name__} is not fitted", expected=", ".join(missing), mend="Call fit or load first.")
