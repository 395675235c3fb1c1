"""sample: dialogues to prompts.

In: the files of `sample.train_file` and `sample.valid_file`. Out: `Prompt` rows.

    focus.py    readers: FoCUS's JSON, plain JSON lines, published prompts
    draw.py     which dialogues are drawn, and none of both splits
"""

from persodpo.sample.draw import sample_prompts

__all__ = ["sample_prompts"]
