"""sample: dialogues to prompts.

In: the files of `sample.train_file` and `sample.valid_file`. Out: `Prompt` rows, and golden
answers as `Demonstration` rows.

    readers.py  the dialogues of a file: focus.py (FoCUS's JSON), blended.py (Blended Skill Talk),
                convai2.py, plain.py (JSON lines), published.py (the paper's prompts);
                dialogue.py what all of them check
    rounds.py   the rounds of a dialogue, each of which may be a prompt
    draw.py     which rounds are drawn, and no dialogue of both splits
"""

from persodpo.sample.draw import golden_demonstrations, sample_prompts

__all__ = ["golden_demonstrations", "sample_prompts"]
