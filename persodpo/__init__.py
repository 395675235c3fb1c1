"""PersoDPO: persona-grounded dialogues in, a better persona-grounded chat model out.

The flow, one module or folder per step:
    focus, sampling, prompts   dialogues -> prompts, and the JSON contract of an answer
    models, generation/        prompts -> responses of a pool of models
    scorers/, nli/             responses -> raw sub-scores C, UE, P, Coh
    scoring, pairing           sub-scores -> total scores -> preference pairs
    training/                  pairs -> LoRA policies (score-weighted DPO)
    evaluation, report         policies -> tables and plots
"""
