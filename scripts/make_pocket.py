"""Makes the pocket benchmark from its seed: questions, tokenizer, four models, their outcomes, card. Under two hours on two cores.

python scripts/make_pocket.py                              # whatever is not there yet
python scripts/make_pocket.py --stage train:pocket-xs --again
"""

from __future__ import annotations

import argparse
import time

from routewright.data.pocket.build import STAGES, make


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stage", choices=STAGES, action="append", help="this stage alone; may be given several times")
    parser.add_argument("--again", action="store_true", help="make it even where it is there")
    parser.add_argument("--threads", type=int, default=1, help="threads to train with (the committed models: 1)")
    options = parser.parse_args()

    import torch

    torch.set_num_threads(options.threads)
    for stage in options.stage or STAGES:
        print(time.strftime("%H:%M:%S"), stage, flush=True)
        make(stage, again=options.again, say=lambda line: print(time.strftime("%H:%M:%S"), line, flush=True))


if __name__ == "__main__":
    main()
