"""The models behind the metrics: each lays texts before one and gives its judgement.

nli.py, unieval.py, embeddings.py, word_vectors.py    one judge each
judgements.py      each different input judged once, and kept for the next run
checkpoints.py     loading; batches.py texts of like length together
"""
