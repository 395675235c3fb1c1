"""PersoDPO: persona-grounded dialogues in, a better persona-grounded chat model out.

One room per stage, in the order of the flow; a room uses the ground floor and the rooms before it:
    config      sections of params.yaml
    models      models on this machine
    sample      dialogues -> prompts
    generate    prompts -> responses of a pool of models
    score       responses -> values of metrics
    pair        values -> total scores -> preference pairs
    train       pairs -> policies
    evaluate    candidates on the validation prompts
    workflow    params.yaml as a whole, and dvc.yaml
    report      statistics, tables, figures, the page
    share       export, model card, chat

The ground floor is what several rooms use: errors, records (the rows between stages), prompts
(the wording and the JSON contract), weights, tables (that users bring), processes, value_cache,
runner.
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
