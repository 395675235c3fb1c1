"""The backend `transformers`: a model that answers on this machine.

What makes it fast: prompts are answered in batches of similar length, so little
is padded; on a CPU they are read one by one (`persodpo.generation.prefill`); keys
and values are written into a static cache instead of being copied at every token;
and an answer ends as soon as its JSON object is closed.
"""

import itertools
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from accelerate.utils import find_executable_batch_size
from peft import PeftModel
from transformers import (
    GenerationConfig,
    LogitsProcessorList,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    StaticCache,
    StoppingCriteriaList,
    TemperatureLogitsWarper,
    TopPLogitsWarper,
)

from persodpo import processes
from persodpo.generation.decoding import ObjectClosed, RowSampler
from persodpo.generation.prefill import read_prompts
from persodpo.generation.request import Request, chat
from persodpo.generation.tally import Tally
from persodpo.model_params import TransformersModel
from persodpo.models import (
    ADAPTER_FILE,
    device,
    fast_dtype,
    folder_hash,
    load_causal_lm,
    load_tokenizer,
    weights_hash,
)
from persodpo.params import GenerateParams
from persodpo.records import Answer, FinishReason, Prompt

Keep = Callable[[Request, Answer], None]

CPU_BATCH_SIZE = 64
ACCELERATOR_BATCH_SIZE = 128


class TransformersCaller:
    """Asks one model of the pool, with a trained adapter or without one.

    Args:
        name: The model's key in `params.yaml`.
        model: Its section there.
        params: The settings that all models share.
        adapter: The folder of an adapter on top, or of a whole model that was trained from it.
    """

    def __init__(
        self,
        name: str,
        model: TransformersModel,
        params: GenerateParams,
        adapter: Path | None = None,
    ) -> None:
        self.key = f"params.yaml: models.{name}.model"
        self.model = model
        self.params = params
        self.adapter = adapter

    def requests(self, prompts: Sequence[Prompt], max_words: int) -> list[Request]:
        """One request per prompt; no weights are loaded, only their hash is taken."""
        model = self.model
        weights = weights_hash(model.model, model.revision, self.key)
        return [
            Request(
                provider="transformers",
                model=None if weights else model.model,
                revision=model.revision,
                weights=weights,
                adapter=folder_hash(self.adapter) if self.adapter else None,
                dtype=str(fast_dtype(self.params.dtype)).removeprefix("torch."),
                messages=chat(prompt, model.persona, max_words),
                max_tokens=self.params.max_tokens,
                temperature=model.temperature,
                top_p=model.top_p if model.temperature else None,
                seed=model.seed if model.temperature else None,
            )
            for prompt in prompts
        ]

    def answer(self, requests: Sequence[Request], tally: Tally) -> None:
        """Load the model and let it answer, in each process a share; kept batch by batch."""
        requests = processes.share(requests)
        if not requests:
            return
        tokenizer = load_tokenizer(self.model.model, self.model.revision, self.key)
        weights = self._load_weights()
        if self.params.batch_size:
            batch_size = self.params.batch_size
        else:
            batch_size = CPU_BATCH_SIZE if device().type == "cpu" else ACCELERATOR_BATCH_SIZE
        answer_requests(weights, tokenizer, requests, batch_size, tally.keep)

    def _load_weights(self) -> PreTrainedModel:
        where = (self.model.model, self.model.revision, self.key)
        dtype = fast_dtype(self.params.dtype)
        if self.adapter is None:
            return load_causal_lm(*where, dtype)
        if not (self.adapter / ADAPTER_FILE).is_file():
            return load_causal_lm(str(self.adapter), None, str(self.adapter), dtype)
        # merged, an adapter costs no time at each token; merged in float32, it loses nothing
        policy = PeftModel.from_pretrained(load_causal_lm(*where, torch.float32), str(self.adapter))
        return policy.merge_and_unload().to(dtype)


def answer_requests(
    weights: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    requests: Sequence[Request],
    batch_size: int,
    keep: Keep,
) -> None:
    """Let a loaded model answer requests that differ in their messages only.

    Args:
        weights: The model.
        tokenizer: Its tokenizer.
        requests: What to answer, at least one.
        batch_size: So many are answered at once; half as many after each time that memory
            runs out.
        keep: Called with each request and its answer, batch by batch.
    """
    weights.eval()
    # in place of the checkpoint's own, from which generate() would take what is left open
    weights.generation_config = _generation_config(weights, tokenizer, requests[0])
    # longest first: a batch that doesn't fit in memory fails at the start, not at the end
    waiting = sorted(
        ((_apply_chat_template(tokenizer, request), request) for request in requests),
        key=lambda row: len(row[0]),
        reverse=True,
    )
    sizes = itertools.count(1)

    def halve() -> int:
        """A half of the batch size at the first call, a quarter at the second, and so on."""
        return batch_size >> next(sizes)

    def answer_waiting(size: int) -> None:
        while waiting:
            batch = waiting[:size]
            for (_, request), answer in zip(
                batch, _answer_batch(weights, tokenizer, batch), strict=True
            ):
                keep(request, answer)
            del waiting[:size]

    find_executable_batch_size(
        answer_waiting, starting_batch_size=batch_size, reduce_batch_size_fn=halve
    )()


def _apply_chat_template(tokenizer: PreTrainedTokenizerBase, request: Request) -> list[int]:
    encoding = tokenizer.apply_chat_template(
        [message.model_dump() for message in request.messages],
        add_generation_prompt=True,
        return_dict=True,
    )
    return list(encoding["input_ids"])


def _answer_batch(
    weights: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    batch: Sequence[tuple[list[int], Request]],
) -> list[Answer]:
    """Generate for one batch of prompts' tokens with their requests."""
    begin = time.perf_counter()
    request = batch[0][1]
    inputs = tokenizer.pad(
        {"input_ids": [ids for ids, _ in batch]}, padding_side="left", return_tensors="pt"
    ).to(weights.device)
    prompt_length = inputs["input_ids"].shape[1]
    closed = ObjectClosed(tokenizer, prompt_length)
    end_ids = weights.generation_config.eos_token_id
    with torch.inference_mode():
        output = weights.generate(
            **inputs,
            **_keys_and_values(weights, [ids for ids, _ in batch], request.max_tokens),
            logits_processor=_sampling(request, [r.random_seed for _, r in batch], prompt_length),
            stopping_criteria=StoppingCriteriaList([closed]),
        )[:, prompt_length:].cpu()
    seconds = (time.perf_counter() - begin) / len(batch)
    answers = []
    for i, (ids, _) in enumerate(batch):
        length, reason = _end(output[i], closed.length.get(i), end_ids)
        answers.append(
            Answer(
                raw=tokenizer.decode(output[i, :length], skip_special_tokens=True),
                finish_reason=reason,
                seconds=seconds,
                batch_size=len(batch),
                prompt_tokens=len(ids),
                completion_tokens=length,
            )
        )
    return answers


def _generation_config(
    weights: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, request: Request
) -> GenerationConfig:
    """All decoding settings; greedy, because `_sampling` leaves one token where it draws."""
    return GenerationConfig(
        max_new_tokens=request.max_tokens,
        do_sample=False,
        eos_token_id=weights.generation_config.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
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


def _end(
    row: torch.Tensor, closed: int | None, end_ids: int | list[int]
) -> tuple[int, FinishReason]:
    """Number of tokens of an answer, and why it ended."""
    if closed is not None:
        return closed, "json"  # what follows in the row is padding
    ended = torch.isin(row, torch.tensor(end_ids)).nonzero()
    return (int(ended[0]), "stop") if len(ended) else (len(row), "length")
