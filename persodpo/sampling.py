"""From dialogues to prompts: which are drawn, which are left out, what is refused."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

from persodpo.errors import UserError
from persodpo.focus import Dialogue, read_dialogues
from persodpo.params import SampleParams
from persodpo.prompts import render_prompt
from persodpo.records import Prompt


def sample_prompts(params: SampleParams) -> tuple[list[Prompt], list[Prompt]]:
    """Draw the training and validation prompts.

    Dialogues whose own last answer has more than `max_words` words are left out
    (paper, section 4.1). A draw depends on the seed and the dialogues' ids only:
    not on their order in the file, and a larger draw holds the smaller one, so
    raising `n_train` adds prompts and replaces none.

    Returns:
        The training and the validation prompts, each in the order of the draw.

    Raises:
        UserError: A file is not as it should be (see `persodpo.focus`), has too few
            dialogues, or a dialogue stands in both samples.
    """
    train, valid = (
        _draw(Path(file), key, n, params)
        for file, key, n in (
            (params.train_file, "n_train", params.n_train),
            (params.valid_file, "n_valid", params.n_valid),
        )
    )
    _refuse_overlap(train, valid, params)
    return _to_prompts(train, params), _to_prompts(valid, params)


def _draw(path: Path, key: str, n: int, params: SampleParams) -> list[Dialogue]:
    dialogues = read_dialogues(path)
    fitting = [d for d in dialogues if len(d.reference.split()) <= params.max_words]
    if len(fitting) < n:
        raise UserError(
            f"{path}: it has {len(fitting)} dialogues whose last answer has at most "
            f"{params.max_words} words (of {len(dialogues)}), fewer than the {n} of sample.{key}; "
            f"lower sample.{key} in params.yaml."
        )
    return sorted(fitting, key=lambda dialogue: _rank(dialogue.id, params.seed))[:n]


def _rank(id_: str, seed: int) -> bytes:
    """A pseudo-random place in the draw that other dialogues don't change."""
    return hashlib.sha256(f"{seed}\n{id_}".encode()).digest()


def _refuse_overlap(
    train: Sequence[Dialogue], valid: Sequence[Dialogue], params: SampleParams
) -> None:
    by_id = {dialogue.id: dialogue for dialogue in train}
    by_turns = {dialogue.turns: dialogue for dialogue in train}
    for dialogue in valid:
        twin = by_id.get(dialogue.id) or by_turns.get(dialogue.turns)
        if twin:
            raise UserError(
                f"{params.valid_file}, dialogue {dialogue.id!r}: it also stands in "
                f"{params.train_file} (dialogue {twin.id!r}); take it out of one of the two, "
                "so that no model is evaluated on what it was trained on."
            )


def _to_prompts(dialogues: Sequence[Dialogue], params: SampleParams) -> list[Prompt]:
    return [
        Prompt(
            id=dialogue.id,
            persona=list(dialogue.persona),
            turns=list(dialogue.turns),
            reference=dialogue.reference,
            text=render_prompt(dialogue.persona, dialogue.turns, params.max_words),
        )
        for dialogue in dialogues
    ]
