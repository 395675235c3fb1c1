"""P, persona distance: how near is the answer's vocabulary to the persona's?

The cosine of the mean word vectors of the joined persona and of the answer, higher
for nearer; a negative one counts as 0, which is also what a failed response gets. Source:
PersoBench (Afzoon et al., arXiv:2410.03198), which uses GoogleNews word2vec. Tokens and stop words
are those of `persodpo.score.judges.word_vectors`.
"""

from collections.abc import Sequence

from persodpo.config.scorers import LoggedMetric, ScorersParams
from persodpo.records import Prompt
from persodpo.score.metric import Judge, Metric, Values

VERSION = 2


def distance_metric(params: ScorersParams) -> Metric:
    """What the values of P mean."""
    label = "P (logged)" if isinstance(params.p, LoggedMetric) else "P"
    return Metric(label, low=0, high=1, worst=0, version=VERSION, lowest_published=-1)


def score_distance(prompts: Sequence[Prompt], answers: Sequence[str], judge: Judge) -> Values:
    """Score answers by their nearness to their personas.

    Args:
        prompts: One per answer.
        answers: Shape (n,).
        judge: Gives the cosine of two texts' mean word vectors, if both have known words.

    Returns:
        Shape (n,), in [0, 1]; None where persona or answer has no known word.
    """
    judged = judge([(" ".join(p.persona), a) for p, a in zip(prompts, answers, strict=True)])
    return [None if judgement is None else max(judgement[0], 0.0) for judgement in judged]
