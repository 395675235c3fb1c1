"""`python -m persodpo chat`: who answers, and that they answer as they would elsewhere."""

import io
import json
import shutil

import pytest
import torch
from chat_workspace import (
    ADAPTERS,
    PERSONA,
    conversation,
    generated,
    make_chat_workspace,
    output,
    refusal,
    run,
)
from rich.console import Console
from transformers import AutoModelForCausalLM
from workspace import change_params

from persodpo.prompts import render_prompt
from persodpo.runner import ARTIFACTS
from persodpo.share.chat.conversation import TooLongError
from persodpo.share.chat.terminal import run_loop
from persodpo.workflow.params import load_params


@pytest.fixture(scope="module")
def workspace(tiny_model, prompts, tmp_path_factory):
    """What a chat reads; tests that change it take `own_workspace` instead."""
    return make_chat_workspace(tmp_path_factory.mktemp("chat"), tiny_model, prompts)


@pytest.fixture(autouse=True)
def working_folder(workspace, monkeypatch):
    monkeypatch.chdir(workspace)
    monkeypatch.setenv("COLUMNS", "200")


@pytest.fixture
def own_workspace(workspace, tmp_path, monkeypatch):
    """A copy to be changed."""
    shutil.copytree(workspace, tmp_path / "own")
    monkeypatch.chdir(tmp_path / "own")


@pytest.mark.slow
@pytest.mark.parametrize(("persona_of", "speaker"), [("user", "User1"), ("machine", "User2")])
def test_the_prompt_says_whose_persona_it_is(own_workspace, persona_of, speaker):
    change_params(lambda params: params["sample"].update(persona_of=persona_of))
    talked = conversation("base")
    list(talked.send("Where is this place?"))
    assert f"Persona of {speaker}:\n- {PERSONA[0]}" in talked.last_prompt


@pytest.mark.slow
def test_each_candidate_answers_as_in_the_evaluation_and_has_its_own_history(own_workspace):
    talked = conversation("base", *ADAPTERS)
    assert len({id(candidate.weights) for candidate in talked.candidates}) == 1
    first = list(talked.send("Where is this place?"))
    second = list(talked.send("And how old is it?"))
    assert len({reply.raw for reply in first}) == 3
    for candidate, one, two in zip(talked.candidates, first, second, strict=True):
        expected = generated(candidate.name, PERSONA, ["Where is this place?"])
        assert (one.raw, one.contract) == (expected.raw, expected.contract)
        turns = ["Where is this place?", one.text, "And how old is it?"]
        assert two.raw == generated(candidate.name, PERSONA, turns).raw
        assert candidate.turns == [*turns, two.text]


@pytest.mark.slow
@pytest.mark.parametrize(("max_turns", "shown"), [(1, 1), (3, 3), (5, 3)])
def test_they_see_no_more_turns_than_in_the_training(own_workspace, max_turns, shown):
    change_params(lambda params: params["sample"].update(max_turns=max_turns))
    talked = conversation("base")
    list(talked.send("Where is this place?"))
    list(talked.send("And how old is it?"))
    assert talked.last_prompt.count("\nUser") == shown
    assert "User1: And how old is it?" in talked.last_prompt


@pytest.mark.slow
def test_sampling_draws_as_in_the_evaluation(own_workspace):
    change_params(lambda p: p["models"][p["train"]["model"]].update(temperature=1.0, top_p=0.9))
    # of the base, since an adapter beside the weights is rounded otherwise than one in them, which
    # moves a draw from a random model's flat predictions
    for text in ("Hello", "Where is this?", "When?"):
        (reply,) = conversation("base").send(text)
        assert reply.raw == generated("base", PERSONA, [text]).raw


@pytest.mark.slow
def test_a_method_trained_with_all_weights_stands_beside_the_adapters(own_workspace, tiny_model):
    model = AutoModelForCausalLM.from_pretrained(tiny_model)
    torch.manual_seed(5)
    model.model.embed_tokens.weight.data += 0.3 * torch.randn_like(model.model.embed_tokens.weight)
    shutil.rmtree(ARTIFACTS / "policies/dpo")
    model.save_pretrained(ARTIFACTS / "policies/dpo")
    talked = conversation("base", "dpo", "persodpo")
    assert len({id(candidate.weights) for candidate in talked.candidates}) == 2
    texts = [reply.raw for reply in talked.send("Hello")]
    assert texts == [generated(c.name, PERSONA, ["Hello"]).raw for c in talked.candidates]
    (alone,) = conversation("dpo").send("Hello")
    assert alone.raw == texts[1]


@pytest.mark.slow
def test_only_who_is_chosen_answers(own_workspace):
    text = output("--with", "persodpo", "--with", "base", "--persona", "I sail.")
    assert "With you: base, persodpo." in text
    message = refusal("--with", "nobody", "--persona", "I sail.")
    assert "nobody" in message
    assert f"choose of {', '.join(['base', *load_params().train.methods])}." in message


def test_a_method_that_is_not_trained_is_refused_or_left_out():
    message = refusal("--with", "persodpo_unweighted", "--persona", "I sail.")
    assert "run dvc repro train@persodpo_unweighted" in message
    assert "dvc pull" in message
    result = run("--persona", "I sail.", typed="")
    assert "With you: base, dpo, persodpo." in result.stdout
    left_out = [line for line in result.stderr.splitlines() if "is left out" in line]
    untrained = [name for name in load_params().train.methods if name not in ADAPTERS]
    assert [line.split()[0] for line in left_out] == untrained


def test_an_adapter_of_another_base_is_refused(own_workspace):
    file = ARTIFACTS / "policies/dpo/adapter_config.json"
    config = json.loads(file.read_text())
    file.write_text(json.dumps(config | {"base_model_name_or_path": "another"}))
    assert "trained on 'another'" in refusal("--with", "dpo", "--persona", "I sail.")
    assert "With you: base, persodpo." in output("--persona", "I sail.", typed="")


@pytest.mark.slow
def test_a_long_conversation_loses_its_oldest_turns_two_at_a_time():
    talked = conversation("base")
    (candidate,) = talked.candidates
    limit = candidate.weights.config.max_position_embeddings
    text = io.StringIO()
    lines = iter([*(f"{i} " + "castle " * 300 for i in range(9)), "x " * limit, "/quit"])
    run_loop(talked, Console(file=text, width=100), lambda: next(lines).strip(), False)
    assert text.getvalue().count("From now on the oldest turns are left out for base") == 1
    assert "room for an answer, and base reads no more than" in " ".join(text.getvalue().split())
    assert len(candidate.turns) == 18
    asked = talked.last_prompt
    assert "User1: 0 castle" not in asked
    dialogue = asked.split("Conversation:\n")[1]
    assert dialogue.startswith("User1: ")
    assert "User1: 8 castle" in dialogue
    assert "- I like castles." in asked
    room = limit - talked.params.generate.max_tokens
    assert len(talked.template.tokenizer(asked, add_special_tokens=False)["input_ids"]) <= room
    # one pair of turns more would not have fitted
    first = int(dialogue.split()[1])
    more = render_prompt(PERSONA, [*candidate.turns[2 * first - 2 : 16], "8 " + "castle " * 300],
                         talked.params.sample.max_words)  # fmt: skip
    assert len(talked.template.tokenizer(more)["input_ids"]) > room - 40
    with pytest.raises(TooLongError):
        list(talked.send("x " * limit))
