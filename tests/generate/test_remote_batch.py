"""Batch mode, against a server that plays OpenAI's Batch API and faults."""

import json
import random
import time
from collections import Counter
from functools import partial

import pytest
from conftest import openai_model
from fault_server import reply_to
from remote_workspace import KEY, attempts, fault_server, make_prompts, new_workspace

from persodpo.errors import UserError
from persodpo.generate import batch_jobs
from persodpo.generate.batch_jobs import new_jobs, open_jobs
from persodpo.generate.cache import AnswerCache
from persodpo.generate.remote import OpenAICaller
from persodpo.records import read_rows

pytestmark = pytest.mark.slow


@pytest.fixture
def log(tmp_path):
    return tmp_path / "log.jsonl"


def batch_server(log, **options):
    return fault_server(log, "batch_server.py", **options)


def workspace(tmp_path, url, n, **changes):
    w = new_workspace(tmp_path, url, n, mode="batch", **changes)
    w.prices[0]["batch"] = 0.5
    w.write()
    return w


def answered(log):
    """How often the server has answered each prompt, which is when one pays."""
    return Counter(line["prompt"] for line in attempts(log) if "prompt" in line)


def jobs_made(log):
    return sum("job" in line for line in attempts(log))


def jobs_on_disk(w):
    return list((w.folder / ".cache/batch_jobs").glob("*"))


def check_all(w, log, n):
    assert len(answered(log)) == n
    assert set(answered(log).values()) == {1}
    for prompt, row in zip(make_prompts(n), w.responses(), strict=True):
        assert (row["id"], row["raw"]) == (prompt.id, reply_to(prompt.text))
        assert (row["contract"], row["seconds"]) == ("valid", None)
    assert jobs_on_disk(w) == []


def test_all_are_answered_by_one_job_for_half_the_price(tmp_path, log):
    with batch_server(log) as url:
        w = workspace(tmp_path, url, 30, extra_body={"reasoning_effort": "low"})
        output = w.run()
    check_all(w, log, 30)
    assert jobs_made(log) == 1
    (line,) = [line for line in output.splitlines() if "calls to make" in line]
    tokens_in = int(line.split("about ")[1].split()[0])
    tokens_out = int(line.split("at most ")[1].split()[0])
    assert f"about {(tokens_in + 2 * tokens_out) / 2e6:.4f} dollars" in line
    metrics = w.metrics()
    assert metrics["calls"] == 30
    half = (metrics["prompt_tokens"] + 2 * metrics["completion_tokens"]) / 2e6
    assert metrics["cost_usd"] == pytest.approx(half)
    body = attempts(log)[-1]["body"]
    assert body["reasoning_effort"] == "low"
    assert body["max_tokens"] == w.params["generate"]["max_tokens"]
    assert "extra_body" not in body
    # the live mode takes the same answers
    w.params["models"]["remote"]["mode"] = "live"
    w.write()
    assert "30 requests, 30 cached, 0 calls" in w.run()


def test_five_kills_and_faults_lose_nothing_and_pay_nothing_twice(tmp_path, log):
    draw = random.Random(1)
    with batch_server(log, fault=0.05, line_fault=0.1, seconds=1.5) as url:
        w = workspace(tmp_path, url, 300)
        for _ in range(5):
            process = w.start(python=w.python())
            until = time.time() + draw.uniform(0.5, 6)
            while time.time() < until and process.poll() is None:
                time.sleep(0.02)
            process.kill()
            process.wait()
        output = w.run()
    check_all(w, log, 300)
    assert KEY not in output
    assert not [p for p in tmp_path.rglob("*") if p.is_file() and KEY.encode() in p.read_bytes()]


