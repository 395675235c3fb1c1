"""The judge through the stages, with real servers: faults, kills, a budget, refusals."""

import json
import time
from collections import Counter
from itertools import pairwise

import pytest
import torch
from fault_server import FAULTS
from judged_workspace import SCORE, judge, judged_workspace, values
from remote_workspace import attempts, fault_server, make_prompts, serve_model
from transformers import LlamaConfig, LlamaForCausalLM, set_seed

from persodpo.records import write_rows

pytestmark = pytest.mark.slow


def test_none_is_lost_and_none_paid_twice(tmp_path):
    log = tmp_path / "log.jsonl"
    with fault_server(log, fault=0.04, latency=0.01, hang=3, retry_after=1) as url:
        w = judged_workspace(tmp_path, url, 200, timeout_seconds=1.5, concurrency=8)
        for n in (60, 300):
            assert w.kill_when_kept(n, log, *SCORE) == 0
        kept, begin = w.cached(), time.time()
        assert 300 <= len(kept) < 600
        w.run(*SCORE)
        assert w.asked_again(kept, begin, log) == 0
        again = w.run(*SCORE)
        # flips ask what pairwise has asked
        assert again.count("calls to make") == 2
        assert "remote: 200 requests, 200 cached, 0 calls to make" in again
        assert "remote: 400 requests, 400 cached, 0 calls to make" in again
    got = {a["got"] for a in attempts(log)}
    assert set(FAULTS) - {"timeout"} <= got  # for the server, its client has gone
    answered = Counter(a["prompt"] for a in attempts(log) if a["got"] == "answer")
    assert len(answered) == 200 + 2 * 200
    # an answer on its way when the process was killed was paid and never received
    assert sum(answered.values()) - len(answered) <= 2 * 8
    rows = values(w)
    assert len(rows) == 200
    assert {row["grade"] for row in rows} == {1, 2, 3, 4, 5}
    assert {row["pairwise"] for row in rows} == {0, 0.5, 1}
    flips = sum(row["flips"] for row in rows)
    assert 0 < flips < 200
    assert all(row["pairwise"] == 0.5 for row in rows if row["flips"])


def test_an_order_biased_judge_is_found_out(tmp_path):
    with fault_server(tmp_path / "log.jsonl", better="A") as url:
        w = judged_workspace(tmp_path, url, 20)
        w.run(*SCORE)
    assert [(row["pairwise"], row["flips"]) for row in values(w)] == [(0.5, 1)] * 20


def test_what_is_refused_is_no_value_and_is_asked_once(tmp_path):
    log = tmp_path / "log.jsonl"
    with fault_server(log, refuse="I have 3 cats.") as url:
        w = judged_workspace(tmp_path, url, 5)
        output = w.run(*SCORE)
        assert len(attempts(log)) == 5 + 2 * 5
        w.run(*SCORE)
    # refusals aren't kept, and cost nothing
    assert len(attempts(log)) == 5 + 2 * 5 + 3
    missing = [set(row.values()) == {None} for row in values(w)]
    assert missing == [False, False, False, True, False]
    assert "Grade by remote can't be computed for 1 of 5 valid responses" in output
    assert "Flips by remote can't be computed for 1 of 5 valid responses" in output


def test_a_budget_holds_for_all_judges_of_a_stage(tmp_path):
    """The grades alone would cost .0023 dollars at most, the verdicts .0039."""
    log = tmp_path / "log.jsonl"
    with fault_server(log) as url:
        w = judged_workspace(tmp_path, url, 5)
        w.params["generate"]["max_tokens"] = 110
        for limit, calls in ((0.0, 0), (0.0045, 5)):
            w.params["generate"]["max_cost_usd"] = limit
            w.write()
            output = w.run(*SCORE, fails=True)
            assert len(attempts(log)) == calls
            assert "calls would cost about" in output
        assert "this run has spent before more than generate.max_cost_usd = 0.0045" in output
        # in a further run the grades cost nothing
        w.run(*SCORE)
        assert len(attempts(log)) == 5 + 2 * 5


def test_a_budget_holds_for_answers_and_their_judge_together(tmp_path):
    log = tmp_path / "log.jsonl"
    with fault_server(log) as url:
        w = judged_workspace(tmp_path, url, 5)
        write_rows(w.folder / "artifacts/prompts/valid.jsonl", make_prompts(5))
        w.params["evaluate"]["baselines"]["served"] = "remote"
        w.params["generate"]["max_cost_usd"] = 0.0025
        w.write()
        output = w.run("stages.evaluate", "served", fails=True)
    assert len(attempts(log)) == 5
    assert "this run has spent before more than generate.max_cost_usd = 0.0025" in output


def test_a_model_that_can_t_be_asked_is_refused(tmp_path):
    w = judged_workspace(tmp_path, "http://localhost:1/v1", 2)
    w.params["scorers"]["grade"]["model"] = "golden"
    w.write()
    output = w.run(*SCORE, fails=True)
    assert "params.yaml: scorers.grade.model is 'golden', which is no chat model that can" in output


@pytest.fixture
def four_judge(tokenizer, tmp_path):
    """A model that gives everybody a 4: a token alone tells which one comes next."""
    set_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=64, intermediate_size=16, num_hidden_layers=1,
        num_attention_heads=2, num_key_value_heads=1, max_position_embeddings=2048,
        tie_word_embeddings=False, bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    model = LlamaForCausalLM(config).to(torch.float32)
    chat = [{"role": "user", "content": "Hi."}]
    asked = tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
    reply = tokenizer('I like it. {"grade": 4}')["input_ids"]
    said = [tokenizer(asked)["input_ids"][-1], *reply, tokenizer.eos_token_id]
    assert len(set(said)) == len(said)
    with torch.no_grad():
        for each in (model.model.layers[0].self_attn.o_proj, model.model.layers[0].mlp.down_proj):
            each.weight.zero_()
        model.lm_head.weight.zero_()
        for now, following in pairwise(said):
            model.lm_head.weight[following] = model.model.embed_tokens.weight[now]
    model.save_pretrained(tmp_path / "judge")
    tokenizer.save_pretrained(tmp_path / "judge")
    return str(tmp_path / "judge")


def test_a_served_and_a_local_model_judge(tmp_path, four_judge):
    """The same model behind a server and on this machine says the same."""
    with serve_model(four_judge) as (url, name):
        w = judged_workspace(tmp_path, url, 2, model=name, temperature=0.0, top_p=None,
                             response_format="text", timeout_seconds=120.0, max_tokens=24,
                             served_model="any")  # fmt: skip
        w.params["models"]["smollm2_greedy"] |= {"model": four_judge, "max_tokens": 24}
        w.params["scorers"] |= {"local": judge("grade", "smollm2_greedy")}
        w.write()
        output = w.run(*SCORE)
    raw = {}
    for file in (w.folder / ".cache/answers").glob("*.jsonl"):
        for line in file.read_text().splitlines():
            entry = json.loads(line)
            raw.setdefault(entry["request"]["provider"], {})[
                entry["request"]["messages"][0]["content"]
            ] = entry["answer"]["raw"]
    assert set(raw["transformers"].values()) == {'I like it. {"grade": 4}'}
    assert raw["transformers"].items() <= raw["openai"].items()
    for row in values(w):
        # it gives grades only
        assert row == {"grade": 4, "pairwise": None, "flips": None, "local": 4}
    assert "Wins by remote can't be computed for 2 of 2 valid responses" in output
