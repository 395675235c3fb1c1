"""Natural language inference: does a premise entail a hypothesis, contradict it, or neither?

Any Hugging Face checkpoint for sequence classification, or an adapter on one, with
the three classes. Premise and hypothesis go in as a true pair of sentences, each in
its own segment, as such models were trained; if both are too long together, the
longer one loses its end.
"""

import re
from collections.abc import Iterator, Mapping, Sequence

import torch

from persodpo.errors import UserError
from persodpo.score.judges.batches import padded_batches
from persodpo.score.judges.checkpoints import load_classifier, token_limit
from persodpo.score.judges.persona import CONFIG_KEY
from persodpo.score.metric import Judgement, Texts

LABELS = ("contradiction", "neutral", "entailment")
# The usual names of each class, in lower case without anything but letters; those of the
# Dialogue NLI corpus (Welleck et al., ACL 2019) are negative, neutral and positive.
NAMES = {
    "contradiction": {"contradiction", "contradictory", "contradict", "contradicts", "contra",
                      "negative"},
    "neutral": {"neutral", "neither", "unknown"},
    "entailment": {"entailment", "entail", "entails", "entailed", "implication", "positive"},
}  # fmt: skip


class NliJudge:
    """A loaded classifier.

    Args:
        name: Where it is (see `persodpo.models.locations`).
        revision: The commit of a Hugging Face id, else None.
        labels: Names of its classes in their order, if its configuration doesn't tell.
        batch_tokens: Tokens per pass; it doesn't change judgements beyond rounding.
        key: The parameter that holds the name, for messages.

    Raises:
        UserError: The model can't be found, or its classes can't be told.
    """

    def __init__(
        self,
        name: str,
        revision: str | None,
        labels: Sequence[str] | None,
        batch_tokens: int,
        key: str,
    ) -> None:
        self._model, self._tokenizer = load_classifier(name, revision, key)
        self._batch_tokens = batch_tokens
        config = self._model.config
        # of a judge of persona and answer (see persodpo.score.judges.persona), else None
        self.persona_settings: dict[str, object] | None = getattr(config, CONFIG_KEY, None)
        if labels is not None and len(labels) != config.num_labels:
            raise UserError(
                f"{key[: -len('model')]}labels has {len(labels)} names, but {name!r} "
                f"has {config.num_labels} classes."
            )
        self._order = class_order(dict(enumerate(labels)) if labels else config.id2label, name, key)

    def __call__(self, pairs: Sequence[Texts]) -> Iterator[list[tuple[Texts, Judgement]]]:
        """Judge (premise, hypothesis) pairs.

        Yields:
            Per batch, each pair with its probabilities in the order of LABELS.
        """
        encoded = self._tokenizer(
            [premise for premise, _ in pairs],
            [hypothesis for _, hypothesis in pairs],
            truncation="longest_first",
            max_length=token_limit(self._model, self._tokenizer),
        )
        for rows, batch in padded_batches(encoded, self._tokenizer, self._batch_tokens):
            with torch.inference_mode():
                logits = self._model(**batch.to(self._model.device)).logits
            probabilities = logits.float().softmax(dim=-1)[:, self._order].tolist()
            yield [(pairs[row], p) for row, p in zip(rows, probabilities, strict=True)]


def class_order(id2label: Mapping[int, str], name: str, key: str) -> list[int]:
    """Find the three classes among a checkpoint's labels.

    Args:
        id2label: The checkpoint's labels by their numbers.
        name: The checkpoint, for messages.
        key: The parameter that holds its name, for messages.

    Returns:
        The numbers of contradiction, neutral and entailment, in this order.

    Raises:
        UserError: A class has no label or two, or a label is none of the three.
    """
    order = []
    for label in LABELS:
        numbers = [number for number, text in id2label.items() if class_name(text) == label]
        if len(numbers) != 1 or len(id2label) != len(LABELS):
            raise UserError(
                f"{key} is {name!r}, whose labels {list(id2label.values())} can't be "
                f"told to be {', '.join(LABELS)}, one each; if you know which is which, write "
                f"these words in the order of its classes into {key[: -len('model')]}labels."
            )
        order.append(int(numbers[0]))
    return order


def class_name(label: str) -> str | None:
    """Which of LABELS is meant by a name, whatever its case, blanks and dashes; None if none is."""
    plain = re.sub(r"[^a-z]", "", str(label).lower())
    return next((name for name, names in NAMES.items() if plain in names), None)
