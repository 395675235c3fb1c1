"""Files of different runs are never paired."""

import pandas as pd
import pytest
from conftest import ROOT

from persodpo.errors import UserError
from persodpo.pair.pairing import pair_rows, pair_texts, select_pairs
from persodpo.pair.pool import read_pool, write_table
from persodpo.records import Prompt, Response, Score, write_rows
from persodpo.workflow.params import load_params

PROMPTS = [Prompt(id=i, persona=["p"], turns=["t"], golden_answer="r", text="t") for i in "ab"]
METRICS = ["c", "p"]


def response(id_, model, answer="yes", contract="valid", sample=0):
    return Response(
        id=id_, model=model, sample=sample, raw=f"so: {answer}", contract=contract, answer=answer,
        words=1,
        seconds=1.0, prompt_tokens=1, completion_tokens=1, finish_reason="stop",
        served_model=None, system_fingerprint=None, request_key=None,
    )  # fmt: skip


def score(id_, model, answer="yes", contract="valid", p=0.5, sample=0):
    return Score(id=id_, model=model, sample=sample, contract=contract, answer=answer,
                 values={"c": 0.0, "p": p, "audit": 1.0})  # fmt: skip


@pytest.fixture
def artifacts(tmp_path):
    for model in ("m", "n"):
        write(tmp_path, model, [response(i, model) for i in "ab"], [score(i, model) for i in "ba"])
    return tmp_path


def write(folder, model, responses=None, scores=None):
    if responses is not None:
        write_rows(folder / f"responses/{model}.jsonl", responses)
    if scores is not None:
        write_rows(folder / f"scores/{model}.jsonl", scores)


def test_each_response_gets_its_score(artifacts):
    write(artifacts, "n", scores=[score("b", "n", p=None), score("a", "n", p=-0.25)])
    table = read_pool(["m", "n"], PROMPTS, METRICS, artifacts)
    assert table[["id", "model"]].agg("".join, axis=1).tolist() == ["am", "bm", "an", "bn"]
    assert table["p"].fillna(9).tolist() == [0.5, 0.5, -0.25, 9]
    assert table["valid"].all()
    assert "audit" not in table  # pairing can't see it


@pytest.mark.parametrize(
    ("finish_reason", "raw", "has_text"),
    [
        ("refused", "", False),
        ("content_filter", "", False),
        ("length", " \n", False),  # its tokens went into thoughts
        ("length", "{", True),
        ("stop", "", True),  # the model had nothing to say
        ("logged", "", True),
    ],
)
def test_what_no_model_wrote_is_in_no_pair(artifacts, finish_reason, raw, has_text):
    changes = {"raw": raw, "finish_reason": finish_reason, "contract": "none", "answer": None}
    lost = response("a", "m").model_copy(update=changes)
    write(artifacts, "m", [lost, response("b", "m")],
          [score("a", "m", None, "none"), score("b", "m")])  # fmt: skip
    table = read_pool(["m", "n"], PROMPTS, METRICS, artifacts)
    assert table["raw"].notna().tolist() == [has_text, True, True, True]
    params = load_params(ROOT / "params.yaml").pairing
    pairs = select_pairs(
        table.assign(s_total=[0.0, 1.0, 1.0, 1.0], text=pair_texts("dpo", table, params)),
        "valid_invalid", params,
    )  # fmt: skip
    assert len(pairs) == has_text


def test_a_response_outside_the_contract_isn_t_valid(artifacts):
    write(artifacts, "m", [response("a", "m", None, "none")], [score("a", "m", None, "none")])
    table = read_pool(["m"], PROMPTS[:1], METRICS, artifacts)
    assert table["valid"].tolist() == [False]
    assert table["answer"].isna().all()


