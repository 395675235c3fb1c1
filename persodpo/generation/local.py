"""The backend `transformers`: a model that answers on this machine.

What makes it fast: prompts are answered in batches of similar length, so little
is padded; and an answer ends as soon as its JSON object is closed.
"""

import time
from collections.abc import Sequence

import torch
from tqdm import tqdm
from transformers import (
    GenerationConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    StoppingCriteria,
    StoppingCriteriaList,
    set_seed,
)

from persodpo.models import load_causal_lm, load_tokenizer
from persodpo.params import GenerateParams, TransformersModel
from persodpo.prompts import object_is_closed, parse_response, render_prompt
from persodpo.records import FinishReason, Prompt, Response


def answer_with_transformers(
    name: str,
    model: TransformersModel,
    prompts: Sequence[Prompt],
    params: GenerateParams,
    max_words: int,
) -> list[Response]:
    """Load a model and let it answer all prompts; see `persodpo.generation`."""
    key = f"models.{name}.model"
    tokenizer = load_tokenizer(model.model, model.revision, key)
    weights = load_causal_lm(model.model, model.revision, key, params.dtype)
    return answer_with_model(name, weights, tokenizer, model, prompts, params, max_words)


def answer_with_model(
    name: str,
    weights: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    model: TransformersModel,
    prompts: Sequence[Prompt],
    params: GenerateParams,
    max_words: int,
) -> list[Response]:
    """Let loaded weights answer all prompts, decoding as `model` says.

    Returns:
        One response per prompt, in the prompts' order.
    """
    texts = [
        prompt.text if model.persona else render_prompt([], prompt.turns, max_words)
        for prompt in prompts
    ]
    token_ids = [_apply_chat_template(tokenizer, text) for text in texts]
    config = _generation_config(weights, tokenizer, model, params)
    # generate() would take what the config leaves open from the checkpoint's own
    weights.generation_config = config
    # longest first: a batch that doesn't fit in memory fails at the start, not at the end
    order = sorted(range(len(prompts)), key=lambda i: len(token_ids[i]), reverse=True)
    answers: dict[int, Response] = {}
    weights.eval()
    set_seed(model.seed)
    with tqdm(total=len(prompts), desc=f"{name}: answers", unit="prompt") as progress:
        for start in range(0, len(order), params.batch_size):
            rows = order[start : start + params.batch_size]
            begin = time.perf_counter()
            texts_out = _answer_batch(weights, tokenizer, [token_ids[i] for i in rows], config)
            seconds = (time.perf_counter() - begin) / len(rows)
            for i, (raw, completion_tokens, finish_reason) in zip(rows, texts_out, strict=True):
                parsed = parse_response(raw)
                answers[i] = Response(
                    id=prompts[i].id,
                    model=name,
                    raw=raw,
                    parsed=parsed,
                    words=len((raw if parsed is None else parsed).split()),
                    seconds=seconds,
                    prompt_tokens=len(token_ids[i]),
                    completion_tokens=completion_tokens,
                    finish_reason=finish_reason,
                )
            progress.update(len(rows))
    return [answers[i] for i in range(len(prompts))]


def _apply_chat_template(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    encoding = tokenizer.apply_chat_template(
        [{"role": "user", "content": text}], add_generation_prompt=True, return_dict=True
    )
    return list(encoding["input_ids"])


def _generation_config(
    weights: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    model: TransformersModel,
    params: GenerateParams,
) -> GenerationConfig:
    """All decoding settings in one object, so that none comes from the checkpoint unseen."""
    sampling = {"temperature": model.temperature, "top_p": model.top_p, "top_k": 0}
    return GenerationConfig(
        max_new_tokens=params.max_tokens,
        do_sample=model.temperature > 0,
        eos_token_id=weights.generation_config.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        **(sampling if model.temperature > 0 else {}),
    )


def _answer_batch(
    weights: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    token_ids: list[list[int]],
    config: GenerationConfig,
) -> list[tuple[str, int, FinishReason]]:
    """Generate for one batch: each answer's text, number of tokens and reason to end."""
    batch = tokenizer.pad({"input_ids": token_ids}, padding_side="left", return_tensors="pt").to(
        weights.device
    )
    prompt_length = batch["input_ids"].shape[1]
    closed = _ObjectClosed(tokenizer, prompt_length)
    with torch.inference_mode():
        output = weights.generate(
            **batch, generation_config=config, stopping_criteria=StoppingCriteriaList([closed])
        )
    end_ids = torch.tensor(config.eos_token_id, device=output.device).reshape(-1)
    results: list[tuple[str, int, FinishReason]] = []
    for i, row in enumerate(output[:, prompt_length:]):
        ended = torch.isin(row, end_ids).nonzero()
        length: int
        reason: FinishReason
        if i in closed.length:
            length, reason = closed.length[i], "json"  # what follows in the row is padding
        elif len(ended):
            length, reason = int(ended[0]), "stop"
        else:
            length, reason = len(row), "length"
        text = tokenizer.decode(row[:length], skip_special_tokens=True)
        results.append((text, length, reason))
    return results


class _ObjectClosed(StoppingCriteria):  # type: ignore[misc]  # skipped by mypy, see pyproject
    """Ends each row of a batch when the JSON object of its answer is complete.

    Args:
        tokenizer: Turns the generated tokens back into text.
        prompt_length: Number of (padded) prompt tokens in front of each row.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, prompt_length: int) -> None:
        self.tokenizer = tokenizer
        self.prompt_length = prompt_length
        self.length: dict[int, int] = {}
        """Number of generated tokens of each row that is done."""

    def __call__(
        self, input_ids: torch.Tensor, scores: torch.Tensor, **kwargs: object
    ) -> torch.Tensor:
        """Tell which rows are done; shape (batch,), bool."""
        # only a token with a brace can close an object, so most steps decode one token a row
        for i, token in enumerate(self.tokenizer.batch_decode(input_ids[:, -1:])):
            if "}" in token and i not in self.length:
                answer = input_ids[i, self.prompt_length :]
                if object_is_closed(self.tokenizer.decode(answer, skip_special_tokens=True)):
                    self.length[i] = len(answer)
        done = [i in self.length for i in range(len(input_ids))]
        return torch.tensor(done, device=input_ids.device)
