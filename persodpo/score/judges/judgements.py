"""Judgements: each different input is judged once, and kept for the next run.

What a judge says depends on its model and on the input alone, not on weights,
margins or on what else is judged. So judgements are kept under `.cache/judgements`
as soon as their batch is done, and a killed run goes on where it was. A model is
loaded only if something is left to be judged.
"""

import hashlib
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from persodpo.errors import UserError
from persodpo.runner import cache_folder
from persodpo.score.metric import Judge, Judgement, Texts
from persodpo.value_cache import open_value_cache

# From different inputs, in any order, to their judgements, batch by batch.
BatchJudge = Callable[[Sequence[Texts]], Iterator[list[tuple[Texts, Judgement]]]]

# A judgement is kept to so many decimals, which is more than the arithmetic of a batch of another
# size or order leaves equal; so a score file doesn't change when nothing but these did.
DECIMALS = 6


def cached_judge(
    identity: Mapping[str, object], load: Callable[[], BatchJudge], folder: Path | None = None
) -> Judge:
    """Make a judge that remembers.

    Args:
        identity: Everything besides the input that can change a judgement: what is asked,
            its version, the model and its revision or the hash of its weights.
        load: Loads the model behind the judge; called at most once.
        folder: Where judgements are kept, by default `.cache/judgements`; safe for several
            processes at once.

    Returns:
        A judge that raises UserError if the kept judgements can't be read or written, or the
        model says what is no number.
    """
    folder = folder or cache_folder() / "judgements"
    loaded: list[BatchJudge] = []

    def judge(inputs: Sequence[Texts]) -> list[Judgement]:
        keys = {texts: _key(identity, texts) for texts in inputs}
        with open_value_cache(folder, "judgements") as cache:
            known = {texts: cache.get(key) for texts, key in keys.items()}
            missing = [texts for texts, value in known.items() if value is None]
            if missing and not loaded:
                loaded.append(load())
            for batch in loaded[0](missing) if missing else ():
                with cache.transact():
                    for texts, judgement in batch:
                        known[texts] = _text(judgement, str(identity["judge"]))
                        cache.set(keys[texts], known[texts])
        return [json.loads(known[texts]) for texts in inputs]

    return judge


def _key(identity: Mapping[str, object], texts: Texts) -> str:
    content = json.dumps([identity, texts], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()


def _text(judgement: Judgement, judge: str) -> str:
    if judgement is not None and not all(map(math.isfinite, judgement)):
        raise UserError(
            f"params.yaml: the model behind the judge {judge!r} in scorers gave {judgement}, which "
            "is no number; its weights must be damaged."
        )
    return json.dumps(judgement and [round(value, DECIMALS) for value in judgement])
