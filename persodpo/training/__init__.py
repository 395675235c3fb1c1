"""Fine-tuning on preference pairs: score-weighted DPO on shared prompts."""
