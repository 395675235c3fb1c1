"""The rows of the training set, one type per state: pairs by prompt, in tokens, with references.

A FoCUS prompt has about 450 tokens and an answer about 60, and a prompt's responses form
many pairs, so a row is a prompt with its unique answers, and pairs are index pairs into these.

A prompt that doesn't fit in front of its longest answer loses its oldest turns, two at a
time, so that the user still speaks first; persona, instruction and the last question stay.
An answer is never cut here. One that was cut while it was generated doesn't get the token
that ends a turn, because its model didn't end there. A pair with an answer that can't be
laid out behind its prompt is left out. No weights are loaded here.
"""

import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from itertools import chain

from persodpo import processes
from persodpo.config.models import TransformersModel
from persodpo.config.train import TrainParams
from persodpo.errors import UserError
from persodpo.models.chat_template import ChatTemplate
from persodpo.models.loading import load_config
from persodpo.prompts import render_prompt
from persodpo.records import Demonstration, Pair, Prompt

Ids = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class AnswerPair:
    """A preference between two answers of a row; plain DPO until it is weighed.

    An answer that is to be learnt without a preference is paired with itself.

    Attributes:
        chosen, rejected: Their places among the row's answers.
        difference: S_chosen - S_rejected.
        weight: In the loss.
        offset: By how much the chosen answer's reward is to exceed the rejected one's.
    """

    chosen: int
    rejected: int
    difference: float
    weight: float = 1.0
    offset: float = 0.0


@dataclass(frozen=True, slots=True)
class GroupedRow:
    """A prompt with all its pairs, as texts.

    Attributes:
        prompt_id: The prompt's id.
        prompt: The user's message.
        answers: The different answers, each with whether it was cut when it was generated.
        pairs: In the order of the pair set.
    """

    prompt_id: str
    prompt: str
    answers: tuple[tuple[str, bool], ...]
    pairs: tuple[AnswerPair, ...]


@dataclass(frozen=True, slots=True)
class TokenisedRow:
    """A prompt with all its pairs, as tokens, the chat template around them.

    Attributes:
        prompt_ids: The prompt's tokens, up to where an answer begins.
        answer_ids: Of each answer its tokens, which end as the template ends a turn unless
            the answer was cut.
        pairs: Those of the answers that can be laid out behind the prompt.
        turns_dropped: So many of the oldest turns were left out of the prompt.
    """

    prompt_ids: Ids
    answer_ids: tuple[Ids, ...]
    pairs: tuple[AnswerPair, ...]
    turns_dropped: int = 0

    @property
    def n_tokens(self) -> int:
        """Tokens of the prompt and all its answers."""
        return len(self.prompt_ids) + sum(map(len, self.answer_ids))

    def with_reference(self, reference_logps: Sequence[float]) -> "TrainingRow":
        """The row that is trained on; see `TrainingRow`."""
        own = (getattr(self, field.name) for field in fields(self))
        return TrainingRow(*own, reference_logps=tuple(reference_logps))


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingRow(TokenisedRow):
    """A tokenised and weighed row with the values of the reference model.

    Attributes:
        reference_logps: Of each answer its log-probability under the reference model, in nats.
    """

    reference_logps: tuple[float, ...]


def empty_row(pad_token_id: int) -> TrainingRow:
    """A row of one answer and no pairs, for a pass through the model that has no prompts."""
    return TokenisedRow((pad_token_id,), ((pad_token_id,),), ()).with_reference([0.0])


def training_rows(
    data: Sequence[Pair | Demonstration],
    prompts: Sequence[Prompt],
    params: TrainParams,
    base: TransformersModel,
    template: ChatTemplate,
    max_words: int,
) -> list[TokenisedRow]:
    """Group pairs or demonstrations by prompt and tokenise them.

    How many prompts had to be cut, and how many pairs are left out, is written to standard error.

    Args:
        data: The training set, in any order.
        prompts: The prompts that it belongs to, with their turns.
        params: The settings that all methods share.
        base: The model that is trained.
        template: Its chat template, with its tokenizer.
        max_words: What the prompt says about the answer's length.

    Returns:
        One row per prompt with pairs, in the order of first appearance.

    Raises:
        UserError: `train.max_length` is more than the model can read; a prompt doesn't fit with
            its last turn alone, or isn't among `prompts`; or no pair is left.
    """
    _refuse_long_context(params, base)
    groups = group_by_prompt(data)
    by_id = {prompt.id: prompt for prompt in prompts}
    tokenised = [
        tokenise(group, template, params.max_length, _shorter_texts(group, by_id, max_words))
        for group in groups
    ]
    rows = [row for row in tokenised if row.pairs]
    if not rows:
        raise UserError(
            f"{template.key}: its chat template or its tokenizer writes prompts otherwise once "
            "there is an answer, so none of the pairs can be trained; look at chat_template_kwargs "
            "(a model that thinks first wants it switched off), or take another model."
        )
    if processes.is_main():
        _report(groups, rows, params.max_length)
    return rows


