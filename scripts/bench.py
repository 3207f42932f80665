"""How fast it is: figures measured on this machine, beside the published code's where that is given. docs/SPEED.md says how to read them.

python scripts/bench.py routers                                   # all rows
python scripts/bench.py routers --published /path/to/env/bin/python   # beside RouteLLM 0.2.0: a Python that has it, or its unpacked source
python scripts/bench.py routers --quick --only mf,sw_ranking      # tiny sizes, to see it work
python scripts/bench.py cascades                                  # searches and replays of cascades; the same options
python scripts/bench.py cascades --published /path/to/FrugalGPT   # beside its own search: a checkout at 2b23e6a
python scripts/bench.py gateway --bundle minilm=outputs/<run>/bundle   # a bundle beside a gateway; --bundle again for more
python scripts/bench.py endpoint                                  # what the endpoint takes beyond the decision
"""

from __future__ import annotations

import os
import sys

from routewright.core.bench import THREADS

for name in THREADS:  # libraries read these once, when they are loaded
    os.environ[name] = "1"


def main() -> None:
    """Hands on to the part that was asked for; what the user can mend ends as one line on stderr and exit code 1."""
    import argparse

    import bench_cascades
    import bench_gateway
    import bench_gateway_server
    import bench_routers

    from routewright.core import run

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parts = parser.add_subparsers(dest="part", required=True)
    kinds = {"routers": bench_routers, "cascades": bench_cascades, "gateway": bench_gateway, "endpoint": bench_gateway_server}
    for part, module in kinds.items():
        module.options(parts.add_parser(part, help=module.__doc__))
    given = parser.parse_args()
    run.prepare()
    try:
        kinds[given.part].main(given)
    except BaseException as error:
        line = run.mendable(error)
        if line is None:
            raise
        sys.exit(f"bench: {line}")


if __name__ == "__main__":
    main()
