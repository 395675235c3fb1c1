"""Pairs grouped by prompt: each prompt once, each different answer once, as tokens.

A FoCUS prompt has about 450 tokens and an answer about 60, and a prompt's
responses form many pairs, so a row of the training set is a prompt with its
unique answers, and pairs are index pairs into these.

A prompt that doesn't fit in front of its longest answer loses its oldest turns, two
at a time, so that the user still speaks first; persona, instruction and the last
question stay. An answer is never cut here. One that was cut while it was generated
doesn't get the token that ends a turn, because its model didn't end there. A pair with an answer
that can't be laid out behind its prompt is left out.
"""

import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from persodpo import processes
from persodpo.errors import UserError
from persodpo.models.chat_template import ChatTemplate
from persodpo.prompts import render_prompt
from persodpo.records import Pair, Prompt

Group = dict[str, Any]


def group_pairs(pairs: Sequence[Pair]) -> list[Group]:
    """Group pairs by prompt.

    Args:
        pairs: Preference pairs in any order.

    Returns:
        One row per prompt, in the order of first appearance: `prompt_id`, `prompt`
        (text), `answers` (unique texts), `cut` (whether each was cut when it was
        generated), `chosen` and `rejected` (indices into `answers`, one per pair) and
        `difference` (S_chosen - S_rejected per pair).
    """
    groups: dict[str, Group] = {}
    for pair in pairs:
        new: Group = {"prompt_id": pair.prompt_id, "prompt": pair.prompt[0].content}
        new |= {name: [] for name in ("answers", "cut", "chosen", "rejected", "difference")}
        group = groups.setdefault(pair.prompt_id, new)
        for side, answer, cut in (
            ("chosen", pair.chosen[0].content, pair.cut_chosen),
            ("rejected", pair.rejected[0].content, pair.cut_rejected),
        ):
            known = list(zip(group["answers"], group["cut"], strict=True))
            if (answer, cut) not in known:
                known.append((answer, cut))
                group["answers"].append(answer)
                group["cut"].append(cut)
            group[side].append(known.index((answer, cut)))
        group["difference"].append(pair.score_chosen - pair.score_rejected)
    return list(groups.values())


def tokenize_groups(
    groups: Sequence[Group],
    template: ChatTemplate,
    max_length: int,
    prompts: Mapping[str, Prompt],
    max_words: int,
) -> list[Group]:
    """Add to each row of `group_pairs` its tokens (see `tokenize_group`).

    How many prompts had to be cut, and how many pairs are left out, is told on standard error.

    Args:
        groups: The rows.
        template: The chat model's template, with its tokenizer.
        max_length: The most tokens that prompt and answer may have together.
        prompts: The prompts by id, with their turns.
        max_words: What the prompt says about the answer's length.

    Raises:
        UserError: A prompt doesn't fit with its last turn alone, or isn't among `prompts`; or no
            pair is left.
    """
    rows = []
    for group in groups:
        if group["prompt_id"] not in prompts:
            raise UserError(
                f"artifacts/pairs: prompt {group['prompt_id']!r} isn't in "
                "artifacts/prompts/train.jsonl, so the pairs are another run's; run dvc repro pair."
            )
        shorter = _shorter_texts(prompts[group["prompt_id"]], max_words)
        rows.append(group | tokenize_group(group, template, max_length, shorter))
    whole = [row for row in map(_without_lost_answers, rows) if row["chosen"]]
    if not whole:
        raise UserError(
            f"{template.key}: its chat template or its tokenizer writes prompts otherwise once "
            "there is an answer, so none of the pairs can be trained; look at chat_template_kwargs "
            "(a model that thinks first wants it switched off), or take another model."
        )
    if processes.is_main():
        _tell(rows, whole, max_length)
    return whole


def _without_lost_answers(row: Group) -> Group:
    """A row without the answers that have no tokens, and without their pairs."""
    places = {k: ids for k, ids in enumerate(row["answer_ids"]) if ids is not None}
    number = {k: new for new, k in enumerate(places)}
    kept = [
        i
        for i, pair in enumerate(zip(row["chosen"], row["rejected"], strict=True))
        if all(k in places for k in pair)
    ]
    return row | {
        "answers": [row["answers"][k] for k in places],
        "cut": [row["cut"][k] for k in places],
        "answer_ids": list(places.values()),
        "chosen": [number[row["chosen"][i]] for i in kept],
        "rejected": [number[row["rejected"][i]] for i in kept],
        "difference": [row["difference"][i] for i in kept],
    }


def _tell(rows: Sequence[Group], whole: Sequence[Group], max_length: int) -> None:
    cut = sum(row["turns_dropped"] > 0 for row in whole)
    if cut:
        sys.stderr.write(
            f"{cut} of {len(whole)} prompts are longer than train.max_length = {max_length} with "
            "their longest answer and are trained without their oldest turns\n"
        )
    before, after = (sum(len(row["chosen"]) for row in each) for each in (rows, whole))
    if after < before:
        sys.stderr.write(
            f"{before - after} of {before} pairs are left out, because the tokenizer can't write "
            "one of their answers behind the prompt\n"
        )


def _shorter_texts(prompt: Prompt, max_words: int) -> Iterator[str]:
    """The prompt without its first two turns, its first four, and so on."""
    for first in range(2, len(prompt.turns), 2):
        yield render_prompt(prompt.persona, prompt.turns[first:], max_words)


def tokenize_group(
    group: Group, template: ChatTemplate, max_length: int, shorter: Iterable[str] = ()
) -> Group:
    """Turn the texts of one row into tokens, the chat template around them.

    Args:
        group: A row of `group_pairs`.
        template: The chat model's template, with its tokenizer.
        max_length: The most tokens that the prompt and any of its answers may have together.
        shorter: What may stand in the prompt's place, the longest first.

    Returns:
        `prompt_ids`; `answer_ids`, a list of tokens per answer, which end as the template
        ends a turn unless the answer was cut, or None (see `ChatTemplate.encode_answer`);
        and `turns_dropped`.

    Raises:
        UserError: Nothing fits.
    """
    text, dropped, left = group["prompt"], 0, iter(shorter)
    while True:
        user = [{"role": "user", "content": text}]
        prompt_ids = template.encode(user, to_answer=True)
        answer_ids = [
            template.encode_answer(user, answer, cut)
            for answer, cut in zip(group["answers"], group["cut"], strict=True)
        ]
        length = len(prompt_ids) + max(len(ids or ()) for ids in answer_ids)
        if length <= max_length:
            return {"prompt_ids": prompt_ids, "answer_ids": answer_ids, "turns_dropped": dropped}
        text, dropped = next(left, ""), dropped + 2
        if not text:
            raise UserError(
                f"artifacts/pairs: prompt {group['prompt_id']!r} with its last turn alone and its "
                f"longest answer has {length} tokens, more than train.max_length = {max_length}; "
                "raise it in params.yaml."
            )