def _refuse_long_context(params: TrainParams, base: TransformersModel) -> None:
    config = load_config(base.model, base.revision, f"params.yaml: models.{params.model}.model")
    limit = getattr(config.get_text_config(), "max_position_embeddings", None)
    if limit is not None and params.max_length > limit:
        raise UserError(
            f"params.yaml: train.max_length is {params.max_length}, but {base.model} reads no more "
            f"than {limit} tokens; lower it."
        )


def group_by_prompt(data: Iterable[Pair | Demonstration]) -> list[GroupedRow]:
    """One row per prompt, in the order of first appearance."""
    by_prompt: dict[str, list[Pair | Demonstration]] = {}
    for each in data:
        by_prompt.setdefault(each.prompt_id, []).append(each)
    return [_group(of_prompt) for of_prompt in by_prompt.values()]


def _group(data: Sequence[Pair | Demonstration]) -> GroupedRow:
    places: dict[tuple[str, bool], int] = {}

    def place(text: str, is_cut: bool) -> int:
        return places.setdefault((text, is_cut), len(places))

    def answer_pair(each: Pair | Demonstration) -> AnswerPair:
        if isinstance(each, Demonstration):
            only = place(each.completion[0].content, each.cut)
            return AnswerPair(only, only, 0.0)
        return AnswerPair(
            place(each.chosen[0].content, each.cut_chosen),
            place(each.rejected[0].content, each.cut_rejected),
            each.score_chosen - each.score_rejected,
        )

    numbered = tuple(answer_pair(each) for each in data)
    return GroupedRow(data[0].prompt_id, data[0].prompt[0].content, tuple(places), numbered)


def _shorter_texts(
    group: GroupedRow, prompts: Mapping[str, Prompt], max_words: int
) -> Iterator[str]:
    """The prompt without its first two turns, its first four, and so on."""
    if group.prompt_id not in prompts:
        raise UserError(
            f"artifacts/pairs: prompt {group.prompt_id!r} isn't in artifacts/prompts/train.jsonl, "
            "so the pairs are another run's; run dvc repro pair."
        )
    prompt = prompts[group.prompt_id]
    return (
        render_prompt(prompt.persona, prompt.turns[first:], max_words, prompt.persona_of)
        for first in range(2, len(prompt.turns), 2)
    )


def tokenise(
    group: GroupedRow, template: ChatTemplate, max_length: int, shorter: Iterable[str] = ()
) -> TokenisedRow:
    """Turn the texts of one row into tokens, the chat template around them.

    Args:
        group: The row.
        template: The chat model's template, with its tokenizer.
        max_length: The most tokens that the prompt and any of its answers may have together.
        shorter: What may stand in the prompt's place, the longest first, two turns less each.

    Returns:
        The row, with the pairs and answers that the tokenizer can write behind the prompt.

    Raises:
        UserError: Nothing fits.
    """
    for cuts, text in enumerate(chain([group.prompt], shorter)):
        user = [{"role": "user", "content": text}]
        prompt_ids = template.encode(user, to_answer=True)
        answer_ids = [template.encode_answer(user, *answer) for answer in group.answers]
        length = len(prompt_ids) + max(len(ids or ()) for ids in answer_ids)
        if length <= max_length:
            return _without_lost_answers(group.pairs, prompt_ids, answer_ids, 2 * cuts)
    raise UserError(
        f"artifacts/pairs: prompt {group.prompt_id!r} with its last turn alone and its longest "
        f"answer has {length} tokens, more than train.max_length = {max_length}; raise it in "
        "params.yaml."
    )


def _without_lost_answers(
    pairs: Iterable[AnswerPair],
    prompt_ids: Sequence[int],
    answer_ids: Sequence[Sequence[int] | None],
    turns_dropped: int,
) -> TokenisedRow:
    """A row without the answers that have no tokens, and without their pairs."""
    whole = {k: tuple(ids) for k, ids in enumerate(answer_ids) if ids is not None}
    number = {k: new for new, k in enumerate(whole)}
    left = tuple(
        replace(pair, chosen=number[pair.chosen], rejected=number[pair.rejected])
        for pair in pairs
        if pair.chosen in whole and pair.rejected in whole
    )
    return TokenisedRow(tuple(prompt_ids), tuple(whole.values()), left, turns_dropped)


def _report(groups: Sequence[GroupedRow], rows: Sequence[TokenisedRow], max_length: int) -> None:
    cut = sum(row.turns_dropped > 0 for row in rows)
    if cut:
        sys.stderr.write(
            f"{cut} of {len(rows)} prompts are longer than train.max_length = {max_length} with "
            "their longest answer and are trained without their oldest turns\n"
        )
    before, after = (sum(len(each.pairs) for each in part) for part in (groups, rows))
    if after < before:
        sys.stderr.write(
            f"{before - after} of {before} pairs are left out, because the tokenizer can't write "
            "one of their answers behind the prompt\n"
        )
