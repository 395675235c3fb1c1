"""share: a policy as a model for others, with its card; and a talk with it at the terminal.

In: a trained policy, the report's numbers. Out: a folder for plain transformers.

    export.py       python -m persodpo export; model_card.py the card, push.py to the hub
    policies.py     where trained policies lie, and whether they are adapters
    chat/           python -m persodpo chat
"""
