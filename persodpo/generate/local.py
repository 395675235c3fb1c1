"""The backend `transformers`: a model that answers on this machine.

What makes it fast: prompts are answered in batches of similar length, so little
is padded; on a CPU they are read one by one (`persodpo.generate.prefill`); keys
and values are written into a static cache instead of being copied at every token;
and generation ends as soon as an answer is valid.
"""

import itertools
import time
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path

import torch
from accelerate.utils import find_executable_batch_size
from transformers import (
    GenerationConfig,
    LogitsProcessorList,
    PreTrainedModel,
    StaticCache,
    StoppingCriteriaList,
    TemperatureLogitsWarper,
    TopPLogitsWarper,
)

from persodpo import processes
from persodpo.config.generate import GenerateParams
from persodpo.config.models import TransformersModel
from persodpo.generate.decoding import AnswerIsValid, AnswerText, RowSampler
from persodpo.generate.prefill import read_prompts
from persodpo.generate.request import LOCAL_VERSION, Request, chat
from persodpo.generate.tally import Tally
from persodpo.models.chat_template import ChatTemplate, load_chat_template
from persodpo.models.loading import device, device_name, fast_dtype, load_policy
from persodpo.models.locations import folder_hash, weights_hash
from persodpo.models.thoughts import split_thoughts
from persodpo.records import Answer, FinishReason, Prompt

Store = Callable[[Request, Answer], None]

CPU_BATCH_SIZE = 64
ACCELERATOR_BATCH_SIZE = 128


class TransformersCaller:
    """Asks one model of the pool, as it is or as it was trained.

    Args:
        name: The key in `params.yaml` of the model whose weights they are.
        model: The section of the model that answers.
        params: The settings that all models share.
        policy: The folder of an adapter on top, or of a whole model that was trained from it.
    """

    def __init__(
        self,
        name: str,
        model: TransformersModel,
        params: GenerateParams,
        policy: Path | None = None,
    ) -> None:
        self.key = f"params.yaml: models.{name}.model"
        self.model = model
        self.params = params
        self.policy = policy

    @cached_property
    def template(self) -> ChatTemplate:
        """The model's chat template, with its tokenizer."""
        return load_chat_template(self.model, self.params.date, self.key)

    def requests(self, prompts: Sequence[Prompt], max_words: int) -> list[Request]:
        """One request per prompt; no weights are loaded, only their hash is taken."""
        model = self.model
        weights = weights_hash(model.model, model.revision, self.key)
        policy = folder_hash(self.policy) if self.policy else None
        requests = [
            Request(
                provider="transformers",
                model=None if weights else model.model,
                revision=model.revision,
                weights=weights,
                adapter=policy,
                dtype=_name(fast_dtype(self.params.dtype)),
                messages=chat(prompt, model.persona, max_words),
                max_tokens=model.max_tokens or self.params.max_tokens,
                temperature=model.temperature,
                top_p=model.top_p if model.temperature else None,
                seed=model.seed if model.temperature else None,
                stops_by=self.params.contract,
                contract_version=LOCAL_VERSION,
            )
            for prompt in prompts
        ]
        return [
            request.model_copy(
                update={"rendered": self.template.render(request.chat(), to_answer=True)}
            )
            for request in requests
        ]

    def answer(self, requests: Sequence[Request], tally: Tally) -> None:
        """Load the model and let it answer, in each process a share; kept batch by batch."""
        requests = processes.share(requests)
        if not requests:
            return
        source = (self.model.model, self.model.revision, self.key)
        weights = load_policy(*source, self.policy, fast_dtype(self.params.dtype))
        if self.params.batch_size:
            batch_size = self.params.batch_size
        else:
            batch_size = CPU_BATCH_SIZE if device().type == "cpu" else ACCELERATOR_BATCH_SIZE
        answer_requests(weights, self.template, requests, batch_size, tally.store)


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def answer_requests(
    weights: PreTrainedModel,
    template: ChatTemplate,
    requests: Sequence[Request],
    batch_size: int,
    store: Store,
) -> None:
    """Let a loaded model answer requests that differ in their messages only.

    Args:
        weights: The model.
        template: Its chat template, with its tokenizer.
        requests: What to answer, at least one.
        batch_size: So many are answered at once; half as many after each time that memory
            runs out.
        store: Called with each request and its answer, batch by batch.

    Raises:
        UserError: Nothing tells where the model's answers end.
    """
    weights.eval()
    # in place of the checkpoint's own, from which generate() would take what is left open
    weights.generation_config = _generation_config(weights, template, requests[0])
    # longest first: a batch that doesn't fit in memory fails at the start, not at the end
    pending = sorted(
        ((template.encode(request.chat(), to_answer=True), request) for request in requests),
        key=lambda row: len(row[0]),
        reverse=True,
    )
    sizes = itertools.count(1)

    def halve() -> int:
        """A half of the batch size at the first call, a quarter at the second, and so on."""
        return batch_size >> next(sizes)

    def answer_pending(size: int) -> None:
        while pending:
            batch = pending[:size]
            for (_, request), answer in zip(
                batch, _answer_batch(weights, template, batch), strict=True
            ):
                store(request, answer)
            del pending[:size]

    find_executable_batch_size(
        answer_pending, starting_batch_size=batch_size, reduce_batch_size_fn=halve
    )()


