"""Train the NLI head of C and UE on a file of sentence pairs, and measure it.

    python -m persodpo.scorers.train_nli_head --data snli.csv --out data/nli_head/model.safetensors

The file has the columns premise, hypothesis and label (entailment, neutral,
contradiction; rows with another label, such as SNLI's "-", are left out). A
fifth of the *premises* is held out, so no premise is on both sides; the printed
accuracies are on those. The head that is written is the measured one.

SNLI's annotators took both sentences for descriptions of one scene, so its
unrelated sentences count as contradictions. A persona and an answer about a
landmark are unrelated most of the time without contradicting each other, so
premises with a hypothesis of another premise are added as neutral.
"""

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
from safetensors.numpy import save
from sklearn.metrics import accuracy_score, classification_report
from sklearn.model_selection import GroupShuffleSplit
from sklearn.neural_network import MLPClassifier

from persodpo.params import load_params
from persodpo.scorers.encoder import load_encoder
from persodpo.scorers.nli import LABELS, pair_features

# Unrelated pairs that are added, as a share of the file's pairs.
UNRELATED = 0.3


def main() -> None:
    """Train, print the accuracy on held-out premises, and write the head."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="CSV: premise,hypothesis,label")
    parser.add_argument("--out", type=Path, required=True, help="where the head is written")
    args = parser.parse_args()
    pairs = pd.read_csv(args.data, keep_default_na=False)
    pairs = pairs[pairs["label"].isin(LABELS)].reset_index(drop=True)
    scorers = load_params().scorers
    encode = load_encoder(scorers.encoder, scorers.encoder_revision, batch_size=256)
    premises, hypotheses = encode(list(pairs["premise"])), encode(list(pairs["hypothesis"]))
    split = GroupShuffleSplit(n_splits=1, test_size=0.2, random_state=0)
    train, test = next(split.split(premises, groups=pairs["premise"]))
    features = {name: pair_features(premises[rows], hypotheses[rows])
                for name, rows in (("train", train), ("test", test))}  # fmt: skip
    random = np.random.default_rng(0)
    unrelated = {
        name: pair_features(
            premises[random.choice(rows, int(UNRELATED * len(rows)))],
            hypotheses[random.choice(rows, int(UNRELATED * len(rows)))],
        )
        for name, rows in (("train", train), ("test", test))
    }
    head = MLPClassifier(
        hidden_layer_sizes=(256,), alpha=1e-3, batch_size=256, early_stopping=True,
        n_iter_no_change=5, max_iter=100, random_state=0,
    )  # fmt: skip
    head.fit(
        np.concatenate([features["train"], unrelated["train"]]),
        [*pairs["label"][train], *["neutral"] * len(unrelated["train"])],
    )
    assert tuple(head.classes_) == LABELS
    guesses = head.predict(features["test"])
    neutral = float((head.predict(unrelated["test"]) == "neutral").mean())
    print(f"{args.data}: {len(train)} pairs to train on, {len(test)} held out (by premise)")
    print(f"accuracy on held-out pairs: {accuracy_score(pairs['label'][test], guesses):.3f}")
    print(classification_report(pairs["label"][test], guesses, digits=3))
    print(f"held-out unrelated pairs found neutral: {neutral:.3f} of {len(unrelated['test'])}")
    (w_hidden, w_output), (b_hidden, b_output) = head.coefs_, head.intercepts_
    weights = {
        "hidden.weight": w_hidden,
        "hidden.bias": b_hidden,
        "output.weight": w_output,
        "output.bias": b_output,
    }
    # half precision halves the file, and changes no more than a few labels in ten thousand
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_bytes(save({k: v.astype(np.float16) for k, v in weights.items()}))


if __name__ == "__main__":
    main()
