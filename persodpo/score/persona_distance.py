"""P, persona distance: how near is the answer's vocabulary to the persona's?

The cosine of the mean word vectors of the joined persona and of the answer, higher
for nearer; a negative one counts as 0, which is also what a failed response gets. Source:
PersoBench (Afzoon et al., arXiv:2410.03198), which uses GoogleNews word2vec. Tokens and stop words
are those of `persodpo.score.judges.word_vectors`.
"""

from collections.abc import Sequence
from typing import Literal

from persodpo.config.sections import Text
from persodpo.records import Prompt
from persodpo.score.judges import word_vector_judge
from persodpo.score.metric import Judge, Metric, Prompts, Responses, Scorer, Values, answers_of


class PersonaDistance(Scorer):
    """P by word vectors."""

    kind: Literal["persona_distance"]
    vectors: Text

    def metric(self) -> Metric:
        """See `Scorer.metric`."""
        return Metric("P", low=0, high=1, worst=0, version=2, needs=("persona",))

    def values(self, key: str, prompts: Prompts, responses: Responses, batch_tokens: int) -> Values:
        """See `Scorer.values`."""
        judge = word_vector_judge(self.vectors, f"{key}.vectors")
        return score_persona_distance(prompts, answers_of(responses), judge)

    def paths(self) -> list[str]:
        """See `Scorer.paths`."""
        return [self.vectors]


def score_persona_distance(
    prompts: Sequence[Prompt], answers: Sequence[str], judge: Judge
) -> Values:
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
