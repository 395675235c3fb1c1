"""How far the report's intervals and tests can be trusted, by simulation.

    python -m benchmarks.statistics coverage
    python -m benchmarks.statistics rejections
    python -m benchmarks.statistics areas

Values are drawn as scores are: a share of failures at the worst value and the rest spread over the
range, or differences of two such candidates that are equally good.
"""

from typing import Annotated

import numpy as np
import typer
from scipy import stats

from persodpo.intervals import auc_interval, mean_interval, share_interval
from persodpo.report.comparison import paired_p

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False, help=__doc__)
Simulations = Annotated[int, typer.Option(help="So many data sets are drawn.")]
Prompts = Annotated[str, typer.Option(help="Sizes of the data sets.")]
Resamples = Annotated[int, typer.Option(help="Of each interval or test.")]

SIZES = "12,16,30,100,1000"
FAILURES = 0.3


def scores(rng: np.random.Generator, n: int) -> np.ndarray:
    """Total scores of n responses of which some fail; their true mean is `MEAN`."""
    return np.where(rng.random(n) < FAILURES, 0.05, rng.beta(4, 3, n))


MEAN = FAILURES * 0.05 + (1 - FAILURES) * 4 / 7


# Of the values of one dialogue's answers: their own spread, and what they share.
OWN_SD, SHARED_SD, OTHERS = 0.7, 0.5, 3


def clustered_answers(
    rng: np.random.Generator, n: int
) -> tuple[np.ndarray, np.ndarray, list[str], list[str]]:
    """A metric's values of n golden answers and of three times as many that it should value less.

    Those of one dialogue share a part, so that they are alike. In the form of `auc_interval`.
    """
    shared = rng.normal(0, SHARED_SD, n)
    higher = 1 + shared + rng.normal(0, OWN_SD, n)
    lower = np.repeat(shared, OTHERS) + rng.normal(0, OWN_SD, OTHERS * n)
    clusters = [str(place) for place in range(n)]
    return higher, lower, clusters, [name for name in clusters for _ in range(OTHERS)]


def clustered_area() -> float:
    """The area under the curve of such values of different dialogues."""
    return float(stats.norm.cdf(1 / np.sqrt(2 * (OWN_SD**2 + SHARED_SD**2))))


@app.command()
def areas(
    simulations: Simulations = 1000, resamples: Resamples = 999, prompts: Prompts = "12,30,100,500"
) -> None:
    """How often a 95 % interval of the audit covers the true area under the curve."""
    for n in map(int, prompts.split(",")):
        rng = np.random.default_rng(0)
        found = [auc_interval(*clustered_answers(rng, n), resamples) for _ in range(simulations)]
        hits = [i.low <= clustered_area() <= i.high for i in found if i and i.low and i.high]
        typer.echo(
            f"{n} dialogues: the area's interval covers {clustered_area():.3f} in "
            f"{np.mean(hits):.1%} of {len(hits)} data sets"
        )


@app.command()
def coverage(
    simulations: Simulations = 1000, resamples: Resamples = 999, prompts: Prompts = SIZES
) -> None:
    """How often a 95 % interval covers the true value."""
    for n in map(int, prompts.split(",")):
        rng = np.random.default_rng(0)
        hits = failures = 0
        for _ in range(simulations):
            interval = mean_interval(scores(rng, n), resamples)
            assert interval is not None
            assert interval.low is not None
            assert interval.high is not None
            hits += interval.low <= MEAN <= interval.high
            share = share_interval(int(rng.binomial(n, FAILURES)), n)
            assert share.low is not None
            assert share.high is not None
            failures += share.low <= FAILURES <= share.high
        typer.echo(
            f"{n} prompts: the mean's interval covers it in {hits / simulations:.1%} of "
            f"{simulations} data sets, the failure ratio's in {failures / simulations:.1%}"
        )


@app.command()
def rejections(
    simulations: Simulations = 1000, resamples: Resamples = 999, prompts: Prompts = SIZES
) -> None:
    """How often the paired test rejects at 5 % where there is no difference."""
    for n in map(int, prompts.split(",")):
        rng = np.random.default_rng(0)
        p = [paired_p(scores(rng, n) - scores(rng, n), resamples) for _ in range(simulations)]
        typer.echo(
            f"{n} prompts: rejected in {np.mean(np.array(p) <= 0.05):.1%} of {simulations} "
            "data sets without a difference"
        )


if __name__ == "__main__":
    app()
