"""Training of NLI classifiers, the models behind C and UE; its pipeline is nli/dvc.yaml.

params.py has nli/params.yaml, pairs.py the sentence pairs with labels (read, split, added
to), training.py makes a classifier from pairs and measures it.
"""
