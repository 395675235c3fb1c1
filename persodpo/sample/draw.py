"""From dialogues to prompts: which are drawn, which are left out, what is refused."""

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path

from persodpo.config.sample import SampleParams
from persodpo.errors import UserError
from persodpo.prompts import render_prompt
from persodpo.records import Prompt
from persodpo.sample.dialogue import Dialogue
from persodpo.sample.readers import read_dialogues


def sample_prompts(params: SampleParams) -> tuple[list[Prompt], list[Prompt]]:
    """Draw the training and validation prompts.

    Dialogues whose own last answer has more than `max_words` words are left out, as the paper's
    authors did in their prompts. A draw depends on the seed and the dialogues' ids only:
    not on their order in the file, and a larger draw holds the smaller one, so
    raising `n_train` adds prompts and replaces none. (Where `overlap` is `leave_out`, a
    validation prompt that becomes a training prompt is replaced.)

    Returns:
        The training and the validation prompts, each in the order of the draw.

    Raises:
        UserError: A file is not as it should be (see `persodpo.sample.readers`), has too few
            dialogues, or a dialogue stands in both samples and `overlap` is `refuse`.
    """
    ranked = _ranked(Path(params.train_file), "", params)
    train = _draw(ranked, params.n_train, "train", params)
    # Ids of published prompts are row numbers; a validation prompt mustn't get a training row's
    # published response.
    ranked = _ranked(Path(params.valid_file), "valid-", params)
    duplicate_of = _duplicate_finder(train)
    if params.overlap == "leave_out":
        ranked = [dialogue for dialogue in ranked if duplicate_of(dialogue) is None]
    valid = _draw(ranked, params.n_valid, "valid", params)
    for dialogue in valid:
        if duplicate := duplicate_of(dialogue):
            raise UserError(
                f"{params.valid_file}, dialogue {dialogue.id!r}: it also stands in "
                f"{params.train_file} (dialogue {duplicate.id!r}), and no model is evaluated on "
                "what it was trained on; take it out of one of the two, or set sample.overlap to "
                "leave_out."
            )
    return _to_prompts(train, params), _to_prompts(valid, params)


def _ranked(path: Path, row_prefix: str, params: SampleParams) -> list[Dialogue]:
    """The dialogues of a file that may be drawn, in the order of the draw."""
    fitting = [
        dialogue
        for dialogue in read_dialogues(path, row_prefix)
        if len(dialogue.golden_answer.split()) <= params.max_words
    ]
    return sorted(fitting, key=lambda dialogue: _rank(dialogue.id, params.seed))


def _draw(ranked: Sequence[Dialogue], n: int, split: str, params: SampleParams) -> list[Dialogue]:
    if len(ranked) < n:
        file = params.train_file if split == "train" else params.valid_file
        raise UserError(
            f"{file}: it has {len(ranked)} dialogues that may be drawn (their last answer has at "
            f"most {params.max_words} words), fewer than the {n} of sample.n_{split}; lower "
            f"sample.n_{split} in params.yaml."
        )
    return list(ranked[:n])


def _rank(id_: str, seed: int) -> bytes:
    """A pseudo-random place in the draw that other dialogues don't change."""
    return hashlib.sha256(f"{seed}\n{id_}".encode()).digest()


def _duplicate_finder(train: Sequence[Dialogue]) -> Callable[[Dialogue], Dialogue | None]:
    """Tells which training dialogue, if any, has a dialogue's id or turns."""
    by_id = {dialogue.id: dialogue for dialogue in train}
    by_turns = {dialogue.turns: dialogue for dialogue in train}
    return lambda dialogue: by_id.get(dialogue.id) or by_turns.get(dialogue.turns)


def _to_prompts(dialogues: Sequence[Dialogue], params: SampleParams) -> list[Prompt]:
    return [
        Prompt(
            id=dialogue.id,
            persona=list(dialogue.persona),
            turns=list(dialogue.turns),
            golden_answer=dialogue.golden_answer,
            persona_grounding=_as_list(dialogue.persona_grounding),
            text=render_prompt(dialogue.persona, dialogue.turns, params.max_words),
        )
        for dialogue in dialogues
    ]


def _as_list(marks: tuple[bool, ...] | None) -> list[bool] | None:
    return None if marks is None else list(marks)
