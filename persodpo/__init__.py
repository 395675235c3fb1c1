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

# OpenMP's threads wait for each other by spinning, for about a millisecond where nothing is set.
# Beside another busy process they burn the time that the others need, and local models become many
# times slower; without any spinning they are a third slower on an idle machine. So libgomp spins
# for some microseconds (benchmarks/threads.py), and what isn't libgomp doesn't. It is read when
# torch loads, so it is set before any module of the package can import torch.
if not {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT"} & set(os.environ):
    os.environ |= {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "5000"}

# On a CPU with avx512_bf16 bitsandbytes asks a hub for a kernel as soon as PEFT imports it, and
# warns where there is none; nothing here uses that kernel.
logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)
# TRL and PEFT ask transformers by a name that it is about to drop, which is theirs to mend.
warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated", FutureWarning)
