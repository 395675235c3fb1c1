"""What stands above the tables: how to read them."""

from persodpo.intervals import CONFIDENCE, RESAMPLES

SCORERS_NOTE = """\
What stands behind each metric is set in the section scorers of params.yaml and described in
docs/metrics.md; only values of the same scorers compare with each other. A metric marked (audit)
has no weight: neither S_total nor the pairs see it."""
OTHER_NOTE = """\
Higher is better with ↑, lower with ↓. S_total: the score that pairs are formed by; its target
length (and, with minmax, the metrics' bounds) comes from the pool's answers to the training
prompts. Cut: share of the answers that were cut at the most tokens, most of which fail therefore.
Format and length: share of all answers that are valid and have at most sample.max_words words.
Repeated: share of the answers that were given to more than one prompt. Distinct-1 and -2: different
words and word bigrams as a share of all. These three count what a failed response says, too.
Words: mean of the valid answers. Displaced: share of the training pairs whose chosen answer became
less likely than it was at the start, and Fall: by how many nats a token (steps of the natural
logarithm), in the mean over all pairs, negative where it became likelier; both over the last fifth
of the steps (docs/training.md)."""
TIME_NOTE = """\
Seconds per response: of answers that are computed together, each one's share of its batch. Only
times of the same machine and the same batch compare; an answer from the cache keeps its time."""
COMPARISON_NOTE = f"""\
Square brackets: {CONFIDENCE:.0%} intervals over prompts, percentile bootstraps of the mean
({RESAMPLES:,} resamples); a mean of equal values has none. The failure ratio's is Wilson's. Where a
dialogue gives several prompts, these are drawn together, also for the failure ratio, unless it is 0
or 1. Can show: the smallest true difference that so
many prompts would show in 80 of 100 cases. Verdict: better or worse if the interval excludes 0,
equivalent if it lies within {{equivalence}} of the measure's width on both sides of 0, else
undecided. p: how often chance alone gives a difference at least as large, by paired permutation
tests ({RESAMPLES:,} permutations, or all of them), two-sided; p (Holm): corrected over all tests of
this file, which intervals and verdicts aren't. So "better" beside a p (Holm) above .05 is a hint,
not a proof. d_z: Cohen's d of paired samples. Over all responses, a failed one has the worst
values, so that quality and failure are mixed; over valid responses, candidates are judged on
different prompts, so these aren't tested. Prompts are what is drawn: how another seed of the
training comes out, `python -m persodpo seeds` tells (docs/experiments.md)."""
FEW_PROMPTS = 50
FEW_NOTE = f"""\
With fewer than {FEW_PROMPTS} dialogues a bootstrap interval is a little too narrow;
docs/evaluation.md has the measured coverage."""
DIFFERENCES_NOTE = """\
On the same prompts, with 95 % intervals over them. Can show: the smallest true difference that so
many prompts would show in 80 of 100 cases. Verdict: better or worse if the interval excludes 0,
equivalent if the difference is surely too small to matter, else undecided. An audit metric formed
no pairs."""