@pytest.mark.parametrize("moment", ["uploaded", "made", "kept"])
def test_a_kill_at_the_worst_moment(tmp_path, log, moment):
    """The server has taken what the killed run had no time to write down."""
    kill = {
        "uploaded": "batch_jobs.BatchJob.save = lambda job, **c: os.kill(os.getpid(), 9) "
                    "if 'input_file_id' in c else save(job, **c)",
        "made": "batch_jobs.BatchJob.save = lambda job, **c: os.kill(os.getpid(), 9) "
                "if 'job_id' in c else save(job, **c)",
        "kept": "batch_jobs.BatchJob.discard = lambda job: os.kill(os.getpid(), 9)",
    }[moment]  # fmt: skip
    code = (
        "import os, sys\\nsys.argv = ['x', 'remote']\\n"
        "from persodpo.generate import batch_jobs\\nsave = batch_jobs.BatchJob.save\\n"
        f"{kill}\\nfrom stages.generate import main\\nmain('remote')"
    )
    with batch_server(log) as url:
        w = workspace(tmp_path, url, 20)
        (w.folder / "killed.py").write_text(code.replace("\\n", "\n"))
        process = w.start("killed")
        assert process.wait() == -9, process.communicate()[0]
        assert len(jobs_on_disk(w)) == 1
        w.run()
        if moment != "kept":
            check_all(w, log, 20)
        else:  # what was kept before isn't counted again when its job is fetched
            w.set_prompts(25)
            w.run()
            check_all(w, log, 25)
            assert w.metrics()["calls"] == 5
    assert set(answered(log).values()) == {1}
    assert jobs_made(log) == (2 if moment == "kept" else 1)


@pytest.mark.parametrize(
    ("behaviour", "jobs", "limit_name"),
    [
        # what an expired job leaves is handed in again
        ("expire", 2, "max_tokens"),
        # so is what the server refuses because of the name of the limit on tokens
        ("renamed", 2, "max_completion_tokens"),
        # a file that ends behind a whole line, too early, is fetched again, and nothing asked again
        ("short", 1, "max_tokens"),
        # a gateway's page in the place of a reply is no reply
        ("page", 1, "max_tokens"),
    ],
)
def test_what_is_left_is_asked_once_more(tmp_path, log, behaviour, jobs, limit_name):
    with batch_server(log, **{behaviour: True}) as url:
        w = workspace(tmp_path, url, 20)
        w.run()
    check_all(w, log, 20)
    assert jobs_made(log) == jobs
    assert limit_name in attempts(log)[-1]["body"]


def test_a_file_that_stays_short_is_reported_and_nothing_is_paid_again(tmp_path, log):
    with batch_server(log, always_short=True) as url:
        w = workspace(tmp_path, url, 20, attempts=2)
        for _ in range(2):
            output = w.run(fails=True)
            (file,) = jobs_on_disk(w)
            assert "can't be fetched (the file file-1 has 19 answers of 20)" in output
            assert str(file.name) in output
    assert jobs_made(log) == 1


def kill_on_its_way(w, log):
    """Run until the server has a job."""
    process = w.start(python=w.python())
    while not jobs_made(log):
        time.sleep(0.02)
    time.sleep(0.5)  # until it is written down
    process.kill()
    process.wait()


def test_more_prompts_while_a_job_is_on_its_way(tmp_path, log):
    with batch_server(log, seconds=4) as url:
        w = workspace(tmp_path, url, 10)
        kill_on_its_way(w, log)
        w.set_prompts(15)
        w.run()
    check_all(w, log, 15)
    assert jobs_made(log) == 2


def test_a_higher_cap_while_a_job_is_on_its_way(tmp_path, log):
    with batch_server(log, seconds=4) as url:
        w = workspace(tmp_path, url, 10)
        kill_on_its_way(w, log)
        w.params["generate"]["max_tokens"] += 50
        w.write()
        w.run()
    check_all(w, log, 10)
    assert jobs_made(log) == 1
    assert w.metrics()["calls"] == 0
    # a row names the entry that is kept, under the limit of then
    kept = {line.entry.key for line in AnswerCache(w.folder / ".cache/answers").lines()}
    assert {row["request_key"] for row in w.responses()} == kept


def test_the_live_mode_asks_nothing_that_is_on_its_way(tmp_path, log):
    with batch_server(log, seconds=4) as url:
        w = workspace(tmp_path, url, 10)
        kill_on_its_way(w, log)
        w.params["models"]["remote"]["mode"] = "live"
        w.write()
        output = w.run(fails=True)
        (file,) = jobs_on_disk(w)
        assert "models.remote: 10 of its requests are in a batch job that is on its way" in output
        assert file.name in output
        w.params["models"]["remote"]["mode"] = "batch"
        w.write()
        w.run()
    check_all(w, log, 10)


def test_a_job_that_never_reached_the_server_is_forgotten(tmp_path, log):
    with batch_server(log, refuse_upload=True) as url:
        w = workspace(tmp_path, url, 10)
        assert "too large" in w.run(fails=True)
        assert len(jobs_on_disk(w)) == 1
        w.set_prompts(4)
        w.run()
    check_all(w, log, 4)


