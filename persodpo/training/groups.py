"""Pairs grouped by prompt: each prompt once, each different answer once.

A FoCUS prompt has about 450 tokens and an answer about 60, and a prompt's
responses form many pairs, so a row of the training set is a prompt with its
unique answers, and pairs are index pairs into these.
"""

from collections.abc import Sequence
from typing import Any

from transformers import PreTrainedTokenizerBase

from persodpo.errors import UserError
from persodpo.pairing import Pair


def group_pairs(pairs: Sequence[Pair]) -> list[dict[str, Any]]:
    """Group pairs by prompt.

    Args:
        pairs: Preference pairs in any order.

    Returns:
        One row per prompt, in the order of first appearance: `prompt_id`, `prompt`
        (text), `answers` (unique texts), `chosen` and `rejected` (indices into
        `answers`, one per pair) and `difference` (S_chosen - S_rejected per pair).
    """
    groups: dict[str, dict[str, Any]] = {}
    for pair in pairs:
        group = groups.setdefault(
            pair.prompt_id,
            {
                "prompt_id": pair.prompt_id,
                "prompt": pair.prompt[0].content,
                "answers": [],
                "chosen": [],
                "rejected": [],
                "difference": [],
            },
        )
        for side in ("chosen", "rejected"):
            text = getattr(pair, side)[0].content
            if text not in group["answers"]:
                group["answers"].append(text)
            group[side].append(group["answers"].index(text))
        group["difference"].append(pair.score_chosen - pair.score_rejected)
    return list(groups.values())


def tokenize_group(
    group: dict[str, Any], tokenizer: PreTrainedTokenizerBase, max_length: int
) -> dict[str, Any]:
    """Turn the texts of one row into tokens, the chat template around them.

    Args:
        group: A row of `group_pairs`.
        tokenizer: The chat model's tokenizer.
        max_length: The most tokens that prompt and answer may have together.

    Returns:
        `prompt_ids`, and `answer_ids`, a list of tokens per answer, which end as the
        template ends a turn (also an answer that was cut at `generate.max_tokens`, as
        in TRL).

    Raises:
        UserError: A prompt with its longest answer is longer than `max_length`; it is
            never cut silently.
    """
    user = [{"role": "user", "content": group["prompt"]}]

    def encode(messages: list[dict[str, str]], **kwargs: bool) -> list[int]:
        encoding = tokenizer.apply_chat_template(messages, return_dict=True, **kwargs)
        return list(encoding["input_ids"])

    prompt_ids = encode(user, add_generation_prompt=True)
    answer_ids = []
    for answer in group["answers"]:
        both = encode([*user, {"role": "assistant", "content": answer}])
        if both[: len(prompt_ids)] != prompt_ids:
            raise UserError(
                f"train: the chat template writes prompt {group['prompt_id']!r} differently "
                "when an answer follows; take a base model whose template doesn't."
            )
        if len(both) > max_length:
            raise UserError(
                f"train: prompt {group['prompt_id']!r} and its answer have {len(both)} tokens, "
                f"more than train.max_length = {max_length}; raise it in params.yaml."
            )
        answer_ids.append(both[len(prompt_ids) :])
    return {"prompt_ids": prompt_ids, "answer_ids": answer_ids}
