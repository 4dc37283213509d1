"""`python -m bench [NAME...]`: run the benches, all by default."""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path

_NOT_BENCHES = {"__init__", "__main__", "harness"}


def main(names: list[str]) -> int:
    known = sorted(path.stem for path in Path(__file__).parent.glob("*.py") if path.stem not in _NOT_BENCHES)
    if unknown := sorted(set(names) - set(known)):
        print(f"no bench {', '.join(unknown)}; there are: {', '.join(known)}", file=sys.stderr)
        return 2
    for name in names or known:
        import_module(f"bench.{name}").main()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
