"""From dialogues to prompts: which are drawn, which are left out, what is refused."""

import hashlib
from collections.abc import Callable, Sequence
from itertools import zip_longest
from pathlib import Path

from persodpo.config.sample import SampleParams
from persodpo.errors import UserError
from persodpo.prompts import render_prompt, wrap_response
from persodpo.records import Demonstration, Message, Prompt
from persodpo.sample.dialogue import Dialogue
from persodpo.sample.readers import read_dialogues
from persodpo.sample.rounds import Round, rounds_of


def sample_prompts(params: SampleParams) -> tuple[list[Prompt], list[Prompt]]:
    """Draw the training and validation prompts.

    Rounds whose own answer has more than `max_words` words are left out, as the paper's authors
    did in their prompts. A draw depends on the seed and the dialogues' ids only: not on their order
    in the file, and a larger draw holds the smaller one, so raising `n_train` adds prompts and
    replaces none. (Where `overlap` is `leave_out`, a validation prompt whose dialogue becomes one
    of the training is replaced.) No dialogue gives a second prompt before each has given one.

    Returns:
        The training and the validation prompts, each in the order of the draw.

    Raises:
        UserError: A file is not as it should be (see `persodpo.sample.readers`), has too few
            rounds, or a dialogue stands in both samples and `overlap` is `refuse`.
    """
    ranked = _ranked(Path(params.train_file), "", params)
    train = _draw(ranked, params.n_train, "train", params)
    # Ids of published prompts are row numbers; a validation prompt mustn't get a training row's
    # published response.
    ranked = _ranked(Path(params.valid_file), "valid-", params)
    duplicate_of = _duplicate_finder([each.dialogue for each in train])
    if params.overlap == "leave_out":
        ranked = [each for each in ranked if duplicate_of(each.dialogue) is None]
    valid = _draw(ranked, params.n_valid, "valid", params)
    for each in valid:
        if duplicate := duplicate_of(each.dialogue):
            raise UserError(
                f"{params.valid_file}, dialogue {each.dialogue.id!r}: it also stands in "
                f"{params.train_file} (dialogue {duplicate.id!r}), and no model is evaluated on "
                "what it was trained on; take it out of one of the two, or set sample.overlap to "
                "leave_out."
            )
    return _to_prompts(train, params), _to_prompts(valid, params)


def _ranked(path: Path, row_prefix: str, params: SampleParams) -> list[Round]:
    """The rounds of a file that may be drawn, in the order of the draw."""
    fitting = [
        [
            each
            for each in rounds_of(dialogue, params.rounds)
            if len(each.golden_answer.split()) <= params.max_words
        ]
        for dialogue in sorted(
            read_dialogues(path, row_prefix), key=lambda one: _rank(one.id, params.seed)
        )
    ]
    by_dialogue = [sorted(each, key=lambda one: _rank(one.id, params.seed)) for each in fitting]
    return [each for place in zip_longest(*by_dialogue) for each in place if each is not None]


def _draw(ranked: Sequence[Round], n: int, split: str, params: SampleParams) -> list[Round]:
    if len(ranked) < n:
        file = params.train_file if split == "train" else params.valid_file
        what = "dialogues" if params.rounds == "last" else "rounds"
        is_new = split == "valid" and params.overlap == "leave_out"
        remedy = f"lower sample.n_{split}"
        if not ranked:
            remedy = f"raise sample.max_words, or name another sample.{split}_file"
        raise UserError(
            f"{file}: it has {len(ranked)} {what} that may be drawn (their last answer has at "
            f"most {params.max_words} words{', and they are not in the training' if is_new else ''}"
            f"), fewer than the {n} of sample.n_{split}; {remedy} in params.yaml."
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


def _to_prompts(rounds: Sequence[Round], params: SampleParams) -> list[Prompt]:
    prompts = []
    for each in rounds:
        persona, turns = each.dialogue.persona, each.turns[-(params.max_turns or 0) :]
        prompts.append(
            Prompt(
                id=each.id,
                dialogue=each.dialogue.id if params.rounds == "all" else None,
                persona=list(persona),
                persona_of=params.persona_of,
                turns=list(turns),
                golden_answer=each.golden_answer,
                persona_grounding=_as_list(each.persona_grounding),
                text=render_prompt(persona, turns, params.max_words, params.persona_of),
            )
        )
    return prompts


def _as_list(marks: tuple[bool, ...] | None) -> list[bool] | None:
    return None if marks is None else list(marks)


def golden_demonstrations(prompts: Sequence[Prompt]) -> list[Demonstration]:
    """Each prompt with its golden answer in the JSON contract."""
    return [
        Demonstration(
            prompt=[Message(role="user", content=prompt.text)],
            completion=[Message(role="assistant", content=wrap_response(prompt.golden_answer))],
            prompt_id=prompt.id,
            cut=False,
        )
        for prompt in prompts
    ]
