"""PersoDPO: persona-grounded dialogues in, a better persona-grounded chat model out.

The flow, one module or folder per step:
    focus, sampling, prompts   dialogues -> prompts, and the JSON contract of an answer
    models, generation/        prompts -> responses of a pool of models
    scorers/, nli/             responses -> raw sub-scores C, UE, P, Coh
    scoring, pairing           sub-scores -> total scores -> preference pairs
    training/                  pairs -> LoRA policies (score-weighted DPO)
    evaluation, report         policies -> tables and plots
"""

import logging
import os
import warnings

# OpenMP's threads wait for each other by spinning. Beside another busy process they then burn the
# time that the others need, and local models become several times slower. libgomp reads this when
# torch loads it, so it is set before any module of the package can import torch.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

# On a CPU with avx512_bf16 bitsandbytes asks a hub for a kernel as soon as PEFT imports it, and
# warns where there is none; nothing here uses that kernel.
logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)
# TRL and PEFT ask transformers by a name that it is about to drop, which is theirs to mend.
warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated", FutureWarning)
