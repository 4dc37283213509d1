"""Libraries that others import at once: those hardly ever used are when they are, and those never used not at all."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from threading import Lock
from types import ModuleType
from typing import Any

_LOCK = Lock()


def defer(*names: str) -> None:
    """Have the modules of these *names* imported when something of them is asked for; what is there already stays."""
    for name in names:
        if name not in sys.modules and (spec := find_spec(name)):
            stand_in = _StandIn(name)
            stand_in.__spec__ = spec
            stand_in.__path__ = spec.submodule_search_locations or []
            sys.modules[name] = stand_in


@contextmanager
def without(*packages: str) -> Iterator[None]:
    """Have imports within not find these *packages*, as where they are not installed; what is there already stays."""
    hidden = [name for name in packages if name not in sys.modules]
    # None means: do not look for it.
    sys.modules.update(dict.fromkeys(hidden))  # type: ignore[arg-type]
    try:
        yield
    finally:
        for name in hidden:
            del sys.modules[name]


class _StandIn(ModuleType):
    """A module whose names are those of the one that it stands for.

    `importlib.util.LazyLoader` will not do: a second import statement asks for `__spec__`, and with it for the module.
    """

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") and name != "__all__":  # asked of every module by those who look through all
            raise AttributeError(name)
        with _LOCK:
            if sys.modules.get(self.__name__) is self:
                del sys.modules[self.__name__]
        return getattr(import_module(self.__name__), name)
