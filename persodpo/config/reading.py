"""Reading params.yaml, or some of its sections; each mistake is one sentence with file and key."""

import re
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from persodpo.config.sections import Section, dotted_key
from persodpo.config.yaml12 import load_yaml
from persodpo.errors import UserError

PARAMS_FILE = Path("params.yaml")
# Somebody may have put a key there, so no message shows what stands there.
_MAYBE_SECRET = {"api_key_env", "base_url", "extra_body"}
# Where pydantic speaks of Python, what is meant in a YAML file.
_MESSAGES = {
    "missing": "is missing",
    "model_type": "Input should be a section of keys",
    "dict_type": "Input should be a section of keys",
    "model_attributes_type": "Input should be a section of keys",
    "string_pattern_mismatch": "may only have letters, digits, - and _ in its name",
    "union_tag_invalid": "must have a {discriminator} of {expected_tags}, not {tag!r}",
    "union_tag_not_found": "must have a {discriminator}",
}

SectionT = TypeVar("SectionT", bound=Section)


def read_params(whole: type[SectionT], path: Path = PARAMS_FILE) -> SectionT:
    """Read a file of parameters and check it against its sections.

    Args:
        path: The file, YAML.
        whole: What it must hold.

    Raises:
        UserError: The file is missing or not YAML, a key is unknown or missing,
            or a value has the wrong type or is impossible. The message is one
            sentence and names the file and the first key at fault.
    """
    data = load_yaml(path)
    try:
        return whole.model_validate(data)
    except ValidationError as error:
        raise UserError(f"{path}: {_sentence(error, data)}.") from error


def _sentence(error: ValidationError, data: Any) -> str:
    """The first mistake of a validation as one sentence without its full stop."""
    first = error.errors()[0]
    key, kind = _key(first, data), first["type"]
    if kind == "value_error":  # from a validator of ours
        sentence = f"{key}: {first['ctx']['error']}".removeprefix(": ")
    elif kind == "unknown_key":  # from Section
        sentence = f"{key}.{first['msg']}".removeprefix(".")
    else:
        template = _MESSAGES.get(kind)
        text = template.format(**first.get("ctx", {})) if template else first["msg"]
        if text.startswith("Input should") and _MAYBE_SECRET.isdisjoint(first["loc"]):
            text += f", not {first['input']!r}"
        sentence = f"{key or 'the file'} {re.sub('^[A-Z][a-z]+ should', 'must', text)}"
    more = error.error_count() - 1
    return sentence + (f" (and {more} more mistake{'s' * (more > 1)})" if more else "")


def _key(error: ErrorDetails, data: Any) -> str:
    """The dotted key of a mistake.

    What pydantic puts between the keys is left out: which member of a union it took, and a mark
    behind a bad key. Neither is a key of the data.
    """
    keys = []
    for part in error["loc"]:
        try:
            data = data[part]
        except (KeyError, IndexError, TypeError):
            continue
        keys.append(part)
    if error["type"] == "missing":
        keys.append(error["loc"][-1])
    return dotted_key(keys)
