"""The `relu-flow` command. Heavy imports are inside, so that `--help` answers at once."""

import sys
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import App, Parameter, validators

app = App(
    name="relu-flow",
    help="Gradient flow of two-layer ReLU networks, exact through every change of pattern.",
    version_flags=["--version"],
)


@app.command
def digits(
    *,
    classes: tuple[int, int] = (0, 1),
    images: Annotated[int, Parameter(validator=validators.Number(gte=2, lte=1000))] = 200,
    width: int = 50,
    scale: float = 1e-6,
    seed: int = 0,
    loss: Literal["exponential", "logistic", "square"] = "exponential",
    end: float = 20.0,
    rtol: float = 1e-9,
    times: int = 160,
    max_slides: int = 64,
    out: Path = Path("digits-run"),
    cache: Annotated[bool, Parameter(negative="--no-cache")] = True,
    quiet: bool = False,
) -> None:
    """Train on two classes of real MNIST digits, from alignment to a small loss.

    Writes run.nc (opens with xarray) and run.png, and prints what happened. An interrupted
    run goes on where it was when the same command is given again.

    Parameters
    ----------
    classes
        The digit labelled -1, then the digit labelled +1.
    images
        Number of images, half of each digit; at most 1000.
    width
        Number of hidden neurons.
    scale
        Scale of the balanced initialisation.
    seed
        Seed of the initialisation.
    loss
        Loss, as a mean over images.
    end
        End of the run, in gradient-flow time.
    rtol
        Relative tolerance of the solver.
    times
        Number of times at which the network is recorded.
    max_slides
        Most hyperplanes that a neuron may slide along at once.
    out
        Folder to write to.
    cache
        Keep compiled programs in the user's cache folder.
    quiet
        Print no progress.
    """
    from .run_digits import DigitsOptions, run_digits

    options = DigitsOptions(classes, images, width, scale, seed, loss, end, rtol, times, max_slides)
    try:
        run_digits(options, out, cache=cache, quiet=quiet)
    except (ValueError, RuntimeError, ModuleNotFoundError, OSError) as error:
        print(f"relu-flow: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print(
            f"relu-flow: interrupted; the same command goes on from {out / 'checkpoint'}.",
            file=sys.stderr,
        )
        sys.exit(130)


@app.command
def reproduce(
    paper: Literal["early-alignment", "single-neuron", "multi-phase"],
    *,
    only: tuple[str, ...] = (),
    quick: bool = False,
    seed: int = 0,
    out: Path = Path("reproduced"),
    cache: Annotated[bool, Parameter(negative="--no-cache")] = True,
    quiet: bool = False,
) -> None:
    """Run a paper's experiments with the exact flow; measured beside published beside bound.

    Writes a table, the data and a figure for each experiment, and prints the tables. What is
    finished is kept: the same command again does only what is missing.

    Parameters
    ----------
    paper
        Which paper: Min, Mallada, Vidal (2024), early-alignment; Chistikov, Englert, Lazić
        (2023), single-neuron; Wang, Ma (2023), multi-phase.
    only
        Names of experiments, such as figure-7; all unless given.
    quick
        Small forms of the experiments, within two minutes on two cores.
    seed
        Seed of everything random.
    out
        Folder to write to; a folder for the paper, and in it one for each experiment.
    cache
        Keep compiled programs in the user's cache folder.
    quiet
        Show no progress.
    """
    from .reproduce.papers import reproduce_paper

    try:
        reproduce_paper(paper, out, only=only, quick=quick, seed=seed, cache=cache, quiet=quiet)
    except (ValueError, RuntimeError, ModuleNotFoundError, OSError) as error:
        print(f"relu-flow: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print(f"relu-flow: interrupted; the same command goes on from {out}.", file=sys.stderr)
        sys.exit(130)


def main() -> None:
    """Run the command line."""
    app()


if __name__ == "__main__":
    main()
