"""A chat as its model reads it: the chat template around the messages, as text and as tokens.

Everything that renders a chat does it here (local generation, training, export, the talk at the
terminal), so that all see the same prompt:

- Some templates write today's date into the prompt. Theirs is the date of params.yaml, or base
  and policy would see different prompts, and so would today and tomorrow.
- What looks like a special token inside a message, such as `<|im_end|>`, stays ordinary text.
"""

import datetime
from collections.abc import Mapping, Sequence
from typing import Any

from transformers import GenerationConfig, PreTrainedTokenizerBase

from persodpo.config.models import TransformersModel
from persodpo.errors import UserError
from persodpo.models.loading import load_tokenizer
from persodpo.models.thoughts import opens_thoughts

Messages = Sequence[Mapping[str, str]]

# What strftime knows; the longer codes first, because they are replaced one after the other.
_CODES = [f"%{flag}{letter}" for flag in "-#" for letter in "dmHIMSjyeUkl"]
_CODES += [f"%{letter}" for letter in "aAbBcdDefFGhHIjklmMnpRsSTuUVwWxXyYzZ"]
# Stands for an answer where only what comes behind it is asked for.
_ANSWER = "[the answer stands here]"


class ChatTemplate:
    """The chat template of a tokenizer, under the settings of params.yaml.

    Args:
        tokenizer: The tokenizer.
        date: The day that templates take for today, as YYYY-MM-DD.
        variables: What else the template is given (`chat_template_kwargs`).
        key: The parameter that names the model, for messages.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        date: str,
        variables: Mapping[str, Any] | None,
        key: str,
    ) -> None:
        self.tokenizer = tokenizer
        self.key = key
        self._variables = dict(variables or {})
        try:
            self.text = tokenizer.get_chat_template()
        except ValueError as error:
            raise UserError(
                f"{key}: its tokenizer has several chat templates and none called default; keep "
                "one of them (chat_template.jinja)."
            ) from error
        if "strftime_now" in self.text:
            # transformers takes no function among a template's variables, but a macro is as good
            self.text = _today_macro(date) + self.text

    def render(self, messages: Messages, to_answer: bool) -> str:
        """The chat as text.

        Args:
            messages: Each with `role` and `content`.
            to_answer: Whether the assistant's next message begins at the end.

        Raises:
            UserError: The template refuses the chat, or leaves the user's message out.
        """
        text = str(self._apply(messages, to_answer, tokenize=False))
        for message in messages:
            if message["role"] == "user" and message["content"].strip() not in text:
                raise UserError(
                    f"{self.key}: its chat template leaves the user's message out, as one does "
                    "that wants messages in parts; take another model."
                )
        return text

    def encode(self, messages: Messages, to_answer: bool) -> list[int]:
        """The chat as tokens; see `render`."""
        encoded = self._apply(
            messages, to_answer, tokenize=True, return_dict=True, sanitize_control_tokens=True
        )
        return list(encoded["input_ids"])

    def _apply(self, messages: Messages, to_answer: bool, **options: Any) -> Any:
        try:
            return self.tokenizer.apply_chat_template(
                [dict(message) for message in messages],
                chat_template=self.text,
                add_generation_prompt=to_answer,
                **options,
                **self._variables,
            )
        except Exception as error:  # a template is a program of somebody else's
            raise UserError(
                f"{self.key}: its chat template can't write a chat ({error}); look at "
                "chat_template_kwargs, or take another model."
            ) from error

    def encode_answer(self, messages: Messages, answer: str, is_cut: bool) -> list[int] | None:
        """The tokens of an answer behind the prompt's, up to where the template ends a turn.

        A model writes its answer behind the prompt's tokens. So where a tokenizer would merge the
        end of the prompt with the beginning of the answer, as Qwen2's does with line feeds, the
        two are tokenised apart.

        Args:
            messages: The prompt.
            answer: The answer.
            is_cut: It was cut when it was generated, so its turn doesn't end behind it.

        Returns:
            None if the template writes the prompt otherwise once it has an answer, or the
            answer can't be tokenised by itself.
        """
        prompt = self.render(messages, to_answer=True)
        prompt_ids = self.encode(messages, to_answer=True)
        chat = [*messages, {"role": "assistant", "content": answer}]
        text, ids = self.render(chat, to_answer=False), self.encode(chat, to_answer=False)
        behind = self._behind_answer(messages)
        end = len(text) - len(behind)
        if not (text.startswith(prompt) and text.endswith(behind) and end >= len(prompt)):
            return None
        end_ids = self._end_ids(text, end)
        if ids[: len(prompt_ids)] == prompt_ids:
            answer_ids = ids[len(prompt_ids) :]
        else:
            answer_ids = [*self._encode_apart(text[len(prompt) : end]), *end_ids]
            if self._decode(prompt_ids + answer_ids) != self._decode(ids):
                return None
        # of a blank answer the end of its turn is all there is
        if is_cut and answer.strip():
            if answer_ids[len(answer_ids) - len(end_ids) :] != end_ids:
                return None
            answer_ids = answer_ids[: len(answer_ids) - len(end_ids)]
        return answer_ids

    def _behind_answer(self, messages: Messages) -> str:
        """What the template writes behind an answer."""
        chat = [*messages, {"role": "assistant", "content": _ANSWER}]
        return self.render(chat, to_answer=False).rpartition(_ANSWER)[2]

    def _end_ids(self, text: str, end: int) -> list[int]:
        """The tokens of a text from a place on, as they are behind what stands before it."""
        before, all_ids = self._encode_plain(text[:end]), self._encode_plain(text)
        return all_ids[len(before) :]

    def _encode_apart(self, text: str) -> list[int]:
        """The tokens of a text as they are behind a token of its own, without special ones."""
        special = self.tokenizer.eos_token or self.tokenizer.pad_token
        if special and not any(token in text for token in self._special_tokens):
            # alone, some tokenizers would put a blank before it
            return self._encode_plain(special + text)[len(self._encode_plain(special)) :]
        encoded = self.tokenizer(text, add_special_tokens=False, split_special_tokens=True)
        return list(encoded["input_ids"])

    def _encode_plain(self, text: str) -> list[int]:
        return list(self.tokenizer(text, add_special_tokens=False)["input_ids"])

    def _decode(self, ids: list[int]) -> str:
        return str(self.tokenizer.decode(ids, clean_up_tokenization_spaces=False))

    def opens_thoughts(self, messages: Messages) -> bool:
        """Whether an answer begins inside the model's thoughts (see `persodpo.models.thoughts`)."""
        return opens_thoughts(self.render(messages, to_answer=True))

    def end_ids(self, config: GenerationConfig) -> list[int]:
        """The tokens that end an answer: of generation config, tokenizer and template.

        Checkpoints often name one of them only, and a chat model that doesn't stop where its
        template ends a turn goes on with a turn of the user.

        Args:
            config: The checkpoint's.

        Raises:
            UserError: There is none.
        """
        named = config.eos_token_id
        ids = set(named if isinstance(named, list) else [named]) | {self.tokenizer.eos_token_id}
        ids |= {self._end_of_turn()}
        end_ids = sorted(each for each in ids if each is not None)
        if not end_ids:
            raise UserError(
                f"{self.key} names a model without a token that ends its answers: neither its "
                "generation config nor its tokenizer nor its chat template has one; set eos_token "
                "in its tokenizer_config.json."
            )
        return end_ids

    def _end_of_turn(self) -> int | None:
        """The token of its own with which the template ends an answer, if it does so."""
        ids = self._encode_plain(self._behind_answer([{"role": "user", "content": "x"}]).strip())
        return ids[0] if ids and ids[0] in self.tokenizer.added_tokens_decoder else None

    @property
    def special_ids(self) -> set[int]:
        """All special tokens."""
        added = self.tokenizer.added_tokens_decoder
        special = {number for number, token in added.items() if token.special}
        return special | set(self.tokenizer.all_special_ids)

    @property
    def _special_tokens(self) -> list[str]:
        return [token.content for token in self.tokenizer.added_tokens_decoder.values()]


def load_chat_template(model: TransformersModel, date: str, key: str) -> ChatTemplate:
    """The chat template by which a model is asked, with its tokenizer.

    Args:
        model: Its section of params.yaml.
        date: See `ChatTemplate`.
        key: See there.

    Raises:
        UserError: The tokenizer can't be found or loaded, or has no chat template.
    """
    tokenizer = load_tokenizer(model.model, model.revision, key)
    return ChatTemplate(tokenizer, date, model.chat_template_kwargs, key)


def _today_macro(date: str) -> str:
    """A Jinja macro in the place of transformers' `strftime_now`, for a fixed day."""
    day = datetime.datetime.fromisoformat(date)
    filters = "".join(f"|replace({code!r},{day.strftime(code)!r})" for code in _CODES)
    return "{%- macro strftime_now(format) -%}{{- format" + filters + " -}}{%- endmacro -%}"
