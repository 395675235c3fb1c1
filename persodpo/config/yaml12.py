"""YAML files read by YAML 1.2 rules, by which DVC writes `params.yaml`.

`5e-07` is a number (in PyYAML's YAML 1.1 it is a string) and `no` is a string.
"""

import re
from pathlib import Path
from typing import Any

import yaml

from persodpo.errors import UserError

# The core schema of YAML 1.2 (section 10.3.2).
_CORE = {
    "null": r"null|Null|NULL|~|",
    "bool": r"true|True|TRUE|false|False|FALSE",
    "int": r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+",
    "float": r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?"
    r"|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
}


class _Yaml12Loader(yaml.SafeLoader):
    """PyYAML's safe loader with YAML 1.2's core schema; repeated keys are refused."""

    yaml_implicit_resolvers = {}  # noqa: RUF012 - PyYAML's own, emptied of YAML 1.1

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = []
        for key, _ in node.value:
            if key.value in keys:
                problem = f"the key {key.value!r} stands there twice"
                raise yaml.MarkedYAMLError(problem=problem, problem_mark=key.start_mark)
            keys.append(key.value)
        return super().construct_mapping(node, deep=deep)

    def construct_yaml_int(self, node: yaml.ScalarNode) -> int:
        """Decimal, 0o... or 0x...; a leading zero is no sign of octal, as it was in YAML 1.1."""
        return int(node.value, 0 if node.value[1:2] in ("o", "x") else 10)


for _name, _pattern in _CORE.items():
    _Yaml12Loader.add_implicit_resolver(
        f"tag:yaml.org,2002:{_name}", re.compile(f"({_pattern})$"), None
    )
_Yaml12Loader.add_constructor("tag:yaml.org,2002:int", _Yaml12Loader.construct_yaml_int)


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
    except OSError as error:
        raise UserError(f"{path}: can't be read ({error.strerror}).") from error
    except RecursionError as error:
        raise UserError(f"{path}: its values are nested too deeply.") from error
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise UserError(f"{path}, line {line}: {error.problem}.") from error
    except (yaml.YAMLError, ValueError) as error:
        raise UserError(f"{path}: not a YAML file in UTF-8 ({error}).") from error
