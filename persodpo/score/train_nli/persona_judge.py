"""Train a judge of persona sentences and answers, and fit the numbers that put it together.

The classifier goes on from one of natural language inference, with pairs of
`persona_pairs`; the encoder beside it stays as it is (see persodpo.score.judges.persona). How a
cosine becomes a probability is fitted on the training dialogues' marks. From which probability a
contradiction is called is fitted on dialogues that are held out: a given share of their answers is
called one falsely, under their own and other dialogues' personas together.
"""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score, roc_auc_score
from sklearn.model_selection import GroupShuffleSplit
from transformers import set_seed

from persodpo.records import read_rows
from persodpo.runner import read_json, write_json
from persodpo.score.judges import stance
from persodpo.score.judges.checkpoints import load_classifier, load_encoder
from persodpo.score.judges.embeddings import EmbeddingJudge
from persodpo.score.judges.judgements import BatchJudge
from persodpo.score.judges.nli import NliJudge
from persodpo.score.judges.persona import (
    CONFIG_KEY,
    Cosines,
    PersonaJudge,
    Settings,
    nearest_sentence,
    sentences,
)
from persodpo.score.metric import Judgement, Texts
from persodpo.score.train_nli.pairs import load_pairs
from persodpo.score.train_nli.params import ClassifierParams, PersonaJudgeParams
from persodpo.score.train_nli.persona_pairs import (
    MarkRow,
    PersonRow,
    Round,
    pairs_of_marks,
    pairs_of_people,
    pairs_of_rounds,
    read_rounds,
)
from persodpo.score.train_nli.training import BATCH_TOKENS, fit

KEY = "nli/params.yaml: persona_judges"
# With so many other dialogues' personas each held-out answer is judged.
OTHERS = 5


class TextCosines:
    """Cosines of texts' sentence embeddings, each text embedded once.

    Args:
        texts: All texts that will be asked for.
        params: Which encoder.
    """

    def __init__(self, texts: Sequence[str], params: PersonaJudgeParams) -> None:
        encoder = load_encoder(params.encoder, params.encoder_revision, f"{KEY}.encoder")
        different = list(dict.fromkeys(texts))
        found = encoder.encode(different, normalize_embeddings=True, show_progress_bar=False)
        self._of = dict(zip(different, np.asarray(found, dtype=np.float64), strict=True))

    def __getitem__(self, texts: Texts) -> float:
        """The cosine of two texts."""
        one, other = texts
        return float(self._of[one] @ self._of[other])

    def nearest(self, one: str, answer: str) -> str:
        """The sentence of an answer that is nearest to another text."""
        return nearest_sentence(one, answer, self)


def train_persona_judge(
    params: PersonaJudgeParams, start: ClassifierParams, root: Path, folder: Path
) -> dict[str, Any]:
    """Train a judge and write it.

    Args:
        params: How.
        start: The section of the classifier that it goes on from.
        root: The folder of nli/params.yaml, from which its paths are named.
        folder: Where the judge is written.

    Returns:
        `trained_on`, the number of pairs by label, and on the held-out dialogues what `measure`
        gives.

    Raises:
        UserError: A file is missing or bad, or a model can't be found.
    """
    rounds = read_rounds(root / params.dialogues)
    mend = "data/README.md says what a row has"
    marks = read_rows(root / params.marks, MarkRow, mend)
    people = read_rows(root / params.people, PersonRow, mend)
    split = GroupShuffleSplit(n_splits=1, test_size=params.held_out, random_state=params.seed)
    chosen, left = next(split.split(rounds, groups=[each.dialogue for each in rounds]))
    train, held_out = ([rounds[place] for place in places] for places in (chosen, left))
    texts = [
        text for each in rounds for text in (*each.persona, each.answer, *sentences(each.answer))
    ]
    cosines = TextCosines([*texts, *(row.opposite for row in marks)], params)
    rng = np.random.default_rng(params.seed)
    general, _ = load_pairs(start, root)
    parts = [
        pairs_of_rounds(train, cosines.nearest, params.exchanged, rng),
        pairs_of_marks(marks, train, cosines.nearest),
        pairs_of_people(people, rng),
        general.sample(min(params.general, len(general)), random_state=params.seed),
    ]
    pairs = pd.concat(parts, ignore_index=True)
    set_seed(params.seed)
    model, _ = load_classifier(str(root / "models" / params.start), None, f"{KEY}.start")
    # an adapter's model comes frozen
    fit(model.train().requires_grad_(True), pairs, params, folder)
    nli = NliJudge(str(folder), None, None, BATCH_TOKENS, KEY)
    encoder = EmbeddingJudge(params.encoder, params.encoder_revision, BATCH_TOKENS, KEY)
    judge = partial(PersonaJudge, nli, encoder)
    settings = _fit_settings(params, judge, train, held_out, cosines, rng)
    config = read_json(folder / "config.json")
    write_json(folder / "config.json", config | {CONFIG_KEY: settings.model_dump()})
    return {
        "trained_on": pairs["label"].value_counts().to_dict(),
        **settings.model_dump(exclude={"encoder", "revision"}),
        **measure_held_out(judge(settings), held_out, marks),
    }