def _answer_batch(
    weights: PreTrainedModel,
    template: ChatTemplate,
    batch: Sequence[tuple[list[int], Request]],
) -> list[Answer]:
    """Generate for one batch of prompts' tokens with their requests."""
    start = time.perf_counter()
    request = batch[0][1]
    inputs = template.tokenizer.pad(
        {"input_ids": [ids for ids, _ in batch]}, padding_side="left", return_tensors="pt"
    ).to(weights.device)
    prompt_length = inputs["input_ids"].shape[1]
    text = AnswerText(template)
    in_thoughts = [template.opens_thoughts(each.chat()) for _, each in batch]
    assert request.stops_by is not None  # local requests have a rule
    valid = AnswerIsValid(text, prompt_length, request.stops_by, in_thoughts)
    end_ids = weights.generation_config.eos_token_id
    with torch.inference_mode():
        output = weights.generate(
            **inputs,
            **_keys_and_values(weights, [ids for ids, _ in batch], request.max_tokens),
            logits_processor=_sampling(request, [r.random_seed for _, r in batch], prompt_length),
            stopping_criteria=StoppingCriteriaList([valid]),
        )[:, prompt_length:].cpu()
    seconds = (time.perf_counter() - start) / len(batch)
    answers = []
    for i, (ids, _) in enumerate(batch):
        length, reason = _end(output[i], valid.length.get(i), end_ids)
        raw = text(output[i, :length])
        # that the prompt began the thoughts can't be told from the answer any more
        lost = in_thoughts[i] and not split_thoughts(raw, opened=True).answer
        answers.append(
            Answer(
                raw="" if lost else raw,
                thoughts=raw if lost else None,
                finish_reason=reason,
                seconds=seconds,
                batch_size=len(batch),
                prompt_tokens=len(ids),
                completion_tokens=length,
                dtype=_name(weights.dtype),
                device=device_name(),
            )
        )
    return answers


def _generation_config(
    weights: PreTrainedModel, template: ChatTemplate, request: Request
) -> GenerationConfig:
    """All decoding settings; greedy, because `_sampling` leaves one token where it draws."""
    return GenerationConfig(
        max_new_tokens=request.max_tokens,
        do_sample=False,
        eos_token_id=template.end_ids(weights.generation_config),
        pad_token_id=template.tokenizer.pad_token_id,
        disable_compile=True,  # it would compile anew for each length of prompts
    )


def _keys_and_values(
    weights: PreTrainedModel, token_ids: list[list[int]], max_tokens: int
) -> dict[str, StaticCache | str]:
    """The argument of generate() that says where keys and values are written."""
    # private in transformers 5.23, which has no public question for it
    if not weights._can_compile_fullgraph:
        return {}
    if weights.device.type == "cpu" and len(token_ids) > 1:
        read = read_prompts(weights, token_ids, max_tokens)
        if read is not None:
            return {"past_key_values": read}
    return {"cache_implementation": "static"}


def _sampling(request: Request, seeds: list[int], prompt_length: int) -> LogitsProcessorList:
    if not request.temperature:
        return LogitsProcessorList()
    top_p = [TopPLogitsWarper(request.top_p)] if request.top_p and request.top_p < 1 else []
    return LogitsProcessorList(
        [
            TemperatureLogitsWarper(request.temperature),
            *top_p,
            RowSampler(seeds, prompt_length, request.max_tokens),
        ]
    )


def _end(row: torch.Tensor, valid: int | None, end_ids: list[int]) -> tuple[int, FinishReason]:
    """Number of tokens of an answer, and why it ended."""
    if valid is not None:
        return valid, "json"  # what follows in the row is padding
    ended = torch.isin(row, torch.tensor(end_ids)).nonzero()
    return (int(ended[0]), "stop") if len(ended) else (len(row), "length")
