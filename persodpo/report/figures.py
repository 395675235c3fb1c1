"""The figures of the paper's Figure 2, and of the pairs, drawn as SVG.

Altair describes them and vl-convert draws them, without a browser or a network.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import altair as alt
import numpy as np
import pandas as pd
import vl_convert

# Columns of a training log, and what they are called in Figure 2 (a) and (b).
TRAINING = {
    "a": {"loss/total": "Loss", "grad_norm": "Gradient norm"},
    "b": {"rewards/margins": "Reward margin", "rewards/accuracies": "Reward accuracy"},
}
WIDTH, HEIGHT = 300, 200
# More points of one line than these aren't seen apart, and make a page of many megabytes.
POINTS = 500

Chart = alt.Chart | alt.LayerChart


def training_figure(logs: Mapping[str, pd.DataFrame], part: str) -> list[alt.Chart]:
    """Figure 2 (a) or (b): two charts over the steps, a line per method.

    Args:
        logs: Per method its log, with the column `step`.
        part: `a` (loss and gradient norm) or `b` (reward margin and accuracy).

    A method whose log hasn't these columns, as of supervised training, is left out. Without methods
    the charts are empty. Of more than `POINTS` steps neighbours are averaged.
    """
    columns = TRAINING[part]
    # an empty one gives the columns where nothing was trained
    parts = [pd.DataFrame(columns=["step", *columns, "method"])]
    logs = {name: log for name, log in logs.items() if {*columns} <= {*log.columns}}
    parts += [_thinned(log[["step", *columns]]).assign(method=name) for name, log in logs.items()]
    table = pd.concat(parts[1:] or parts, ignore_index=True).rename(columns=columns)
    return [
        alt.Chart(table[["step", "method", title]].dropna())
        .mark_line(point=alt.OverlayMarkDef(size=18))
        .encode(
            x=alt.X("step:Q", title="Step", axis=alt.Axis(tickMinStep=1, format="d")),
            y=alt.Y(f"{title}:Q", title=title, scale=alt.Scale(zero=False)),
            color=_color("method", list(logs), "Method"),
        )
        .properties(width=WIDTH, height=HEIGHT)
        for title in columns.values()
    ]


def _thinned(log: pd.DataFrame) -> pd.DataFrame:
    """At most `POINTS` rows, each the mean of as many that follow each other."""
    size = math.ceil(len(log) / POINTS)
    return log if size <= 1 else log.groupby(np.arange(len(log)) // size).mean()


def candidates_figure(summaries: Mapping[str, Mapping[str, Any]]) -> list[Chart]:
    """Figure 2 (c): response time (bar: median, tick: 95th percentile) and failure ratio.

    Args:
        summaries: Per candidate, `persodpo.report.summary.summarise`'s numbers.
    """
    fields = ("seconds", "seconds_p95", "failure_ratio")
    table = pd.DataFrame(
        [{"candidate": name, **{f: each[f] for f in fields}} for name, each in summaries.items()]
    ).astype(dict.fromkeys(fields, float))
    rows = alt.Y("candidate:N", title=None, sort=list(summaries))
    chart = alt.Chart(table).properties(width=WIDTH, height=alt.Step(26))
    median = chart.mark_bar(color="#4c78a8").encode(
        x=alt.X("seconds:Q", title="Seconds per response: median, 95th percentile"), y=rows
    )
    p95 = chart.mark_tick(color="#e45756", thickness=3, size=18).encode(x="seconds_p95:Q", y=rows)
    failed = chart.mark_bar(color="#4c78a8").encode(
        x=alt.X("failure_ratio:Q", title="Failure ratio", scale=alt.Scale(domain=[0, 1])), y=rows
    )
    return [median + p95, failed]


def pairs_figure(histograms: Mapping[str, tuple[str, pd.DataFrame]]) -> list[alt.Chart]:
    """Histograms of the pairs.

    Args:
        histograms: By the column that is counted, its title and the table of
            `persodpo.pair.numbers.histogram`: that column and one of shares per group.
    """
    charts = []
    for column, (title, table) in histograms.items():
        groups = [name for name in table.columns if name != column]
        charts.append(
            alt.Chart(table.melt(column, var_name="group", value_name="share"))
            .mark_line(interpolate="step")
            .encode(
                x=alt.X(f"{column}:Q", title=title),
                y=alt.Y("share:Q", title="Share"),
                color=_color("group", groups, None),
            )
            .properties(width=WIDTH, height=HEIGHT)
        )
    return charts


def _color(field: str, order: Sequence[str], title: str | None) -> alt.Color:
    return alt.Color(
        f"{field}:N",
        sort=list(order),
        title=title,
        scale=alt.Scale(scheme="tableau10"),
        legend=alt.Legend(orient="bottom", columns=4),
    )


def draw(charts: Sequence[Chart]) -> str:
    """Draw charts side by side as one SVG, dark on white, that stands by itself."""
    return _svg(alt.hconcat(*charts), ink="#222", ground="white")


def draw_inline(charts: Sequence[Chart]) -> str:
    """Draw charts as SVGs for a page, in its text's colour on its ground, which it can wrap."""
    return "\n".join(_svg(chart, ink="currentColor", ground="transparent") for chart in charts)


def _svg(chart: Chart | alt.HConcatChart, ink: str, ground: str) -> str:
    axis = {"domainColor": ink, "tickColor": ink, "gridColor": ink, "gridOpacity": 0.15}
    text = {"labelColor": ink, "titleColor": ink}
    chart = chart.configure(background=ground, axis=axis | text, legend=text, view={"stroke": None})
    # altair refuses more than 5,000 rows, lest a notebook grow; here nothing but the drawing stays
    with alt.data_transformers.disable_max_rows():
        svg: str = vl_convert.vegalite_to_svg(chart.to_dict())
    return svg
