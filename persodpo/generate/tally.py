"""The count of a model's calls while they are made: progress, budget, and numbers afterwards."""

import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Self

import pandas as pd
from tqdm import tqdm

from persodpo import processes
from persodpo.generate.cache import AnswerCache, Entry
from persodpo.generate.cost import Estimate, Price, estimate_tokens
from persodpo.generate.request import Request
from persodpo.records import Answer, Response

_COUNTED = (
    "answers",
    "entries",
    "uncached",
    "faults",
    "made",
    "failed",
    "refused",
    "tokens",
    "cost_usd",
)


class Tally:
    """Keeps every answer in the cache as it comes, and counts.

    Under several processes each has a tally of its own share, until `combine`.

    Args:
        plan: What was estimated before the first call, for all processes.
        cache: Where answers are kept.
        price: The model's price; None on this machine.
        max_cost_usd: The budget.
        prompt_ids: By a request's key, the id of a prompt that it asks for.
        known: The answers that were kept before, by their request's key.
        spent_usd: What the stage's run has spent before, which counts for the budget, too.
    """

    def __init__(
        self,
        plan: Estimate,
        cache: AnswerCache,
        price: Price | None,
        max_cost_usd: float,
        prompt_ids: Mapping[str, str],
        known: Mapping[str, Answer],
        spent_usd: float = 0.0,
    ) -> None:
        self.plan = plan
        self.cache = cache
        self.price = price
        self.max_cost_usd = max_cost_usd
        self.prompt_ids = prompt_ids
        self.known = known
        self.spent_usd = spent_usd
        self.faults: Counter[str] = Counter()
        self.answers: dict[str, Answer] = {}
        """This run's answers by their request's key."""
        self.entries: dict[str, str] = {}
        """The keys of those among them that are kept under another request's key."""
        self.uncached: set[str] = set()
        """Keys of those among them that aren't kept."""
        self.made = 0
        self.failed = 0
        self.refused = 0
        self.tokens = 0
        self.cost_usd = 0.0
        self.bar = tqdm(
            total=plan.requests,
            initial=plan.cached,
            desc=plan.model,
            unit="answer",
            miniters=1,
            disable=not processes.is_main(),
        )

    def __enter__(self) -> Self:
        self._show()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.bar.close()

    def store(self, request: Request, answer: Answer) -> None:
        """Put an answer into the cache, and count it."""
        self.cache.put(request, answer)
        self.answers[request.key] = answer
        self.made += 1
        self.tokens += (answer.prompt_tokens or 0) + (answer.completion_tokens or 0)
        self.cost_usd += self._cost(request, answer)
        self.bar.update()
        self._show()

    def reuse(self, request: Request, entry: Entry) -> None:
        """Take an answer that the cache has got meanwhile, and that this run hasn't paid."""
        self.answers[request.key] = entry.answer
        self.entries[request.key] = entry.key
        self.bar.update()

    def combine(self) -> None:
        """Take over what the other processes have counted, so that all end with the same."""
        own = len(self.answers)
        parts = processes.gather([{name: getattr(self, name) for name in _COUNTED}])
        self.answers = {key: answer for part in parts for key, answer in part["answers"].items()}
        self.entries = {key: entry for part in parts for key, entry in part["entries"].items()}
        self.uncached = set().union(*(part["uncached"] for part in parts))
        self.faults = sum((part["faults"] for part in parts), Counter())
        self.made = sum(part["made"] for part in parts)
        self.failed = sum(part["failed"] for part in parts)
        self.refused = sum(part["refused"] for part in parts)
        self.tokens = sum(part["tokens"] for part in parts)
        self.cost_usd = sum(part["cost_usd"] for part in parts)
        self.bar.update(len(self.answers) - own)
        self._show()

    def _cost(self, request: Request, answer: Answer) -> float:
        """US dollars; what the server didn't count is taken as estimated."""
        if self.price is None:
            return 0.0
        prompt, completion = answer.prompt_tokens, answer.completion_tokens
        return self.price.cost(
            estimate_tokens(request) if prompt is None else prompt,
            request.max_tokens if completion is None else completion,
        )

    def refuse(self, request: Request, answer: Answer) -> None:
        """Take what the server did instead of answering for the answer, in this run only."""
        self.answers[request.key] = answer
        self.uncached.add(request.key)
        self.refused += 1
        self._write(request, f"refused, {answer.error}")
        self.bar.update()

    def over_budget(self) -> str | None:
        """Say so if the calls have cost more than the budget, although less was estimated."""
        if self.spent_usd + self.cost_usd <= self.max_cost_usd:
            return None
        before = self.spent_usd and f"with the {self.spent_usd:.4f} that this run has spent before "
        return (
            f"{self.made} calls have cost {self.cost_usd:.4f} dollars, {before or ''}more than "
            f"generate.max_cost_usd = {self.max_cost_usd:g}, although less was estimated"
        )

    def show_state(self, state: str) -> None:
        """Say on the progress line how far the server is."""
        self.bar.set_description(f"{self.plan.model}, {state}")

    def fault(self, kind: str) -> None:
        """Count an attempt that brought no answer, by its kind."""
        self.faults[kind] += 1
        self._show()

    def fail(self, request: Request, message: str) -> None:
        """Count a request that stays without an answer, and say why."""
        self.failed += 1
        self._write(request, message)

    def _write(self, request: Request, message: str) -> None:
        prompt = self.prompt_ids[request.key]
        self.bar.write(f"{self.plan.model}, prompt {prompt!r}: {message}", file=sys.stderr)
        self._show()

    def _show(self) -> None:
        self.bar.set_postfix(
            cached=self.plan.cached,
            failed=self.failed,
            retries=sum(self.faults.values()),
            tokens=self.tokens,
            usd=f"{self.cost_usd:.4f}",
            refresh=False,
        )


