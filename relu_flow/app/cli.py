"""The `relu-flow` command. Heavy imports are inside, so that `--help` answers at once."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Literal

try:
    from cyclopts import App, Parameter, validators
except ModuleNotFoundError as missing:  # the library alone is installed
    raise SystemExit(
        f'The command `relu-flow` needs {missing.name}: pip install "relu-flow[app]"'
    ) from None

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
    from .digits import DigitsOptions, run_digits

    options = DigitsOptions(classes, images, width, scale, seed, loss, end, rtol, times, max_slides)
    with _messages(f"the same command goes on from {out / 'checkpoint'}."):
        run_digits(options, out, cache=cache, quiet=quiet)


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
    from ..papers.catalogue import reproduce_paper

    with _messages(f"the same command goes on from {out}."):
        reproduce_paper(paper, out, only=only, quick=quick, seed=seed, cache=cache, quiet=quiet)


@app.command
def question(
    name: Literal["rank-angle", "rank-scale", "correlation", "teachers", "bounds", "switches"],
    *,
    quick: bool = False,
    seed: int = 0,
    out: Path = Path("questions"),
    workers: int | None = None,
    cache: Annotated[bool, Parameter(negative="--no-cache")] = True,
    quiet: bool = False,
) -> None:
    """Answer an open question of the papers by a study: figure, table and one paragraph.

    What is finished is kept: the same command again does only what is missing. The studies
    behind it are in its folder, for `relu-flow report` and for Python.

    Parameters
    ----------
    name
        Which: rank-angle, rank bias against the teacher's angle; rank-scale, where rank one
        breaks as the scale grows; correlation, orthogonal against correlated inputs; teachers,
        two and more of them; bounds, how loose those of early alignment are against n and mu;
        switches, how often neurons slide, tie, repel and die.
    quick
        A small form, within a minute or two on two cores.
    seed
        Root of all random keys.
    out
        Folder to write to; a folder for the question in it.
    workers
        Threads; one a core unless given.
    cache
        Keep compiled programs in the user's cache folder.
    quiet
        Show no progress.
    """
    with _messages(f"the same command goes on from {out}."):
        from ..questions.catalogue import answer

        answer(name, out, quick=quick, seed=seed, workers=workers, cache=cache, quiet=quiet)


study = App(name="study", help="Many runs, declared in a TOML file; safe to kill and give again.")
app.command(study)


@study.command(name="validate")
def study_validate(spec: Path, *, workers: int = 2) -> None:
    """Check a study, and print its runs, chunks, shapes, memory and disk. Nothing is run.

    Parameters
    ----------
    spec
        The TOML file.
    workers
        For how many workers the memory is estimated.
    """
    with _messages("nothing was run."):
        from .studies import validate

        validate(spec, workers)


@study.command(name="run")
def study_run(
    spec: Path,
    *,
    out: Path,
    dask: str | None = None,
    workers: int | None = None,
    cache: Annotated[bool, Parameter(negative="--no-cache")] = True,
    quiet: bool = False,
) -> None:
    """Run what is missing of a study.

    Parameters
    ----------
    spec
        The TOML file.
    out
        The study's folder.
    dask
        Where instead of in this process: local:N, the address of a scheduler, or slurm.
    workers
        Threads of this process, one a core unless given; or jobs of SLURM.
    cache
        Keep compiled programs in the user's cache folder.
    quiet
        Show no progress.
    """
    _run_study(spec, out, dask, workers, (0, 1), cache, quiet)


@study.command(name="worker")
def study_worker(
    spec: Path,
    *,
    out: Path,
    shard: str,
    workers: int | None = None,
    cache: Annotated[bool, Parameter(negative="--no-cache")] = True,
    quiet: bool = False,
) -> None:
    """Run a shard of a study: for job arrays, without a scheduler.

    Parameters
    ----------
    spec
        The TOML file.
    out
        The study's folder, which all workers share.
    shard
        i/n: every n-th chunk from chunk i; i from 0 to n - 1.
    workers
        Threads; one a core unless given.
    cache
        Keep compiled programs in the user's cache folder.
    quiet
        Show no progress.
    """
    part, _, parts = shard.partition("/")
    if not (part.isdigit() and parts.isdigit() and int(part) < int(parts)):
        print(
            f"relu-flow: Argument `shard` must be i/n with 0 <= i < n, but it is {shard!r}.",
            file=sys.stderr,
        )
        sys.exit(2)
    _run_study(spec, out, None, workers, (int(part), int(parts)), cache, quiet)


@study.command(name="collect")
def study_collect(folder: Path, *, netcdf: bool = False, partial: bool = False) -> None:
    """Collect a study into study.zarr, runs.parquet and switches.parquet.

    Parameters
    ----------
    folder
        The study's folder.
    netcdf
        Write study.nc too.
    partial
        Collect although runs are missing.
    """
    with _messages("what was collected before is as it was."):
        from .studies import gather

        gather(folder, netcdf=netcdf, partial=partial)


@app.command
def report(
    folder: Path,
    *,
    out: Path | None = None,
    run: int | None = None,
    fan: Annotated[bool, Parameter(negative="--no-fan")] = True,
    cache: Annotated[bool, Parameter(negative="--no-cache")] = True,
) -> None:
    """Write a collected study as one HTML page, which fetches nothing when it is opened.

    Parameters
    ----------
    folder
        The study's folder.
    out
        The file; report.html in the study's folder unless given.
    run
        Number of the run whose neurons are shown, the first that succeeded unless given. It is
        done again.
    fan
        Show the neurons of a run.
    cache
        Keep compiled programs in the user's cache folder.
    """
    with _messages("the page was not written."):
        from ..experiment.jax_settings import prepare
        from ..report.page.document import write_page

        prepare(cache)
        print(write_page(folder, out, run=run, fan=fan))


def _run_study(
    spec: Path,
    out: Path,
    dask: str | None,
    workers: int | None,
    shard: tuple[int, int],
    cache: bool,
    quiet: bool,
) -> None:
    with _messages(f"the same command goes on from {out}."):
        from ..experiment.jax_settings import prepare
        from .studies import run

        prepare(cache)
        code = run(spec, out, dask=dask, workers=workers, shard=shard, quiet=quiet)
    sys.exit(code)


@contextmanager
def _messages(after: str) -> Iterator[None]:
    """End with a message where a user can help; `after` tells what an interruption left."""
    try:
        yield
    except (ValueError, RuntimeError, ModuleNotFoundError, OSError) as error:
        print(f"relu-flow: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print(f"\nrelu-flow: interrupted; {after}", file=sys.stderr)
        sys.exit(130)


def main() -> None:
    """Run the command line."""
    app()


if __name__ == "__main__":
    main()
