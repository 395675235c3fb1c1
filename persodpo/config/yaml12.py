"""YAML files read by YAML 1.2 rules, by which DVC writes `params.yaml`.

`5e-07` is a number (in PyYAML's YAML 1.1 it is a string) and `no` is a string.
"""

import re
from pathlib import Path
from typing import Any

import yaml

from persodpo.errors import UserError


class _Yaml12Loader(yaml.SafeLoader):
    """PyYAML's safe loader with YAML 1.2's core schema; repeated keys are refused."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key_node, _ in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                raise yaml.MarkedYAMLError(
                    problem="a key must be a word", problem_mark=key_node.start_mark
                )
            if key_node.value in seen:
                raise yaml.MarkedYAMLError(
                    problem=f"the key {key_node.value!r} stands there twice",
                    problem_mark=key_node.start_mark,
                )
            seen.add(key_node.value)
        return super().construct_mapping(node, deep=deep)


def _construct_int(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> int:
    """Decimal, 0o... or 0x...; a leading zero is no sign of octal, as it was in YAML 1.1."""
    text = loader.construct_scalar(node)
    return int(text, {"0o": 8, "0x": 16}.get(text[:2], 10))


# The core schema of YAML 1.2 (section 10.3.2), by a scalar's possible first characters.
_CORE = {
    "bool": (r"true|True|TRUE|false|False|FALSE", "tTfF"),
    "int": (r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", "-+0123456789"),
    "float": (
        r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?"
        r"|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)",
        "-+0123456789.",
    ),
    "null": (r"null|Null|NULL|~|", "nN~"),
}
_Yaml12Loader.yaml_implicit_resolvers = {}
for _name, (_pattern, _first) in _CORE.items():
    _Yaml12Loader.add_implicit_resolver(
        f"tag:yaml.org,2002:{_name}", re.compile(f"^(?:{_pattern})$"), [*_first]
    )
_Yaml12Loader.add_implicit_resolver("tag:yaml.org,2002:null", re.compile("^$"), [""])
_Yaml12Loader.add_constructor("tag:yaml.org,2002:int", _construct_int)


def load_yaml(path: Path) -> Any:
    """Read one YAML file by YAML 1.2 rules.

    Raises:
        UserError: The file is missing or not YAML.
    """
    try:
        # a SafeLoader, whatever the linter thinks of a subclass
        return yaml.load(path.read_text(encoding="utf-8-sig"), Loader=_Yaml12Loader)  # noqa: S506
    except FileNotFoundError as error:
        raise UserError(f"{path}: there is no such file in {Path.cwd()}.") from error
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise UserError(f"{path}, line {line}: {error.problem}.") from error
    except (yaml.YAMLError, ValueError) as error:
        raise UserError(f"{path}: not a YAML file in UTF-8 ({error}).") from error
