"""models: on this machine, for the rooms that run them.

locations.py        where weights come from: packages, folders, the hub; and their hashes
loading.py          weights and tokenizers read; failures.py what kept them from it, as one sentence
chat_template.py    chats as a model reads them
thoughts.py         what a model thinks aloud, apart from its answer
"""
