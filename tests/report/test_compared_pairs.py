"""Who is compared with whom."""

from persodpo.config.train import PairMethod
from persodpo.report.write import compared_pairs

PERSODPO = {
    "start": "base", "data": "persodpo", "loss": "sigmoid", "weight": "score",
    "weight_temperature": 1.0, "weight_normalisation": "none", "sft_weight": 0.0,
    "learning_rate": 1e-4,
}  # fmt: skip


def compared(**methods):
    made = {name: PairMethod(**(PERSODPO | changes)) for name, changes in methods.items()}
    return compared_pairs(["base", *methods], made)


def test_a_method_is_compared_with_its_twins_that_lack_the_weight_or_have_dpos_loss():
    pairs = compared(
        persodpo={},
        unweighted={"weight": "none"},
        negative={"weight_temperature": -1.0},
        linear={"loss": "linear"},
        linear_unweighted={"loss": "linear", "weight": "none"},
    )
    assert [pair for pair in pairs if pair[0] != "base"] == [
        ("persodpo", "linear"),
        ("unweighted", "persodpo"),
        ("unweighted", "negative"),
        ("unweighted", "linear_unweighted"),
        ("linear_unweighted", "linear"),
    ]


def test_a_method_with_a_start_is_compared_with_its_twin_that_has_none():
    pairs = compared(sft={}, persodpo={"start": "sft", "learning_rate": 1e-5},
                     no_start={"learning_rate": 1e-5})  # fmt: skip
    assert ("no_start", "persodpo") in pairs
    assert ("persodpo", "no_start") not in pairs


def test_methods_that_differ_in_more_are_no_twins():
    pairs = compared(
        persodpo={},
        faster={"weight": "none", "learning_rate": 1e-3},
        other_pairs={"loss": "linear", "data": "dpo"},
        other_loss_and_weight={"loss": "linear", "weight": "none"},
    )
    assert {pair[0] for pair in pairs} == {"base"}
