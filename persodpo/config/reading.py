"""Reading params.yaml, or some of its sections; each mistake is one sentence with file and key."""

from pathlib import Path
from types import NoneType, UnionType
from typing import Any, TypeVar, get_args, get_origin

from pydantic import ValidationError

from persodpo.config.sections import Section
from persodpo.config.yaml12 import load_yaml
from persodpo.errors import UserError

PARAMS_FILE = Path("params.yaml")

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
    try:
        return whole.model_validate(load_yaml(path))
    except ValidationError as error:
        raise UserError(f"{path}: {_sentence(error, whole)}.") from error


def _sentence(error: ValidationError, whole: type[Section]) -> str:
    """The first mistake of a validation as one sentence without its full stop."""
    first = error.errors()[0]
    location, section = _locate([str(part) for part in first["loc"]], whole)
    where, kind, value = ".".join(location), first["type"], first["input"]
    context = first.get("ctx", {})
    # somebody may have put a key there, or anywhere in a section that can't be told
    secret = bool({"api_key_env", "base_url", "extra_body"}.intersection(location))
    shown = "what stands there" if secret else repr(context.get("tag", value))
    more = error.error_count() - 1
    also = f" (and {more} more {'mistake' if more == 1 else 'mistakes'})" if more else ""
    match kind:
        case "extra_forbidden":
            known = ", ".join(section.model_fields)
            return f"{where} is an unknown key; the keys there are {known}{also}"
        case "missing":
            return f"{where} is missing{also}"
        case "float_type" | "float_parsing":
            return f"{where} must be a number, not {shown}{also}"
        case "int_type" | "int_from_float" | "int_parsing":
            return f"{where} must be a whole number, not {shown}{also}"
        case "bool_type":
            return f"{where} must be true or false, not {shown}{also}"
        case "string_type":
            return f"{where} must be a text, not {shown}{also}"
        case "model_type" | "dict_type" | "model_attributes_type":
            return f"{where or 'the file'} must be a section of keys, not {shown}{also}"
        case "list_type":
            return f"{where} must be a list, not {shown}{also}"
        case "too_short":
            return f"{where} must have at least {context['min_length']}, not {shown}{also}"
        case "finite_number":
            return f"{where} must be a finite number, not {shown}{also}"
        case "greater_than" | "greater_than_equal" | "less_than" | "less_than_equal":
            return f"{where} must be {first['msg'].split('should be ')[-1]}, not {shown}{also}"
        case "literal_error":
            return f"{where} must be one of {context['expected']}, not {shown}{also}"
        case "union_tag_invalid":
            key = context["discriminator"].strip("'")
            return f"{where}.{key} must be one of {context['expected_tags']}, not {shown}{also}"
        case "union_tag_not_found":
            key = context["discriminator"].strip("'")
            return f"{where}.{key} is missing{also}"
        case "string_pattern_mismatch":
            return f"{where} may only have letters, digits, - and _ in its name{also}"
        case "value_error":
            return (f"{where}: " if where else "") + f"{context['error']}{also}"
        case _:
            return f"{where}: {first['msg']}, not {shown}{also}"


def _locate(parts: list[str], whole: type[Section]) -> tuple[list[str], Any]:
    """Where a mistake is as users see it, and the section that holds the last key.

    pydantic adds the value of `backend` or `scorer` behind the key of a section that
    these choose, and a mark behind a bad key.
    """
    shown: list[str] = []
    holder: Any = whole
    kind: Any = whole
    for part in parts:
        members = _members(kind)
        if part in members:
            kind = members[part]
        elif part != "[key]":
            shown.append(part)
            holder, kind = kind, _child(kind, part)
    return shown, holder


def _members(kind: Any) -> dict[str, Any]:
    """The sections of a union by the value of their first field, which chooses among them."""
    options = get_args(kind)
    if options and isinstance(options[0], UnionType):  # behind Annotated
        options = get_args(options[0])
    elif not isinstance(kind, UnionType):
        return {}
    return {
        get_args(next(iter(section.model_fields.values())).annotation)[0]: section
        for section in options
        if isinstance(section, type) and issubclass(section, Section) and len(options) > 1
    }


def _child(kind: Any, part: str) -> Any:
    """The type of what stands under a key."""
    if isinstance(kind, type) and issubclass(kind, Section):
        field = kind.model_fields.get(part)
        child: Any = field and field.annotation
        required = [option for option in get_args(child) if option is not NoneType]
        return required[0] if isinstance(child, UnionType) and len(required) == 1 else child
    arguments = get_args(kind)  # of a dict: its values; of an optional section: that
    return arguments[-1] if arguments and get_origin(kind) is dict else None
