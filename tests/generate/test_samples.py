"""Several answers of one model to a prompt."""

import pytest
from conftest import openai_model, transformers_model

from persodpo.generate.remote import OpenAICaller
from persodpo.generate.request import sample_requests
from persodpo.generate.run import generate_responses


@pytest.mark.parametrize("seed", [7, None])
def test_each_sample_is_a_request_of_its_own(prompts, generate, seed):
    """With the next seed, since a server answers the same request with the same seed alike."""
    requests = OpenAICaller("m", openai_model(seed=seed), generate).requests(prompts, 110)
    several = sample_requests(requests, 3)
    assert several[::3] == requests
    assert len({request.key for request in several}) == len(several) == 3 * len(prompts)
    assert len({request.random_seed for request in several}) == len(several)
    seeds = [7, 8, 9] if seed else [None] * 3
    assert [request.seed for request in several] == seeds * len(prompts)
    assert sample_requests(requests, 1) == requests


@pytest.mark.slow
def test_several_samples_of_a_prompt(tiny_model, prompts, generate, tmp_path, monkeypatch):
    """Each drawn by itself and cached by itself; a further one costs one call per prompt."""
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    model = transformers_model(tiny_model, temperature=1.0, samples=2)
    two = generate_responses("m", model, prompts, generate, 110)
    assert [(r.id, r.sample) for r in two.responses] == [(p.id, n) for p in prompts for n in (0, 1)]
    pairs = zip(two.responses[::2], two.responses[1::2], strict=True)
    assert all(first.raw != second.raw for first, second in pairs)
    assert (two.metrics["prompts"], two.metrics["responses"]) == (len(prompts), 2 * len(prompts))
    assert two.metrics["calls"] == 2 * len(prompts)

    three = model.model_copy(update={"samples": 3})
    more = generate_responses("m", three, prompts, generate, 110)
    assert (more.metrics["cache_hits"], more.metrics["calls"]) == (2 * len(prompts), len(prompts))
    assert [r for r in more.responses if r.sample < 2] == two.responses
    # a candidate of the evaluation answers once, as the first sample does
    once = generate_responses("m", model, prompts, generate, 110, samples=1)
    assert once.responses == two.responses[::2]
