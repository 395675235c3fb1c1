"""Pairs grouped by prompt: each prompt once, each different answer once, as tokens.

A FoCUS prompt has about 450 tokens and an answer about 60, and a prompt's
responses form many pairs, so a row of the training set is a prompt with its
unique answers, and pairs are index pairs into these.

A prompt that doesn't fit in front of its longest answer loses its oldest turns, two
at a time, so that the user still speaks first; persona, instruction and the last
question stay. An answer is never cut here. One that was cut while it was generated
doesn't get the token that ends a turn, because its model didn't end there.
"""

import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from transformers import PreTrainedTokenizerBase

from persodpo import processes
from persodpo.errors import UserError
from persodpo.pairing import Pair
from persodpo.prompts import render_prompt
from persodpo.records import Prompt

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
    tokenizer: PreTrainedTokenizerBase,
    max_length: int,
    prompts: Mapping[str, Prompt],
    max_words: int,
) -> list[Group]:
    """Add to each row of `group_pairs` its tokens (see `tokenize_group`).

    How many prompts had to be cut is told on standard error.

    Args:
        groups: The rows.
        tokenizer: The chat model's tokenizer.
        max_length: The most tokens that prompt and answer may have together.
        prompts: The prompts by id, with their turns.
        max_words: What the prompt says about the answer's length.

    Raises:
        UserError: A prompt doesn't fit with its last turn alone, or isn't among `prompts`.
    """
    rows = []
    for group in groups:
        if group["prompt_id"] not in prompts:
            raise UserError(
                f"artifacts/pairs: prompt {group['prompt_id']!r} isn't in "
                "artifacts/prompts/train.jsonl, so the pairs are another run's; run dvc repro pair."
            )
        shorter = _shorter_texts(prompts[group["prompt_id"]], max_words)
        rows.append(group | tokenize_group(group, tokenizer, max_length, shorter))
    cut = sum(row["turns_dropped"] > 0 for row in rows)
    if cut and processes.is_main():
        sys.stderr.write(
            f"{cut} of {len(rows)} prompts are longer than train.max_length = {max_length} with "
            "their longest answer and are trained without their oldest turns\n"
        )
    return rows


def _shorter_texts(prompt: Prompt, max_words: int) -> Iterator[str]:
    """The prompt without its first two turns, its first four, and so on."""
    for first in range(2, len(prompt.turns), 2):
        yield render_prompt(prompt.persona, prompt.turns[first:], max_words)


def tokenize_group(
    group: Group,
    tokenizer: PreTrainedTokenizerBase,
    max_length: int,
    shorter: Iterable[str] = (),
) -> Group:
    """Turn the texts of one row into tokens, the chat template around them.

    Args:
        group: A row of `group_pairs`.
        tokenizer: The chat model's tokenizer.
        max_length: The most tokens that the prompt and any of its answers may have together.
        shorter: What may stand in the prompt's place, the longest first.

    Returns:
        `prompt_ids`; `answer_ids`, a list of tokens per answer, which end as the template
        ends a turn unless the answer was cut; and `turns_dropped`.

    Raises:
        UserError: Nothing fits, or the template changes prompt or answers.
    """
    text, dropped, left = group["prompt"], 0, iter(shorter)
    while True:
        prompt_ids, answer_ids = _tokens(group, text, tokenizer)
        length = len(prompt_ids) + max(map(len, answer_ids))
        if length <= max_length:
            return {"prompt_ids": prompt_ids, "answer_ids": answer_ids, "turns_dropped": dropped}
        text, dropped = next(left, ""), dropped + 2
        if not text:
            raise UserError(
                f"artifacts/pairs: prompt {group['prompt_id']!r} with its last turn alone and its "
                f"longest answer has {length} tokens, more than train.max_length = {max_length}; "
                "raise it in params.yaml."
            )


def _tokens(
    group: Group, text: str, tokenizer: PreTrainedTokenizerBase
) -> tuple[list[int], list[list[int]]]:
    """Tokens of the prompt up to where the answer begins, and of each answer."""
    user = [{"role": "user", "content": text}]
    prompt = tokenizer.apply_chat_template(user, add_generation_prompt=True, tokenize=False)
    prompt_ids = _encode(tokenizer, prompt)
    answer_ids = []
    for answer, cut in zip(group["answers"], group["cut"], strict=True):
        both = tokenizer.apply_chat_template(
            [*user, {"role": "assistant", "content": answer}], tokenize=False
        )
        begin = both.find(answer.strip(), len(prompt))
        # of a blank answer the end of its turn is all there is
        end = begin + len(answer.strip()) if cut and answer.strip() else len(both)
        ids = _encode(tokenizer, both[:end])
        if ids[: len(prompt_ids)] != prompt_ids or begin < 0:
            raise UserError(
                f"train: the chat template writes prompt {group['prompt_id']!r} or its answer "
                "differently when both stand together; take a base model whose template doesn't."
            )
        answer_ids.append(ids[len(prompt_ids) :])
    return prompt_ids, answer_ids


def _encode(tokenizer: PreTrainedTokenizerBase, rendered: str) -> list[int]:
    # the template has written the special tokens
    return list(tokenizer(rendered, add_special_tokens=False)["input_ids"])