@pytest.mark.parametrize(
    ("responses", "scores", "message"),
    [
        (None, [score("a", "m"), score("b", "m", "no")], "no score for the answer to prompt 'b'"),
        (None, [score("a", "m")], "no score for the answer to prompt 'b'"),
        (None, [score(i, "n") for i in "ab"], "no score for the answer to prompt 'a'"),
        (None, [score("a", "m"), score("b", "m", contract="salvaged")], "are of another run"),
        ([response("a", "m")], None, "1 prompts of .* have no response, such as 'b'"),
        ([], [], "2 prompts of .* have no response, such as 'a'"),
        (None, [score(i, "m") for i in "abc"], "it has 3 scores for 2 responses"),
        ([response(i, "n") for i in "ab"], None, "it has responses of 'n'; run dvc repro"),
        ([response(i, "m") for i in "abc"], None, "prompt 'c' isn't in artifacts/prompts/train"),
        ([response(i, "m") for i in "aba"], None, "prompt 'a' is answered twice"),
        (
            [*(response(i, "m") for i in "ab"), response("b", "m", sample=1)],
            None,
            "prompt 'a' has fewer samples than others",
        ),
    ],
)
def test_other_runs_are_refused(artifacts, responses, scores, message):
    write(artifacts, "m", responses, scores)
    with pytest.raises(UserError, match=message) as caught:
        read_pool(["m", "n"], PROMPTS, METRICS, artifacts)
    assert "m.jsonl" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_each_sample_gets_its_score(artifacts):
    asked = [(i, sample) for i in "ab" for sample in (0, 1)]
    responses = [response(i, "m", f"{i}{sample}", sample=sample) for i, sample in asked]
    scores = [
        score(i, "m", f"{i}{sample}", p=sample / 2, sample=sample) for i, sample in asked[::-1]
    ]
    write(artifacts, "m", responses, scores)
    table = read_pool(["m"], PROMPTS, METRICS, artifacts)
    assert table["answer"].tolist() == ["a0", "a1", "b0", "b1"]
    assert table["sample"].tolist() == [0, 1, 0, 1]
    assert table["p"].tolist() == [0, 0.5, 0, 0.5]


def test_the_parts_in_which_a_pool_is_read_and_written_don_t_show(artifacts, monkeypatch):
    ids = "abcdefg"
    prompts = [PROMPTS[0].model_copy(update={"id": id_}) for id_ in ids]
    for model, lost in (("m", "abc"), ("n", "")):
        answers = [(id_, None if id_ in lost else f"to {id_}") for id_ in ids]
        contract = {True: "none", False: "valid"}
        write(artifacts, model,
              [response(id_, model, a, contract[a is None]) for id_, a in answers],
              [score(id_, model, a, contract[a is None]) for id_, a in answers])  # fmt: skip
    read, written, paired = [], [], []
    for size in (1000, 2):
        monkeypatch.setattr("persodpo.pair.pool.AT_ONCE", size)
        monkeypatch.setattr("persodpo.pair.pairing.AT_ONCE", size)
        table = read_pool(["m", "n"], prompts, METRICS, artifacts)
        read.append(table)
        table = table.assign(s_total=[float(number) for number in range(14)])
        write_table(artifacts / "scored.jsonl", table)
        written.append((artifacts / "scored.jsonl").read_text())
        params = load_params(ROOT / "params.yaml").pairing
        texts = pair_texts("persodpo", table, params)
        pairs = select_pairs(table.assign(text=texts), "margin", params)
        paired.append(list(pair_rows(pairs, table, texts, prompts)))
    pd.testing.assert_frame_equal(*read)
    assert written[0] == written[1]
    assert len(written[0].splitlines()) == 14
    assert paired[0] == paired[1]
    assert len(paired[0]) == 3


def test_a_table_without_rows_is_an_empty_file(tmp_path):
    write_table(tmp_path / "scored.jsonl", pd.DataFrame({"id": []}))
    assert (tmp_path / "scored.jsonl").read_text() == ""


def test_scores_of_other_scorers_are_refused(artifacts):
    with pytest.raises(UserError, match=r"no value of coh, so they were made by other scorers"):
        read_pool(["m"], PROMPTS, [*METRICS, "coh"], artifacts)


def test_an_empty_pool(artifacts):
    write(artifacts, "m", [], [])
    with pytest.raises(UserError, match=r"train\.jsonl has no prompts, so the pool is empty"):
        read_pool(["m"], [], METRICS, artifacts)


def test_a_missing_model(artifacts):
    with pytest.raises(UserError, match=r"responses/new.jsonl: there is no such file; run the"):
        read_pool(["m", "new"], PROMPTS, METRICS, artifacts)


@pytest.mark.parametrize("number", ["NaN", "Infinity", "1e999"])
def test_a_score_that_is_no_number(artifacts, number):
    path = artifacts / "scores/m.jsonl"
    path.write_text(path.read_text().replace('"p":0.5', f'"p":{number}', 1))
    with pytest.raises(UserError, match=r"m.jsonl, line 1: not a row of type Score \(values"):
        read_pool(["m"], PROMPTS, METRICS, artifacts)
