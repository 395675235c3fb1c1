import json
import multiprocessing
import os
import signal
import time
from typing import get_args

import pytest
from conftest import openai_model
from hypothesis import given
from hypothesis import strategies as st
from remote_workspace import make_prompts

from persodpo.errors import UserError
from persodpo.generate.cache import AnswerCache, Damaged
from persodpo.generate.remote import OpenAICaller
from persodpo.generate.request import Message, Request
from persodpo.records import Answer, FinishReason

REQUEST = Request(
    provider="openai", model="m", messages=(Message(role="user", content='"max_tokens":9'),),
    max_tokens=1, temperature=0.0, top_p=None, seed=None,
)  # fmt: skip


def answer(text="yes", **changes):
    values = {"raw": text, "finish_reason": "stop", "seconds": 0.5, "served_model": "m-1",
              "prompt_tokens": 3, "completion_tokens": 2}  # fmt: skip
    return Answer(**(values | changes))


def answer_in(cache, request):
    entry = cache.find(request)
    return None if entry is None else entry.answer


@pytest.fixture
def requests(generate):
    return OpenAICaller("m", openai_model(), generate).requests(make_prompts(50), 110)


def test_an_answer_comes_back_as_it_was(tmp_path, requests):
    cache = AnswerCache(tmp_path / "answers")
    assert answer_in(cache, requests[0]) is None
    given = answer('{"response": "Ünïcödé \u2028 \\ud83d"}\n\n')
    cache.put(requests[0], given)
    cache.put(requests[0], answer("too late"))
    for reader in (cache, AnswerCache(tmp_path / "answers")):
        assert answer_in(reader, requests[0]) == given
        assert answer_in(reader, requests[1]) is None


@given(
    limits=st.tuples(st.integers(1, 20), st.integers(1, 20)),
    tokens=st.none() | st.integers(1, 20),
    reason=st.sampled_from(get_args(FinishReason)),
)
def test_another_limit_asks_again_only_where_it_may_matter(
    tmp_path_factory, limits, tokens, reason
):
    folder = tmp_path_factory.mktemp("answers")
    old, new = (REQUEST.model_copy(update={"max_tokens": limit}) for limit in limits)
    given_ = answer('"max_tokens":7', completion_tokens=tokens, finish_reason=reason)
    AnswerCache(folder).put(old, given_)
    found = answer_in(AnswerCache(folder), new)
    if old == new:
        assert found == given_
    elif tokens is not None:
        assert (found == given_) == (reason != "length" and tokens < min(limits))
    else:  # what isn't counted had at most as many tokens as were allowed
        ended = reason in ("json", "stop", "refusal", "content_filter")
        assert (found == given_) == (ended and limits[0] < limits[1])
    if found:
        assert AnswerCache(folder).find(new).key == old.key


def test_ordinary_tools_can_read_it(tmp_path, requests):
    cache = AnswerCache(tmp_path)
    for request in requests:
        cache.put(request, answer())
    (file,) = tmp_path.iterdir()
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    assert [row["key"] for row in rows] == [request.key for request in requests]
    assert rows[0]["request"]["messages"][0]["content"] == requests[0].messages[0].content
    # and a file that such a tool wrote, laid out in another way, is read
    file.write_text("".join(json.dumps(row, sort_keys=True, indent=None) + "\n" for row in rows))
    assert answer_in(AnswerCache(tmp_path), requests[7]) == answer()


def _write_many(folder, generate, n, copies, barrier=None):
    requests = OpenAICaller("m", openai_model(), generate).requests(make_prompts(n), 110)
    cache = AnswerCache(folder)
    if barrier:
        barrier.wait()  # so that neither has seen the other's answers
    for request in requests:
        cache.put(request, answer(request.key * copies))


