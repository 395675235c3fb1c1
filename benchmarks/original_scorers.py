"""Scoring as the paper's released code does it: one text at a time, a cosine per row.

Its two errors are left out (a misaligned loop, one string instead of a pair of texts), so
that scores can be compared. As there, the same pair is judged for C and for UE, the
reference is judged whether or not it can count, UniEval is asked all five questions
about a dialogue though one answer is kept, and nothing is remembered.
"""

from collections.abc import Callable, Iterable

import numpy as np
import pandas as pd
import torch
from sentence_transformers import SentenceTransformer
from sklearn.metrics.pairwise import cosine_similarity
from transformers import pipeline

from persodpo.models.loading import device
from persodpo.models.locations import locate
from persodpo.records import Prompt, Response
from persodpo.score import Scorer
from persodpo.score.consistency import Consistency
from persodpo.score.embedding import Embedding
from persodpo.score.judges.checkpoints import load_classifier, load_seq2seq
from persodpo.score.judges.stopwords import STOP_WORDS
from persodpo.score.judges.word_vectors import load_word_vectors
from persodpo.score.persona_distance import PersonaDistance
from persodpo.score.unieval import UniEval

# UniEval's questions about a dialogue (Zhong et al., EMNLP 2022, appendix), in their code's order.
QUESTIONS = (
    "Is this a natural response in the dialogue? </s> response: {r}",
    "Is this a coherent response given the dialogue history? </s> response: {r}"
    " </s> dialogue history: {h}",
    "Is this an engaging and informative response according to the dialogue history and fact?"
    " </s> response: {r} </s> dialogue history: {h} </s> fact: {f}",
    "Is this response consistent with knowledge in the fact? </s> response: {r} </s> fact: {f}",
    "Is this an understandable response in the dialogue? </s> response: {r}",
)

Coherence = Callable[[Prompt, str], float]


def original_loop(
    scorers: dict[str, Scorer],
) -> Callable[[Iterable[Prompt], Iterable[Response]], pd.DataFrame]:
    """Load the scorers.

    Returns:
        From valid responses and their prompts to a table of coh, c, ue and p.
    """
    c, p = scorers["c"], scorers["p"]
    assert isinstance(c, Consistency)
    assert isinstance(p, PersonaDistance)
    classifier, tokenizer = load_classifier(c.model, c.revision, "scorers.c.model")
    judge = pipeline("text-classification", model=classifier, tokenizer=tokenizer, device=device())
    vectors = load_word_vectors(p.vectors, "scorers.p.vectors")
    coherence = _coherence(scorers["coh"])

    def label(premise: str, hypothesis: str) -> str:
        return judge({"text": premise, "text_pair": hypothesis}, truncation=True)["label"]

    def mean_vector(text: str) -> np.ndarray:
        known = [vectors.matrix[vectors.rows[word]] for word in text.lower().split()
                 if word in vectors.rows and word not in STOP_WORDS]  # fmt: skip
        return np.mean(known, axis=0) if known else np.full(vectors.matrix.shape[1], 0.0)

    def score(prompts: Iterable[Prompt], rows: Iterable[Response]) -> pd.DataFrame:
        values = []
        for prompt, row in zip(prompts, rows, strict=True):
            persona, answer = " ".join(prompt.persona), row.answer or ""
            c = {"contradiction": -1, "neutral": 0, "entailment": 1}[label(persona, answer)]
            by_persona = label(persona, answer) == "entailment"
            by_reference = label(prompt.golden_answer, answer) == "entailment"
            ue = by_persona + (by_persona and by_reference)
            p = cosine_similarity([mean_vector(persona)], [mean_vector(answer)])[0][0]
            values.append({"coh": coherence(prompt, answer), "c": c, "ue": ue, "p": p})
        return pd.DataFrame(values)

    return score


def _coherence(coh: Scorer) -> Coherence:
    if isinstance(coh, Embedding):
        encoder = SentenceTransformer(
            locate(coh.model, coh.revision, "scorers.coh.model"), device=str(device())
        )

        def by_embedding(prompt: Prompt, answer: str) -> float:
            turn, given = encoder.encode(prompt.turns[-1]), encoder.encode(answer)
            return max(float(cosine_similarity([turn], [given])[0][0]), 0.0)

        return by_embedding

    assert isinstance(coh, UniEval)
    model, tokenizer = load_seq2seq(coh.model, coh.revision, "scorers.coh.model")
    yes, no = (tokenizer(word)["input_ids"][0] for word in ("Yes", "No"))
    start = torch.tensor([[model.config.decoder_start_token_id]], device=model.device)

    @torch.no_grad()
    def by_question(prompt: Prompt, answer: str) -> float:
        history = "\n".join(prompt.turns) + "\n\n"
        answers = []
        for question in QUESTIONS:
            text = f"question: {question.format(r=answer, h=history, f=' '.join(prompt.persona))}"
            inputs = tokenizer(text, return_tensors="pt", truncation=True, max_length=1024)
            logits = model(**inputs.to(model.device), decoder_input_ids=start).logits
            p = logits[0, 0].softmax(-1)
            answers.append(float(p[yes] / (p[yes] + p[no])))
        return answers[1]

    return by_question
