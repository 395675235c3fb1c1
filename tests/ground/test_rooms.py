"""The rooms of the package: who may import whom, what a stage depends on, how long a module is."""

import ast
from pathlib import Path

import pytest
from conftest import ROOT
from ruamel.yaml import YAML

# In the order of the flow.
ROOMS = ["config", "models", "sample", "generate", "score", "audit", "pair", "train", "evaluate",
         "workflow", "report", "experiments", "share"]  # fmt: skip
# Rooms without a door of their own, whose modules are each for those who need them.
OPEN = {"config", "models"}
# Modules of another room that are imported beside its door, because the door would import them,
# and with them a model library, for everybody.
BESIDE_THE_DOOR = {"persodpo.generate.local", "persodpo.share.export", "persodpo.share.push",
                   "persodpo.share.chat.terminal"}  # fmt: skip
PACKAGE = ROOT / "persodpo"
FILES = sorted(PACKAGE.rglob("*.py"))


def name(file: Path) -> str:
    return ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def room(module: str) -> str:
    """The room of a module; of one on the ground floor, `ground`."""
    first = module.split(".")[1] if "." in module else ""
    return first if first in ROOMS else "ground"


MODULES = {name(file): file for file in FILES}


def imports(file: Path) -> set[tuple[str, str]]:
    """The package's modules that a file imports, each with a name that it takes from there."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            found |= {(alias.name, "") for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                found.add((inner, "") if inner in MODULES else (node.module, alias.name))
    return {(module, taken) for module, taken in found if module.split(".")[0] == "persodpo"}


def exported(of_room: str) -> list[str]:
    for node in ast.parse((PACKAGE / of_room / "__init__.py").read_text()).body:
        if isinstance(node, ast.Assign) and node.targets[0].id == "__all__":
            return ast.literal_eval(node.value)
    return []


def test_every_folder_is_a_room():
    folders = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    assert folders == set(ROOMS)


@pytest.mark.parametrize("file", FILES, ids=name)
def test_no_room_imports_from_one_behind_it(file):
    if name(file) in ("persodpo.cli", "persodpo.__main__", "persodpo.cache_cli",
                      "persodpo.estimate_cli"):  # fmt: skip
        return  # the way in, above all rooms
    here = room(name(file))
    allowed = [] if here == "ground" else ROOMS[: ROOMS.index(here) + 1]
    strange = {module for module, _ in imports(file) if room(module) not in [*allowed, "ground"]}
    assert strange == set()


@pytest.mark.parametrize("file", FILES, ids=name)
def test_other_rooms_are_entered_by_their_doors(file):
    """By what the `__init__` of a room exports."""
    here = room(name(file))
    for module, taken in imports(file):
        there = room(module)
        if there in (here, "ground", *OPEN) or module in BESIDE_THE_DOOR:
            continue
        assert (module, taken) == (f"persodpo.{there}", taken), f"{name(file)}: {module}"
        assert taken in exported(there), f"{name(file)}: {there} doesn't export {taken}"


@pytest.mark.parametrize("of_room", [room for room in ROOMS if room not in OPEN])
def test_the_door_documents_what_comes_in_and_goes_out(of_room):
    text = ast.get_docstring(ast.parse((PACKAGE / of_room / "__init__.py").read_text()))
    assert text.startswith(f"{of_room}: ")
    assert "In: " in text
    assert "Out: " in text


@pytest.mark.parametrize("file", FILES, ids=name)
def test_no_module_is_too_long(file):
    assert len(file.read_text().splitlines()) <= 350


# Which stages run again after an edit of a module, of all in a room where none is named.
RUN_AGAIN = {
    "errors": "",
    "workflow": "report",
    "config/pair.py": "pair report",
    "config/train.py": "base train report",
    "config/evaluate.py": "baseline evaluate report",
    "config/generate.py": "generate score baseline evaluate report",
    "config/sample.py": "sample report",
    "config/score.py": "score audit baseline evaluate report",
    "config/audit.py": "audit pair report",
    "sample": "sample",
    "generate": "generate score baseline evaluate",
    "score": "score audit pair baseline evaluate report",
    "audit": "audit pair report",
    "score/train_nli": "",
    "pair": "pair report",
    "train": "train",
    "evaluate": "baseline evaluate",
    "report": "report",
    "experiments": "",
    "share": "",
    "cli": "",
}


@pytest.mark.parametrize(("part", "stages"), RUN_AGAIN.items())
def test_an_edit_runs_only_the_stages_that_use_it(part, stages):
    """As docs/architecture.md has it."""
    document = YAML(typ="safe").load((ROOT / "dvc.yaml").read_text())["stages"]
    path = f"persodpo/{part}"
    files = [f"persodpo/{part}.py"] if (ROOT / f"{path}.py").is_file() else [
        str(file.relative_to(ROOT)) for file in FILES
        if f"{file.relative_to(ROOT)}".startswith(path)
        and not (part == "score" and "train_nli" in file.parts)
    ]  # fmt: skip
    assert files
    # a dependency is a module, or a folder with all that is in it
    watched = {str(each) for file in files for each in (Path(file), *Path(file).parents)}
    found = {
        stage for stage, body in document.items() if watched & set(body.get("do", body)["deps"])
    }
    assert found == set(stages.split())
    section = (ROOT / "docs/architecture.md").read_text().split("## What runs again after")[1]
    (row,) = [line for line in section.splitlines() if line.startswith(f"| `{part}` |")]
    listed = [cell.strip() for cell in row.split("|")][2]
    assert set(listed.replace("`", "").replace(",", "").split()) - {"none"} == set(stages.split())