def test_a_cancelled_job_is_not_handed_in_again_by_itself(tmp_path, log):
    with batch_server(log, cancel=True) as url:
        w = workspace(tmp_path, url, 20)
        output = w.run(fails=True)
        assert "the batch job batch-0 was cancelled at the server; run the stage again" in output
        assert (jobs_made(log), len(answered(log))) == (1, 10)
        w.run()
    check_all(w, log, 20)
    assert jobs_made(log) == 2


def test_answers_whose_file_is_not_named_are_not_paid_again(tmp_path, log):
    with batch_server(log, unnamed=True) as url:
        w = workspace(tmp_path, url, 5)
        for _ in range(2):
            assert "(the server names no file of its 5 answers)" in w.run(fails=True)
            assert len(jobs_on_disk(w)) == 1
    assert jobs_made(log) == 1


def test_a_server_that_takes_small_jobs_only(tmp_path, log):
    with batch_server(log, most=8) as url:
        w = workspace(tmp_path, url, 20, attempts=1)
        w.run()
    check_all(w, log, 20)
    assert jobs_made(log) == 6  # of 20, then 10, then 4 of 5


def test_what_the_server_refuses_is_said(tmp_path, log):
    with batch_server(log, refuse_jobs="Enqueued token limit reached") as url:
        w = workspace(tmp_path, url, 3)
        output = w.run(fails=True)
    assert "models.remote: the server refuses a batch job (Enqueued token limit reached)" in output
    assert jobs_on_disk(w) == []


def test_a_job_of_another_account_is_reported(tmp_path, log):
    with batch_server(log, seconds=60) as url:
        w = workspace(tmp_path, url, 3)
        kill_on_its_way(w, log)
    (file,) = jobs_on_disk(w)
    with batch_server(tmp_path / "other.jsonl") as other:
        file.write_text(file.read_text().replace(url, other))
        w.params["models"]["remote"]["base_url"] = w.prices[0]["base_url"] = other
        w.write()
        job = json.loads(file.read_text())
        file.write_text(json.dumps(job | {"job_id": "batch-9", "input_file_id": "file-9"}))
        output = w.run(fails=True)
        assert "the server doesn't know its batch job batch-9" in output
        assert file.name in output
        file.write_text("{")
        output = w.run(fails=True)
        assert "it names a batch job that is on its way, and can't be read" in output
        file.unlink()
        w.run()


def test_a_server_without_a_price_in_batch_mode_is_refused(tmp_path, log):
    with batch_server(log) as url:
        output = new_workspace(tmp_path, url, 3, mode="batch").run(fails=True)
    assert "the price of models.remote has no factor `batch`" in output
    assert jobs_made(log) == 0


def test_a_server_without_the_batch_api_is_said(tmp_path, log):
    with fault_server(log) as url:
        output = workspace(tmp_path, url, 3).run(fails=True)
    assert "error: models.remote: the server says 404" in output


def _read_rows(gone, path, kind):
    gone.unlink(missing_ok=True)
    return read_rows(path, kind)


def test_jobs_are_as_large_as_a_server_takes(tmp_path, monkeypatch, generate):
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    requests = OpenAICaller("m", openai_model(), generate).requests(make_prompts(10), 110)
    monkeypatch.setattr(batch_jobs, "MOST_REQUESTS", 4)
    jobs = list(new_jobs(requests, "max_tokens"))
    assert [len(job.requests) for job in jobs] == [4, 4, 2]
    assert [each for job in jobs for each in job.requests] == requests
    assert [len(job.requests) for job in new_jobs(requests, "max_tokens", 7)] == [7, 3]
    size = len(batch_jobs.request_line(requests[0], "max_tokens"))
    monkeypatch.setattr(batch_jobs, "MOST_BYTES", 3 * size)
    assert [len(job.requests) for job in new_jobs(requests, "max_tokens")] == [3, 3, 3, 1]
    assert list(new_jobs([], "max_tokens")) == []
    model = openai_model(base_url=requests[0].base_url)
    assert len(open_jobs(model)) == 9
    assert open_jobs(openai_model(model="another")) == []
    # another process fetches a job's answers at the same time, and removes its file
    gone = sorted((tmp_path / ".cache/batch_jobs").glob("*"))[0]
    with monkeypatch.context() as patch:
        patch.setattr(batch_jobs, "read_rows", partial(_read_rows, gone))
        assert len(open_jobs(model)) == 8
    (tmp_path / ".cache/batch_jobs/x.jsonl").write_text("{}\n")
    with pytest.raises(UserError, match="names a batch job"):
        open_jobs(model)