def _fit_settings(
    params: PersonaJudgeParams,
    judge: Callable[[Settings], BatchJudge],
    train: Sequence[Round],
    held_out: Sequence[Round],
    cosines: TextCosines,
    rng: np.random.Generator,
) -> Settings:
    """Fit the numbers that put the two models together; `judge` makes one with such numbers."""
    slope, midpoint = fit_relatedness(train, cosines, rng)
    settings = Settings(
        encoder=params.encoder,
        revision=params.encoder_revision,
        slope=slope,
        midpoint=midpoint,
        nearest=params.nearest,
        threshold=0.5,  # leaves the classifier's probabilities as they are
    )
    asked = [
        (persona, each.answer)
        for each in held_out
        for persona in [each.persona, *_other_personas(each, held_out, rng)]
    ]
    highest = [max(p[0] for p in of_answer) for of_answer in _ask(judge(settings), asked)]
    threshold = contradiction_threshold(highest, params.false_contradictions)
    return settings.model_copy(update={"threshold": threshold})


def contradiction_threshold(highest: Sequence[float], share: float) -> float:
    """The lowest threshold, of .5 at least, above which no larger share of answers lies.

    Args:
        highest: Of each answer the largest P(contradiction) of a persona sentence, none of which
            it contradicts.
        share: Of these so many may be called contradictions.

    Returns:
        The threshold, below 1, so that it has odds.
    """
    threshold = float(np.quantile(highest, 1 - share, method="higher"))
    return min(max(threshold, 0.5), 1 - 1e-6)


def fit_relatedness(
    rounds: Sequence[Round], cosines: Cosines, rng: np.random.Generator
) -> tuple[float, float]:
    """How a cosine tells whether an answer uses a persona sentence, by logistic regression.

    Args:
        rounds: Answers with marks of what they use; nobody marked sentences of other dialogues,
            which they can't use.
        cosines: Gives the cosine of a sentence and an answer.
        rng: Draws these.

    Returns:
        The slope, and the midpoint, where a use is as likely as none.
    """
    values: list[list[float]] = []
    used: list[bool] = []
    for each in rounds:
        for persona, marks in [
            (each.persona, each.used),
            *((p, (False,) * len(p)) for p in _other_personas(each, rounds, rng, 1)),
        ]:
            values += [[cosines[one, each.answer]] for one in persona]
            used += marks
    # a large C is no regularisation: there is one number to fit, and thousands of values
    fitted = LogisticRegression(C=1e4).fit(values, used)
    slope = float(fitted.coef_[0][0])
    return slope, float(-fitted.intercept_[0] / slope)


def _other_personas(
    each: Round, rounds: Sequence[Round], rng: np.random.Generator, count: int = OTHERS
) -> list[tuple[str, ...]]:
    drawn = [rounds[place] for place in rng.integers(len(rounds), size=count)]
    return [other.persona for other in drawn if other.dialogue != each.dialogue]


def _ask(judge: BatchJudge, asked: Sequence[tuple[Sequence[str], str]]) -> list[list[list[float]]]:
    """The judgements of each sentence of personas against answers."""
    pairs = list(dict.fromkeys((one, answer) for persona, answer in asked for one in persona))
    known = dict(row for batch in judge(pairs) for row in batch)
    return [[known[one, answer] or [] for one in persona] for persona, answer in asked]


def measure_held_out(
    judge: BatchJudge, rounds: Sequence[Round], marks: Sequence[MarkRow]
) -> dict[str, float]:
    """Measure a judge on dialogues it wasn't trained on.

    Args:
        judge: Gives the probabilities of contradiction, neutral, entailment.
        rounds: Of these dialogues.
        marks: What was written by hand for marks; those of other dialogues are left out.

    Returns:
        `held_out`, the number of answers; `called_falsely`, the share of them that is called a
        contradiction of their own persona; `called`, that of answers under a persona of which a
        sentence that they use is replaced by its opposite; `sentences_auc` and `sentences_f1`, by
        the marks of what the answers use.
    """
    by_place = {(each.dialogue, each.number): each for each in rounds}
    of_golden = _ask(judge, [(each.persona, each.answer) for each in rounds])
    replaced = []
    for row in marks:
        each = by_place.get((row.dialogue, row.round))
        if each is not None:
            persona = [*each.persona]
            persona[row.sentence] = row.opposite
            replaced.append((persona, each.answer))
    used = [mark for each in rounds for mark in each.used]
    entailed = [p[2] for of_answer in of_golden for p in of_answer]
    return {
        "held_out": len(rounds),
        "called_falsely": float(np.mean([_is_contradicted(each) for each in of_golden])),
        "called": float(np.mean([_is_contradicted(each) for each in _ask(judge, replaced)])),
        "sentences_auc": float(roc_auc_score(used, entailed)),
        "sentences_f1": float(f1_score(used, [value > 0.5 for value in entailed])),
    }


def _is_contradicted(judgements: Sequence[Judgement]) -> bool:
    return any(stance(judgement) == -1 for judgement in judgements)
