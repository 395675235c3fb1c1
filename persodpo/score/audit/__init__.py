"""The audit: can a metric see what it is named for?

    questions.py   golden answers, and what is made from them, on which a metric should differ
    findings.py    how well a metric tells them apart, with intervals and verdicts
    values.py      what the values alone show: constants, ties, repeats, length in disguise
    flags.py       which metrics don't pass, and why
    run.py         all metrics of params.yaml on all questions

No model of the pool is asked. Published values can't be asked for other texts, so of them only
values.py tells something.
"""
