"""A talk at the terminal with the base and the trained methods: python -m persodpo chat.

What the user types are the turns of User1, who has the persona. Each candidate answers them as
User2, with its own earlier answers in its prompt. Prompt, decoding and contract are those of the
evaluation, so a candidate says here what it would say there. Nothing is kept.

    candidates.py    who can be talked to, and their weights
    conversation.py  what is asked and answered
    persona.py       who the user is
    literal.py       texts of users and models, shown as they are
    terminal.py      what is typed and shown
"""
