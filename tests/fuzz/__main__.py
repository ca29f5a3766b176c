"""Random problems against the independent solver: `python -m tests.fuzz 10000 --out FILE`.

Give the command again to go on where it stopped; give a larger number to go further.
"""

import argparse
import sys
import warnings

import jax

from . import campaign, draws


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("count", type=int, help="how many problems, up to 100 000 or so")
    parser.add_argument("--out", required=True, help="file to which a line a problem is appended")
    parser.add_argument("--kind", action="append", choices=draws.KINDS)
    parser.add_argument("--loss", action="append", choices=draws.LOSSES)
    parser.add_argument("--train", action="append", choices=draws.TRAINS)
    parser.add_argument("--reduction", action="append", choices=("sum", "mean"))
    parser.add_argument("--seconds", type=float, default=float("inf"))
    options = parser.parse_args()
    jax.config.update("jax_enable_x64", True)
    warnings.simplefilter("ignore")
    wanted = campaign.cases(
        options.count,
        options.kind or draws.KINDS,
        options.loss or draws.LOSSES,
        options.train or draws.TRAINS,
        options.reduction or ("sum", "mean"),
    )
    campaign.run(wanted, options.out, options.seconds, lambda text: print(text, flush=True))
    lines = campaign.read(options.out)
    print(campaign.table(lines))
    return any(line["word"] == "wrong" for line in lines)


if __name__ == "__main__":
    sys.exit(main())
