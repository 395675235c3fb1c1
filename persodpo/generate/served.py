"""Whether one model gave all the answers that count as one model's.

Behind the same address and name a server may run another model tomorrow: an alias that moves on,
or another checkpoint. It says so in its replies.
"""

import sys
from collections.abc import Iterable

from persodpo.config.models import OpenAIModel
from persodpo.errors import UserError
from persodpo.records import Answer


class ServedModel:
    """Watches which model and which configuration a server names, answer by answer.

    Args:
        name: The model's key in `params.yaml`.
        model: Its section there; `served_model: any` takes whatever answers.
    """

    def __init__(self, name: str, model: OpenAIModel) -> None:
        self.name = name
        self.model = model
        self._served: str | None = None
        self._fingerprint: str | None = None
        self._has_warned = False

    def add(self, answer: Answer) -> str | None:
        """Look at one more answer.

        Returns:
            A sentence without its full stop if another model gave it than those before.
        """
        self._check_fingerprint(answer.system_fingerprint, warns=True)
        return self._change_of_model(answer)

    def _change_of_model(self, answer: Answer) -> str | None:
        if answer.served_model is None:
            return None
        first, self._served = self._served, self._served or answer.served_model
        if first in (None, answer.served_model) or self.model.served_model == "any":
            return None
        return (
            f"{self.model.base_url} answers to {self.model.model!r} as {first!r} and as "
            f"{answer.served_model!r}, and one model's answers are wanted; name one of them in "
            f"models.{self.name}.model, ask again for those of one after python -m persodpo "
            f"cache prune --model {self.model.model} --served-model {first} --yes (or "
            f"{answer.served_model}), or take both by models.{self.name}.served_model: any"
        )

    def refuse_mixed(self, answers: Iterable[Answer]) -> None:
        """Look at answers that are in the cache already.

        Raises:
            UserError: Different models gave them.
        """
        for answer in answers:
            self._check_fingerprint(answer.system_fingerprint, warns=False)
            if sentence := self._change_of_model(answer):
                raise UserError(f"models.{self.name}: {sentence}.")

    def _check_fingerprint(self, fingerprint: str | None, warns: bool) -> None:
        if fingerprint is None:
            return
        changed = self._fingerprint not in (None, fingerprint)
        if changed and warns and not self._has_warned:
            self._has_warned = True
            sys.stderr.write(
                f"{self.name}: the server's configuration has changed between answers (fingerprint "
                f"{self._fingerprint}, then {fingerprint}), so they may differ in style\n"
            )
        self._fingerprint = fingerprint
