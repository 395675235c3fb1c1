"""Models on this machine, for the rooms that run them.

locations.py        where weights come from: packages, folders, the hub; and their hashes
loading.py          weights and tokenizers read, each mistake as one sentence
chat_template.py    chats as a model reads them
thoughts.py         what a model thinks aloud, apart from its answer
"""
