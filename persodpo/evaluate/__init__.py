"""evaluate: candidates on the validation prompts.

In: `Prompt` rows and a candidate, a baseline or a trained method. Out: `Evaluated` rows, its
answers with their scores.
"""

from persodpo.evaluate.run import EvaluationParams, evaluate_candidate

__all__ = ["EvaluationParams", "evaluate_candidate"]
