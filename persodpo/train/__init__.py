"""train: pairs, or single answers, to a policy, by score-weighted DPO on shared prompts.

In: `Pair` or `Demonstration` rows and `Prompt` rows, the base model, another policy to start from.
Out: a policy's folder, a log, numbers.

    rows.py           pairs to rows: one per prompt, with its answers' tokens and pairs
    weighting.py      the weight of each pair
    layout.py         whether a model can take answers side by side behind one prompt
    reference.py      rows with log-probabilities under the reference model, computed once
    batches.py        which rows are held out, and which go into which pass
    collator.py       the rows of a pass to tensors
    loss.py           log-probabilities and the weighted loss
    trainer.py        TRL's DPO trainer with these parts; run.py a whole run
    guard.py          when the chosen answers have become less likely, and what is taken then
    policy.py         a policy's files: the start's, and its own
    progress.py       the progress line, and the log while it grows
    summary.py        the log and the headline numbers
    checkpoints.py    where a run is saved and resumed
"""

from persodpo.train.run import train_policy

__all__ = ["train_policy"]
