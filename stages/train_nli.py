"""train@<classifier> of nli/dvc.yaml: train an NLI classifier and measure it.

Reads   the classifier's folder of sentence pairs in nli/data/
Writes  nli/models/<classifier>/ (a checkpoint or an adapter), nli/models/<classifier>.json
        (its accuracy)
Params  its section in nli/params.yaml
"""

from persodpo.runner import pick, run_stage, write_json
from persodpo.score.train_nli.pairs import load_pairs
from persodpo.score.train_nli.params import NLI_FOLDER, load_nli_params
from persodpo.score.train_nli.training import measure, train_classifier


def main(classifier: str) -> None:
    """Run the stage for one key of classifiers."""
    params = pick(load_nli_params().classifiers, classifier, "classifiers (nli/params.yaml)")
    train, test = load_pairs(params, NLI_FOLDER)
    folder = NLI_FOLDER / "models" / classifier
    train_classifier(train, params, folder)
    numbers = measure(str(folder), None, test)
    write_json(folder.with_suffix(".json"), {"trained_on": len(train), **numbers})


if __name__ == "__main__":
    run_stage(None, main, "classifier")