def generation_metrics(
    responses: Sequence[Response], tally: Tally | None, price: Price | None
) -> dict[str, Any]:
    """Numbers about a model's responses.

    Args:
        responses: At least one.
        tally: The count of this run's calls; None for a backend without calls.
        price: The model's price; None on this machine.

    Returns:
        `prompts`, `responses`, `failure_ratio` (share outside the contract), `cut_ratio` (share
        cut at the most tokens), `contract` and `finish_reasons` (counts), `prompt_tokens`,
        `completion_tokens`, `cost_usd` of all responses whenever they were made (None if the
        server didn't count the tokens of some),
        `seconds_per_response` (median); and of this run `requests`, `cache_hits`,
        `calls`, `faults` (attempts without an answer, by kind) and `spent_usd`.
    """
    table = pd.DataFrame([response.model_dump() for response in responses])
    seconds = table["seconds"].astype(float).median()
    paid = table.drop_duplicates("request_key")  # the same request is made once
    prompt_tokens, completion_tokens = paid["prompt_tokens"].sum(), paid["completion_tokens"].sum()
    cost: float | None = price.cost(prompt_tokens, completion_tokens) if price else 0.0
    if price and paid[["prompt_tokens", "completion_tokens"]].isna().any(axis=None):
        cost = None
    return {
        "prompts": int(table["id"].nunique()),
        "responses": len(table),
        "failure_ratio": float((table["contract"] != "valid").mean()),
        "cut_ratio": float((table["finish_reason"] == "length").mean()),
        "contract": table["contract"].value_counts().sort_index().to_dict(),
        "finish_reasons": table["finish_reason"].value_counts().sort_index().to_dict(),
        "prompt_tokens": int(prompt_tokens),
        "completion_tokens": int(completion_tokens),
        "cost_usd": cost,
        "seconds_per_response": None if pd.isna(seconds) else float(seconds),
        "requests": tally.plan.requests if tally else 0,
        "cache_hits": tally.plan.cached if tally else 0,
        "calls": tally.made if tally else 0,
        "faults": dict(sorted(tally.faults.items())) if tally else {},
        "spent_usd": tally.cost_usd if tally else 0.0,
    }