def test_two_processes_at_once(tmp_path, generate):
    """Both write all of the same requests, with answers longer than a pipe's or page's buffer."""
    context = multiprocessing.get_context("fork")
    arguments = (tmp_path, generate, 200, 300, context.Barrier(2))
    processes = [context.Process(target=_write_many, args=arguments) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
        assert process.exitcode == 0
    cache = AnswerCache(tmp_path)
    lines = list(cache.lines())
    assert len(lines) == 400
    assert not any(isinstance(line.entry, Damaged) for line in lines)
    asked = OpenAICaller("m", openai_model(), generate).requests(make_prompts(200), 110)
    for request in asked:
        assert answer_in(cache, request) == answer(request.key * 300)


def test_a_killed_process_leaves_whole_entries(tmp_path, generate):
    context = multiprocessing.get_context("fork")
    process = context.Process(target=_write_many, args=(tmp_path, generate, 5000, 20))
    process.start()
    while not list(tmp_path.glob("*.jsonl")) or next(tmp_path.glob("*.jsonl")).stat().st_size < 1e5:
        time.sleep(0.001)
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    lines = list(AnswerCache(tmp_path).lines())
    assert 10 < len(lines) < 5000
    assert not any(isinstance(line.entry, Damaged) for line in lines)


def test_half_a_line_is_passed_over(tmp_path, requests):
    cache = AnswerCache(tmp_path)
    cache.put(requests[0], answer())
    cache.put(requests[1], answer())
    (file,) = tmp_path.iterdir()
    file.write_bytes(file.read_bytes()[:-20])
    after = AnswerCache(tmp_path)
    assert answer_in(after, requests[0]) == answer()
    assert answer_in(after, requests[1]) is None
    assert [isinstance(line.entry, Damaged) for line in after.lines()] == [False, True]


@pytest.mark.parametrize("damage", ["another request", "no answer", "unknown field"])
def test_a_damaged_entry_is_never_served(tmp_path, requests, damage):
    AnswerCache(tmp_path).put(requests[0], answer())
    (file,) = tmp_path.iterdir()
    row = json.loads(file.read_text())
    match damage:
        case "another request":
            row["request"]["temperature"] = 1.5
        case "no answer":
            del row["answer"]
        case _:
            row["answer"]["mood"] = "good"
    file.write_text(json.dumps(row) + "\n")
    with pytest.raises(UserError, match=r"is damaged .* cache prune --damaged --yes"):
        answer_in(AnswerCache(tmp_path), requests[0])


def test_an_entry_that_was_moved_is_found_again(tmp_path, requests):
    """Another process prunes the file whose lines this one has found."""
    writer = AnswerCache(tmp_path)
    for i, request in enumerate(requests[:3]):
        writer.put(request, answer(f"answer {i}"))
    del writer
    reader = AnswerCache(tmp_path)
    AnswerCache(tmp_path).remove(lambda line: line.entry.key == requests[0].key)
    assert answer_in(reader, requests[0]) is None
    assert answer_in(reader, requests[1]) == answer("answer 1")
    reader = AnswerCache(tmp_path)
    AnswerCache(tmp_path).remove(lambda line: True)
    assert answer_in(reader, requests[1]) is None


def test_a_full_disk_is_reported(tmp_path, requests, monkeypatch):
    cache = AnswerCache(tmp_path)
    cache.put(requests[0], answer())
    os.close(cache._file)
    cache._file = os.open("/dev/full", os.O_WRONLY)
    with pytest.raises(UserError, match=r"can't be kept \(No space left"):
        cache.put(requests[1], answer())


def test_removing_leaves_a_running_processs_file_alone(tmp_path, requests):
    writer = AnswerCache(tmp_path)
    writer.put(requests[0], answer())
    assert AnswerCache(tmp_path).remove(lambda line: True) == list(tmp_path.iterdir())
    writer.put(requests[1], answer())
    del writer
    cache = AnswerCache(tmp_path)
    assert cache.remove(lambda line: line.entry.key == requests[0].key) == []
    assert [line.entry.key for line in AnswerCache(tmp_path).lines()] == [requests[1].key]
    assert AnswerCache(tmp_path).remove(lambda line: True) == []
    assert list(tmp_path.iterdir()) == []
