"""persona@<judge> of nli/dvc.yaml: train a judge of persona sentences and answers.

Reads   the classifier that it goes on from, in nli/models/; its dialogues and sentences
Writes  nli/models/<judge>/ (a checkpoint or an adapter), nli/models/<judge>.json (its numbers)
Params  its section in nli/params.yaml, and that of its start
"""

from persodpo.runner import pick, run_stage, write_json
from persodpo.score.train_nli.params import NLI_FOLDER, load_nli_params
from persodpo.score.train_nli.persona_judge import train_persona_judge


def main(judge: str) -> None:
    """Run the stage for one key of persona_judges."""
    params = load_nli_params()
    section = pick(params.persona_judges, judge, "persona_judges (nli/params.yaml)")
    folder = NLI_FOLDER / "models" / judge
    start = params.classifiers[section.start]
    write_json(folder.with_suffix(".json"), train_persona_judge(section, start, NLI_FOLDER, folder))


if __name__ == "__main__":
    run_stage(None, main, "judge")
