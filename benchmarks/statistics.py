"""How far the report's intervals and tests can be trusted, by simulation.

    python -m benchmarks.statistics coverage
    python -m benchmarks.statistics rejections
    python -m benchmarks.statistics areas
    python -m benchmarks.statistics dialogues
    python -m benchmarks.statistics seeds

Values are drawn as scores are: a share of failures at the worst value and the rest spread over the
range, or differences of two such candidates that are equally good.
"""

from typing import Annotated

import numpy as np
import typer
from scipy import stats

from persodpo.experiments.seeds import crossed_interval
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


# Of the differences of two candidates: their own spread, and what the prompts of a dialogue, or the
# prompts of one seed's policies, share.
DIFFERENCE_SD, DIALOGUE_SD, SEED_SD = 0.35, 0.2, 0.1


def clustered_differences(
    rng: np.random.Generator, dialogues: int, prompts: int, seeds: int = 1
) -> tuple[np.ndarray, list[str]]:
    """Differences without a true one, of so many prompts, some dialogues giving one more.

    Returns:
        Shape (seeds, prompts), and the dialogue of each prompt.
    """
    clusters = np.arange(prompts) % dialogues
    shared = rng.normal(0, DIALOGUE_SD, dialogues)[clusters]
    of_seeds = rng.normal(0, SEED_SD, (seeds, 1)) * (seeds > 1)
    own = rng.normal(0, DIFFERENCE_SD, (seeds, prompts))
    return shared + of_seeds + own, [str(each) for each in clusters]


@app.command()
def dialogues(
    simulations: Simulations = 1000, resamples: Resamples = 999, prompts: Prompts = SIZES
) -> None:
    """Intervals and tests of differences where most dialogues give two prompts."""
    for n in map(int, prompts.split(",")):
        rng = np.random.default_rng(0)
        hits = alone = rejected = 0
        for _ in range(simulations):
            (values,), clusters = clustered_differences(rng, n, 7 * n // 4)
            together = mean_interval(values, resamples, clusters)
            apart = mean_interval(values, resamples)
            assert together is not None
            assert apart is not None
            hits += (together.low or 0) <= 0 <= (together.high or 0)
            alone += (apart.low or 0) <= 0 <= (apart.high or 0)
            rejected += paired_p(values, resamples, clusters) <= 0.05
        typer.echo(
            f"{7 * n // 4} prompts of {n} dialogues: the interval covers 0 in "
            f"{hits / simulations:.1%} of {simulations} data sets ({alone / simulations:.1%} if "
            "prompts are drawn by themselves), and the test rejects in "
            f"{rejected / simulations:.1%}"
        )


@app.command()
def seeds(
    simulations: Simulations = 1000, resamples: Resamples = 999, sizes: Prompts = "3,5,10"
) -> None:
    """Intervals over seeds and prompts together, of 48 prompts of 30 dialogues."""
    for n in map(int, sizes.split(",")):
        rng = np.random.default_rng(0)
        found = [
            crossed_interval(*clustered_differences(rng, 30, 48, n), resamples)
            for _ in range(simulations)
        ]
        hits = [(one.low or 0) <= 0 <= (one.high or 0) for one in found]
        typer.echo(
            f"{n} seeds: the interval covers 0 in {np.mean(hits):.1%} of {simulations} data sets"
        )


if __name__ == "__main__":
    app()
