"""How much of the golden answer's wording does the answer have? ROUGE-L and chrF, by libraries.

Both reward the words of one good answer of many, and know nothing of persona or coherence; so they
are for the audit of other metrics, not for weights.
"""

from typing import Literal

from persodpo.score.metric import Metric, Prompts, Responses, Scorer, Values, answers_of


class RougeL(Scorer):
    """The F-measure of the longest common subsequence of words (Lin, 2004), by rouge-score."""

    kind: Literal["rouge_l"]

    def metric(self) -> Metric:
        """See `Scorer.metric`."""
        return Metric("ROUGE-L", low=0, high=1, worst=0, version=1, needs=("golden_answer",))

    def values(self, key: str, prompts: Prompts, responses: Responses, batch_tokens: int) -> Values:
        """See `Scorer.values`."""
        # imported late, because it loads nltk, which takes seconds
        from rouge_score.rouge_scorer import RougeScorer  # noqa: PLC0415

        scorer = RougeScorer(["rougeL"])
        return [
            float(scorer.score(prompt.golden_answer, answer)["rougeL"].fmeasure)
            for prompt, answer in zip(prompts, answers_of(responses), strict=True)
        ]


class ChrF(Scorer):
    """The F-score of character n-grams (Popović, WMT 2015), by sacrebleu with its defaults."""

    kind: Literal["chrf"]

    def metric(self) -> Metric:
        """See `Scorer.metric`."""
        return Metric("chrF", low=0, high=1, worst=0, version=1, needs=("golden_answer",))

    def values(self, key: str, prompts: Prompts, responses: Responses, batch_tokens: int) -> Values:
        """See `Scorer.values`."""
        from sacrebleu.metrics.chrf import CHRF  # noqa: PLC0415 - as rouge-score above

        scorer = CHRF()
        return [
            float(scorer.sentence_score(answer, [prompt.golden_answer]).score) / 100
            for prompt, answer in zip(prompts, answers_of(responses), strict=True)
        ]
