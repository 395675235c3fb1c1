"""One batch of prompts, answered by a loaded model.

Answers of a batch end at different tokens. So the batch is decoded a few tokens at a
time, and after each time the rows that have ended leave it: their tokens would be
computed for nothing.
"""

import time
from collections.abc import Sequence
from typing import NamedTuple

import torch
from transformers import (
    GenerationConfig,
    LogitsProcessorList,
    PreTrainedModel,
    StaticCache,
    StoppingCriteriaList,
    TemperatureLogitsWarper,
    TopPLogitsWarper,
)
from transformers.cache_utils import Cache

from persodpo.generate.decoding import AnswerIsValid, AnswerText, RowSampler
from persodpo.generate.prefill import read_prompts
from persodpo.generate.request import Request
from persodpo.models.chat_template import ChatTemplate
from persodpo.models.loading import device_name
from persodpo.models.thoughts import split_thoughts
from persodpo.records import Answer, FinishReason

TOKENS_AT_ONCE = 8
"""After so many tokens the rows that have ended leave the batch."""


class PendingPrompt(NamedTuple):
    """A prompt that is to be answered.

    Attributes:
        token_ids: Its tokens, with the chat template around it.
        request: What is asked.
    """

    token_ids: list[int]
    request: Request


class _Ended(NamedTuple):
    """An answer's tokens, and why it has no more."""

    token_ids: torch.Tensor
    reason: FinishReason


def decoding_settings(
    weights: PreTrainedModel, template: ChatTemplate, max_tokens: int
) -> GenerationConfig:
    """All decoding settings, in place of the checkpoint's own.

    Greedy, because `RowSampler` leaves one token where a model draws.

    Raises:
        UserError: Nothing tells where the model's answers end.
    """
    return GenerationConfig(
        max_new_tokens=max_tokens,
        do_sample=False,
        eos_token_id=template.end_ids(weights.generation_config),
        pad_token_id=template.tokenizer.pad_token_id,
        disable_compile=True,  # it would compile anew for each length of prompts
        return_dict_in_generate=True,
    )


def answer_batch(
    weights: PreTrainedModel, template: ChatTemplate, batch: Sequence[PendingPrompt]
) -> list[Answer]:
    """Let a model answer some prompts at once.

    Args:
        weights: The model, with `decoding_settings` as its configuration of generation.
        template: Its chat template, with its tokenizer.
        batch: Prompts whose requests differ in their messages and seeds only.

    Returns:
        Their answers, in the same order.
    """
    start = time.perf_counter()
    text = AnswerText(template)
    in_thoughts = [template.opens_thoughts(each.request.chat()) for each in batch]
    with torch.inference_mode():
        ended = _decode(weights, template, batch, text, in_thoughts)
    seconds = (time.perf_counter() - start) / len(batch)
    answers = []
    for prompt, thinks, (token_ids, reason) in zip(batch, in_thoughts, ended, strict=True):
        raw = text(token_ids)
        # that the prompt began the thoughts can't be told from the answer any more
        lost = thinks and not split_thoughts(raw, opened=True).answer
        answers.append(
            Answer(
                raw="" if lost else raw,
                thoughts=raw if lost else None,
                finish_reason=reason,
                seconds=seconds,
                batch_size=len(batch),
                prompt_tokens=len(prompt.token_ids),
                completion_tokens=len(token_ids),
                dtype=str(weights.dtype).removeprefix("torch."),
                device=device_name(),
            )
        )
    return answers


def _decode(
    weights: PreTrainedModel,
    template: ChatTemplate,
    batch: Sequence[PendingPrompt],
    text: AnswerText,
    in_thoughts: Sequence[bool],
) -> list[_Ended]:
    """The tokens of each answer."""
    request = batch[0].request
    assert request.stops_by is not None  # local requests have a rule
    end_ids = torch.tensor(weights.generation_config.eos_token_id)
    inputs = template.tokenizer.pad(
        {"input_ids": [each.token_ids for each in batch]}, padding_side="left", return_tensors="pt"
    ).to(weights.device)
    ids, mask = inputs["input_ids"], inputs["attention_mask"]
    prompt_length = ids.shape[1]
    cache = _keys_and_values(weights, [each.token_ids for each in batch], request.max_tokens)
    rows = list(range(len(batch)))
    ended: dict[int, _Ended] = {}
    while rows:
        valid = AnswerIsValid(
            text, prompt_length, request.stops_by, [in_thoughts[row] for row in rows]
        )
        left = prompt_length + request.max_tokens - ids.shape[1]
        output = weights.generate(
            input_ids=ids,
            attention_mask=mask,
            past_key_values=cache,
            max_new_tokens=min(TOKENS_AT_ONCE, left),
            logits_processor=_sampling([batch[row].request for row in rows], prompt_length),
            stopping_criteria=StoppingCriteriaList([valid]),
        )
        ids, cache = output.sequences, output.past_key_values
        generated = ids[:, prompt_length:].cpu()
        is_last = generated.shape[1] == request.max_tokens
        open_rows = []
        for i, row in enumerate(rows):
            end = _end(generated[i], valid.length.get(i), end_ids)
            if end or is_last:
                ended[row] = end or _Ended(generated[i], "length")
            else:
                open_rows.append(i)
        if len(open_rows) < len(rows):
            chosen = torch.tensor(open_rows, dtype=torch.long, device=ids.device)
            ids, mask = ids[chosen], mask[chosen]
            if open_rows:
                cache.reorder_cache(chosen)
        mask = torch.nn.functional.pad(mask, (0, ids.shape[1] - mask.shape[1]), value=1)
        rows = [rows[i] for i in open_rows]
    return [ended[row] for row in range(len(batch))]


def _keys_and_values(
    weights: PreTrainedModel, token_ids: list[list[int]], max_tokens: int
) -> Cache | None:
    """Where keys and values are written; None for what generate() makes itself."""
    # private in transformers 5.23, which has no public question for it
    if not weights._can_compile_fullgraph:
        return None
    if weights.device.type == "cpu" and len(token_ids) > 1:
        read = read_prompts(weights, token_ids, max_tokens)
        if read is not None:
            return read
    longest = max(map(len, token_ids))
    return StaticCache(config=weights.config, max_cache_len=longest + max_tokens)


def _sampling(requests: Sequence[Request], prompt_length: int) -> LogitsProcessorList:
    request = requests[0]
    if not request.temperature:
        return LogitsProcessorList()
    top_p = [TopPLogitsWarper(request.top_p)] if request.top_p and request.top_p < 1 else []
    seeds = [each.random_seed for each in requests]
    return LogitsProcessorList(
        [
            TemperatureLogitsWarper(request.temperature),
            *top_p,
            RowSampler(seeds, prompt_length, request.max_tokens),
        ]
    )


def _end(row: torch.Tensor, valid: int | None, end_ids: torch.Tensor) -> _Ended | None:
    """The answer in a row, shape (n,), that has ended; None for one that goes on."""
    if valid is not None:
        return _Ended(row[:valid], "json")  # what follows in the row is padding
    ended = torch.isin(row, end_ids).nonzero()
    return _Ended(row[: int(ended[0])], "stop") if len(ended) else None
