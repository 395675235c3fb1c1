"""A conversation of the user with several candidates: what is asked, and what is answered."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from persodpo.generate import Message, Request
from persodpo.generate.local import answer_requests
from persodpo.models.chat_template import ChatTemplate
from persodpo.models.thoughts import split_thoughts
from persodpo.prompts import ContractResult, parse_response, render_prompt
from persodpo.records import Answer
from persodpo.share.chat.candidates import Candidate
from persodpo.workflow import Params


class TooLongError(Exception):
    """A message that some candidate can't read, even without what was said before."""


class Reply(NamedTuple):
    """What a candidate wrote, and its answer in there (without one, all but its thoughts)."""

    raw: str
    contract: ContractResult
    text: str
    seconds: float


class Conversation:
    """What the user says to all candidates under one persona.

    Args:
        candidates: Whom, at least one.
        template: The chat template that they share, with its tokenizer.
        persona: Sentences about the user.
        params: All parameters.
    """

    def __init__(
        self,
        candidates: Sequence[Candidate],
        template: ChatTemplate,
        persona: Sequence[str],
        params: Params,
    ) -> None:
        self.candidates = candidates
        self.template = template
        self.persona = persona
        self.params = params
        self.reset()

    def reset(self) -> None:
        """Begin anew, under the same persona."""
        for candidate in self.candidates:
            candidate.turns.clear()
        self.last_prompt = ""
        """What the first candidate was last asked, the chat template around it."""
        self.shortened: set[str] = set()
        """Names of the candidates that can't read the whole conversation any more."""

    def send(self, text: str) -> Iterator[Reply]:
        """Let the candidates answer a turn, one after the other.

        Raises:
            TooLongError: A candidate can't read it; then none is asked.
        """
        requests = [self.request(candidate, text) for candidate in self.candidates]
        self.last_prompt = self.template.render(requests[0].chat(), to_answer=True)
        for candidate, request in zip(self.candidates, requests, strict=True):
            reply = self._answer(candidate, request)
            candidate.turns += [text, reply.text]
            yield reply

    def request(self, candidate: Candidate, text: str) -> Request:
        """What a candidate is asked; without the oldest turns, two at a time, where all won't fit.

        As in the training, the user still speaks first then, and the persona stays.
        """
        model, generate = self.params.trained_model(), self.params.generate
        config = candidate.weights.config.get_text_config()
        limit = getattr(config, "max_position_embeddings", None)
        sample, length = self.params.sample, 0
        # no more than what it was trained on, and evaluated
        turns = [*candidate.turns, text][-(sample.max_turns or 0) :]
        for start in range(0, len(turns), 2):
            content = render_prompt(
                self.persona, turns[start:], sample.max_words, sample.persona_of
            )
            # No hashes of weights: they matter to the cache of answers only, and take long.
            request = Request(
                provider="transformers",
                messages=(Message(role="user", content=content),),
                max_tokens=model.max_tokens or generate.max_tokens,
                temperature=model.temperature,
                top_p=model.top_p,
                seed=model.seed,
                stops_by=generate.contract,
            )
            tokens = self.template.encode(request.chat(), to_answer=True)
            length = len(tokens) + request.max_tokens
            if limit is None or length <= limit:
                if start:
                    self.shortened.add(candidate.name)
                return request
        raise TooLongError(
            f"This has {length} tokens with the persona and room for an answer, and "
            f"{candidate.name} reads no more than {limit}; say it shorter."
        )

    def _answer(self, candidate: Candidate, request: Request) -> Reply:
        answers: list[Answer] = []
        with candidate.active():
            answer_requests(
                candidate.weights, self.template, [request], 1, lambda _, a: answers.append(a)
            )
        raw, seconds = (answers[0].thoughts or "") + answers[0].raw, answers[0].seconds
        assert seconds is not None  # only a backend that calls no model leaves it out
        text = split_thoughts(answers[0].raw).answer
        contract, answer = parse_response(text, self.params.generate.contract)
        return Reply(raw, contract, text if answer is None else answer, seconds)
