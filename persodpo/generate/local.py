"""The backend `transformers`: a model that answers on this machine.

What makes it fast: prompts are answered in batches of similar length, so little
is padded; on a CPU they are read one by one (`persodpo.generate.prefill`); keys
and values are written into a static cache instead of being copied at every token;
an answer ends as soon as it is valid, and leaves its batch (`persodpo.generate.batch`).
"""

import itertools
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path

import torch
from accelerate.utils import find_executable_batch_size
from transformers import PreTrainedModel

from persodpo import processes
from persodpo.config.generate import GenerateParams
from persodpo.config.models import TransformersModel
from persodpo.errors import UserError
from persodpo.generate.batch import PendingPrompt, answer_batch, decoding_settings
from persodpo.generate.request import LOCAL_VERSION, Request, chat
from persodpo.generate.tally import Tally
from persodpo.models.chat_template import ChatTemplate, load_chat_template
from persodpo.models.loading import device, fast_dtype, load_policy
from persodpo.models.locations import ADAPTER_FILE, folder_hash, weights_hash
from persodpo.records import Answer, Prompt

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

    @property
    def dtype(self) -> torch.dtype:
        """The number format of the weights.

        All weights are trained in float32, by steps that are mostly smaller than what bfloat16 can
        tell apart; so such a policy keeps float32, whatever the others compute in.
        """
        is_whole = self.policy is not None and not (self.policy / ADAPTER_FILE).is_file()
        return torch.float32 if is_whole else fast_dtype(self.params.dtype)

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
                dtype=str(self.dtype).removeprefix("torch."),
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
        weights = load_policy(*source, self.policy, self.dtype)
        if self.params.batch_size:
            batch_size = self.params.batch_size
        else:
            batch_size = CPU_BATCH_SIZE if device().type == "cpu" else ACCELERATOR_BATCH_SIZE
        answer_requests(weights, self.template, requests, batch_size, tally.store)


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
        UserError: Nothing tells where the model's answers end, a prompt is too long for the model,
            or there isn't even room for one.
    """
    weights.eval()
    # in place of the checkpoint's own, from which generate() would take what is left open
    weights.generation_config = decoding_settings(weights, template, requests[0].max_tokens)
    # longest first: a batch that doesn't fit in memory fails at the start, not at the end
    pending = sorted(
        (
            PendingPrompt(template.encode(request.chat(), to_answer=True), request)
            for request in requests
        ),
        key=lambda prompt: len(prompt.token_ids),
        reverse=True,
    )
    limit = getattr(weights.config.get_text_config(), "max_position_embeddings", None)
    n_tokens, most = len(pending[0].token_ids), requests[0].max_tokens
    if limit is not None and n_tokens + most > limit:
        raise UserError(
            f"{weights.config.name_or_path}: a prompt has {n_tokens} tokens and its answer up to "
            f"{most}, and the model reads {limit} in all; set sample.max_turns, or lower "
            "max_tokens."
        )
    sizes = itertools.count(1)

    def halve() -> int:
        """A half of the batch size at the first call, a quarter at the second, and so on."""
        return batch_size >> next(sizes)

    def answer_pending(size: int) -> None:
        while pending:
            batch = pending[:size]
            for prompt, answer in zip(batch, answer_batch(weights, template, batch), strict=True):
                store(prompt.request, answer)
            del pending[:size]

    try:
        find_executable_batch_size(
            answer_pending, starting_batch_size=batch_size, reduce_batch_size_fn=halve
        )()
    except RuntimeError as error:
        if "No executable batch size" not in str(error):  # accelerate's words
            raise
        raise UserError(
            "there isn't enough memory to answer a single prompt; take a smaller model, a lower "
            "max_tokens, or generate.dtype bfloat16 in params.yaml."
        ) from error
