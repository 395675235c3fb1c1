"""Fine-tuning on preference pairs: score-weighted DPO, with a prompt's work shared by its answers."""
