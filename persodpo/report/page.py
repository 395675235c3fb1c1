"""The results as one self-contained web page, with a reader of single examples.

Tables and figures say how good the candidates are on the whole; what a model really
says, and where two of them part, shows only in the answers. The page has both: blocks
of tables and figures, and every prompt with every answer to it, to be searched,
filtered and sorted in the browser. It opens from a file and asks the network for
nothing; its Content-Security-Policy forbids it to.

Models' answers are hostile until proven otherwise. They travel as JSON that can't
close its own script element, the script (assets/page.js) shows them as text nodes
only, and the policy runs no script but that one.
"""

import base64
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from persodpo.prompts import speaker
from persodpo.records import Prompt
from persodpo.score import Metric

ASSETS = Path(__file__).parent / "assets"
# 0.04 ± 0.13, -0.88, 12,452, < .001, n/a: what stands to the right in its column
_NUMBER = re.compile(r"(< )?[-−+]?\.?\d.*|n/a|", re.DOTALL)


class Block(NamedTuple):
    """One titled part of the page.

    Attributes:
        title: Its heading, and its entry in the page's list of contents.
        note: Plain text, with blank lines between paragraphs; may be empty.
        table: Cells are texts; the index names the rows.
        svg: Inline SVGs that draw in currentColor. They are trusted and go in as they are.
    """

    title: str
    note: str
    table: pd.DataFrame | None = None
    svg: str | None = None


def examples_data(
    prompts: Sequence[Prompt], table: pd.DataFrame, metrics: Mapping[str, Metric]
) -> dict[str, Any]:
    """Everything that the reader of examples shows.

    Args:
        prompts: The prompts, in the order of the sample.
        table: One row per candidate and prompt: `model` (the candidate), `id` (the
            prompt's), `raw`, `contract`, `answer`, `words`, `seconds`, `s_total`, and a
            column per metric; NaN where there is no value.
        metrics: What the values of each metric mean, by its column.

    Returns:
        Nothing but texts, numbers, None, lists and dicts:

            {"candidates": ["base", ...],            # as they first appear in the table
             "measures": [{"key": "s_total", "label": "S_total ↑"}, ...],
             "prompts": [{"id": ..., "persona": [...], "persona_of": "User1", "turns": [...],
                          "golden_answer": ...,
                          "answers": [{"contract": "valid", "text": ...,
                                       "values": [0.83, ...]}, ...]}, ...]}

        `answers` are in the order of `candidates`, `values` in that of `measures`. The
        text of a response that breaks the contract is the raw one.
    """
    columns = {"s_total": "S_total ↑"}
    for key, metric in metrics.items():
        columns[key] = f"{metric.label} {'↑' if metric.higher_is_better else '↓'}"
    columns |= {"words": "Words", "seconds": "Seconds"}
    candidates = table["model"].unique().tolist()
    responses = {(row["model"], row["id"]): row for row in table.to_dict("records")}
    return {
        "candidates": candidates,
        "measures": [{"key": key, "label": label} for key, label in columns.items()],
        "prompts": [
            {
                "id": prompt.id,
                "persona": prompt.persona,
                "persona_of": speaker(prompt.persona_of),
                "turns": prompt.turns,
                "golden_answer": prompt.golden_answer,
                "answers": [
                    _answer(responses[candidate, prompt.id], list(columns))
                    for candidate in candidates
                ],
            }
            for prompt in prompts
        ],
    }


def _answer(row: Mapping[Any, Any], columns: Sequence[str]) -> dict[str, Any]:
    return {
        "contract": row["contract"],
        "text": row["answer"] if row["contract"] == "valid" else row["raw"],
        "values": [None if pd.isna(row[column]) else row[column] for column in columns],
    }


def render_page(
    title: str,
    facts: Mapping[str, str],
    blocks: Sequence[Block],
    examples: Mapping[str, Any] | None,
) -> str:
    """Write the page.

    Args:
        title: Its heading.
        facts: What the numbers come from, such as commit and date, by its name.
        blocks: The parts with tables and figures, in their order.
        examples: What `examples_data` gave; None for a page without texts and without a script.

    Returns:
        One HTML document that needs no other file.
    """
    environment = Environment(
        loader=FileSystemLoader(ASSETS),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    script = (ASSETS / "page.js").read_text(encoding="utf-8")
    return environment.get_template("page.html.j2").render(
        title=title,
        facts=facts,
        blocks=[_block(block) for block in blocks],
        examples=examples,
        data=_script_json(examples),
        style=(ASSETS / "page.css").read_text(encoding="utf-8"),
        script=script,
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    )


def _block(block: Block) -> dict[str, Any]:
    """A block as the template needs it."""
    return {
        "title": block.title,
        "paragraphs": [text for text in re.split(r"\n\s*\n", block.note) if text.strip()],
        "table": None if block.table is None else _table(block.table),
        "svg": block.svg,
    }


def _table(frame: pd.DataFrame) -> dict[str, Any]:
    numeric = [
        all(_NUMBER.fullmatch(text) for text in frame.iloc[:, i]) for i in range(frame.shape[1])
    ]
    # an arrow stays on the line of the word before it
    titles = [re.sub(" (?=[↑↓])", "\N{NO-BREAK SPACE}", column) for column in frame.columns]
    return {
        "corner": frame.index.name or "",
        "columns": list(zip(titles, numeric, strict=True)),
        "rows": [
            (name, list(zip(cells, numeric, strict=True)))
            for name, cells in zip(frame.index, frame.to_numpy().tolist(), strict=True)
        ],
    }


def _script_json(value: object) -> str:
    r"""JSON that is safe in a script element.

    In JSON `<` stands in texts only, where `\u003c` means the same. Without it no text
    can close the element (`</script>`) or keep it open (`<!--<script>`).
    """
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c")
