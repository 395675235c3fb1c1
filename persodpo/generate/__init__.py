"""generate: prompts to responses, no call paid twice.

In: `Prompt` rows and a section of `models`. Out: `Response` rows, and numbers of the calls.

    run.py          answers of one model to prompts, by its backend
    texts.py        answers to other texts, such as a judge's questions
    asking.py       requests of either: cache first, then an estimate, then the calls
    request.py      what is asked, and the key of an answer in the cache
    cache.py        the cache of answers; cost.py estimate and budget; tally.py what a run cost
    local.py        models on this machine; prefill.py, decoding.py how they answer together
    remote.py       models behind a server; call.py, reply.py, faults.py, limits.py, served.py its
                    sides; remote_batch.py many requests in one job, batch_jobs.py jobs on their way
    policy.py       trained methods that answer the training prompts themselves
    logged.py       answers that somebody published; golden.py the data set's own

local.py needs torch, which takes seconds to import, so it is not behind this door: who asks a
loaded model imports `answer_requests` from there.
"""

from persodpo.generate.asking import make_caller
from persodpo.generate.cache import AnswerCache, Damaged, Entry, Line
from persodpo.generate.policy import Answering, answering_model
from persodpo.generate.request import Message, Request, sample_request
from persodpo.generate.run import estimate_model, generate_responses
from persodpo.generate.texts import TextAsker, estimate_texts

__all__ = [
    "AnswerCache",
    "Answering",
    "Damaged",
    "Entry",
    "Line",
    "Message",
    "Request",
    "TextAsker",
    "answering_model",
    "estimate_model",
    "estimate_texts",
    "generate_responses",
    "make_caller",
    "sample_request",
]
