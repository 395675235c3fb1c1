import json

import pytest
from conftest import openai_model
from remote_workspace import RemoteWorkspace, attempts, fault_server

from persodpo.errors import UserError
from persodpo.generate.cost import read_price

PRICES = [
    {"base_url": "http://a/v1", "model": "m", "input": 1.0, "output": 2.0},
    {"base_url": "http://a/v1", "model": None, "input": 0.0, "output": 0.0},
    {"base_url": "http://b/v1/", "model": "m", "input": 3.0, "output": 4.0},
]


@pytest.fixture
def prices(tmp_path):
    path = tmp_path / "prices.yaml"
    path.write_text(json.dumps({"date": "d", "source": "s", "prices": PRICES}))
    return path


@pytest.mark.parametrize(
    ("model", "base_url", "expected"),
    [("m", "http://a/v1", 1.0), ("other", "http://a/v1", 0.0), ("m", "http://b/v1", 3.0)],
)
def test_a_price_is_that_of_the_model_at_the_address(prices, model, base_url, expected):
    price = read_price(prices, "x", openai_model(model=model, base_url=base_url))
    assert price.input == expected
    assert price.cost(2_000_000, 0) == 2 * expected


def test_a_model_without_a_price_is_refused(prices):
    model = openai_model(model="other", base_url="http://b/v1")
    with pytest.raises(UserError, match=r"no price for 'other' at http://b/v1 \(models\.x\); add"):
        read_price(prices, "x", model)


def test_a_broken_price_list_is_reported(prices):
    prices.write_text(prices.read_text().replace('"input": 1.0', '"input": "cheap"'))
    with pytest.raises(UserError, match=r"prices\.yaml: prices\.0\.input: input should be a valid"):
        read_price(prices, "x", openai_model())


@pytest.mark.slow
def test_the_budget_stops_a_run_before_its_first_call(tmp_path):
    log = tmp_path / "log"
    with fault_server(log) as url:
        w = RemoteWorkspace(tmp_path, url, 20)
        w.params["generate"]["max_cost_usd"] = 0.001
        w.write()
        output = w.run(fails=True)
        assert "error: remote: its 20 calls would cost about 0.0" in output
        assert "more than generate.max_cost_usd = 0.001; raise it in params.yaml" in output
        assert attempts(log) == []
        w.params["generate"]["max_cost_usd"] = 1.0
        w.write()
        w.run()
        # what is cached costs nothing
        w.params["generate"]["max_cost_usd"] = 0.0
        w.write()
        w.run()
        assert w.metrics()["spent_usd"] == 0
        assert w.metrics()["cost_usd"] > 0


@pytest.mark.slow
def test_the_budget_stops_a_run_that_costs_more_than_estimated(tmp_path):
    """The answers are dearer than estimated, because max_tokens doesn't bind this server."""
    with fault_server(tmp_path / "log", latency=0.05) as url:
        w = RemoteWorkspace(tmp_path, url, 100, concurrency=2)
        w.params["generate"] |= {"max_tokens": 1, "max_cost_usd": 0.011}
        w.write()
        output = w.run(fails=True)
    assert "although less was estimated; the" in output
    cached = len(w.cached())
    assert 10 < cached < 100
    assert f"the {cached} answers received are kept" in output


@pytest.mark.slow
def test_offline_forbids_every_call(tmp_path, tiny_model):
    log = tmp_path / "log"
    with fault_server(log) as url:
        w = RemoteWorkspace(tmp_path, url, 5)
        w.params["models"]["smollm2_greedy"]["model"] = str(tiny_model)
        w.write()
        output = w.run(fails=True, PERSODPO_OFFLINE="1")
        assert "error: remote: 5 of 5 answers aren't in the cache, and PERSODPO_OFFLINE" in output
        assert attempts(log) == []
        w.run(PERSODPO_OFFLINE="0")
        w.run(PERSODPO_OFFLINE="1")
    assert len(attempts(log)) == 5
    # a model on this machine is a model, too
    output = w.run("stages.generate", "smollm2_greedy", fails=True, PERSODPO_OFFLINE="1")
    assert "5 of 5 answers aren't in the cache" in output
