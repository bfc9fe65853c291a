"""The Results tab: four figures first, then the paper's beside ours, and how each is repeated."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path

import gradio as gr

from app.parts.controls import refitted, while_empty
from app.parts.events import LAST, LIGHT, Updates
from app.parts.sources import component_script
from app.parts.tables import HERE_MARK, PAPER_MARK, provenance
from app.results import charts, experiments, tables, tiles, trained
from app.results.floor import floor_section
from app.session import Session
from nbp_core.results.files import Curve, ResultFile, read_curves, read_results

_INTRO = (
    f"Figures marked {PAPER_MARK} are what the authors report, on their machine and"
    f" with their weights. Figures marked {HERE_MARK} were measured with this software,"
    " on the machine and with the weights named beside them."
)
NO_CURVE = (
    "<p>No training run is stored here yet. Copy a run's metrics.jsonl to"
    " results/training/NAME.jsonl. To train a tokenizer, run:</p><pre>python -m nbp_core"
    " train-tokenizer --clips FOLDER --photos FOLDER --run runs/NAME --minutes 90</pre>"
)

NO_EXPERIMENT = (
    "<p>No experiment is stored here yet. To make one, run:</p><pre>python -m nbp_core experiment"
    " large-blocks --model weights/tiny --clips FOLDER</pre>"
)
MAX_SMOOTHING = 0.95


class ResultsTab:
    """Layout and wiring; every handler is a method."""

    def __init__(self, session: Session, tab: gr.Tab) -> None:
        self.session = session
        with gr.Column(elem_classes="results"):
            self.tiles = gr.HTML(label="At a glance", elem_id="results-tiles")
            with gr.Row(elem_id="results-top"):
                gr.HTML(
                    tiles.contents(), js_on_load=component_script(__file__, "contents.js"),
                    label="Contents", elem_id="results-contents",
                )  # fmt: skip
                self.again = gr.Button(
                    "Reload results", size="sm", elem_id="read-results", scale=0, min_width=130
                )
            gr.Markdown(_INTRO, elem_classes="quiet")
            self._build_parts()
        shown = [
            self.tiles, self.table1, self.speed, self.floor, self.by_block, self.table7,
            self.experiment, self.figure, self.chart, self.chart_text, self.runs, self.metric,
            self.training, self.training_text, self.session_runs, self.repeat,
        ]  # fmt: skip
        chosen = [self.experiment, self.figure, self.runs, self.metric, self.smoothing]
        for event in (tab.select, self.again.click):
            event(self.read, chosen, shown, **LIGHT)
        drawn = [self.figure, self.chart, self.chart_text]
        last = {**LIGHT, **LAST}
        self.experiment.input(self.draw_experiment, self.experiment, drawn, **last)
        self.figure.input(self.draw_experiment, [self.experiment, self.figure], drawn, **last)
        curves = [self.runs, self.metric, self.smoothing]
        gr.on(
            [self.runs.input, self.metric.input, self.smoothing.input], self.draw_training,
            curves, [self.metric, self.training, self.training_text], **last,
        )  # fmt: skip

    def _build_parts(self) -> None:
        with gr.Row(elem_id="results-table1", equal_height=False):
            self.table1 = gr.HTML(label="Table 1", min_width=340)
            with gr.Column(min_width=340):
                self.speed = gr.Plot(show_label=False, elem_id="results-speed")
        self.by_block = _folded("blocks")
        self.floor = _folded("floor")
        _folded("table2", tables.table2())
        self.table7 = _folded("table7")
        with gr.Row(equal_height=False):
            with gr.Column(elem_id="results-experiments", min_width=340):
                self._build_experiments()
            with gr.Column(elem_id="results-training", min_width=340):
                self._build_training()
        self.session_runs = _folded("session")
        self.repeat = _folded("repeat")

    def _build_experiments(self) -> None:
        gr.HTML(f"<h2>{tables.TITLES['experiments']}</h2>", label="Experiments")
        with gr.Row():
            self.experiment = gr.Dropdown(
                [], label="Experiment", elem_id="results-experiment", filterable=False, scale=5,
                min_width=340,
            )  # fmt: skip
            self.figure = gr.Dropdown(
                [], label="Figure", elem_id="results-figure", filterable=False, scale=2,
                min_width=140,
            )  # fmt: skip
        self.chart = gr.Plot(show_label=False, elem_id="results-chart", visible=False)
        with gr.Accordion("Figures and source of this experiment", open=False):
            self.chart_text = gr.HTML(label="About the experiment", elem_id="results-chart-text")

    def _build_training(self) -> None:
        gr.HTML(f"<h2>{tables.TITLES['training']}</h2>", label="Training")
        self.runs = gr.CheckboxGroup([], label="Runs", elem_id="results-runs")
        with gr.Row():
            self.metric = gr.Dropdown(
                [], label="Figure", elem_id="results-curve", filterable=False, min_width=140
            )
            self.smoothing = gr.Slider(
                0, MAX_SMOOTHING, 0.6, step=0.05, label="Smoothing", elem_id="results-smoothing",
                buttons=[], min_width=240,
            )  # fmt: skip
            while_empty(self.smoothing, 0)
        self.training = gr.Plot(show_label=False, elem_id="results-curves", visible=False)
        self.training_text = gr.HTML(label="About the runs", elem_id="results-run")

    def _results(self) -> tuple[list[ResultFile], list[str]]:
        return read_results(self.session.results) if self.session.results else ([], [])

    def _curves(self) -> tuple[dict[str, Curve], list[str]]:
        folder: Path | None = self.session.results
        found, faults = read_curves(folder / "training") if folder else ([], [])
        return {curve.name: curve for curve in found}, faults

    def read(
        self,
        experiment: str | None = None,
        figure: str | None = None,
        runs: Sequence[str] = (),
        metric: str | None = None,
        smoothing: float = 0.0,
    ) -> Updates:
        """Reads all files that have changed; what is chosen stays chosen while it is there."""
        results, faults = self._results()
        curves, broken = self._curves()
        offered = list(experiments.titled(results))
        shown = experiment if experiment in offered else next(iter(offered), None)
        menu, chart, about = self.draw_experiment(shown, figure)
        ticked = [run for run in runs if run in curves] or charts.usual_runs(curves)
        metrics, plot, text = self.draw_training(ticked, metric, smoothing)
        return {
            self.tiles: tiles.tiles(results),
            self.table1: tables.table1(results),
            self.speed: charts.speed_chart(tables.speeds_here(results)),
            self.floor: floor_section(results) or "<p>Not measured here yet.</p>",
            self.by_block: tables.by_block(results),
            self.table7: tables.table7(results),
            self.experiment: refitted(
                gr.Dropdown, offered, shown, experiment, visible=bool(offered)
            ),
            self.figure: menu,
            self.chart: chart,
            self.chart_text: about,
            self.runs: refitted(
                gr.CheckboxGroup, list(curves), ticked, list(runs), visible=bool(curves)
            ),
            self.metric: metrics,
            self.training: plot,
            self.training_text: text,
            self.session_runs: tables.session_runs(self.session.jobs.finished()),
            self.repeat: tables.repeat(results, [*faults, *broken]),
        }

    def draw_experiment(
        self, experiment: str | None, figure: str | None = None
    ) -> tuple[gr.Dropdown, gr.Plot, str]:
        """(figures of the experiment, the chosen one as a chart, what was measured)."""
        file = experiments.titled(self._results()[0]).get(experiment or "")
        if file is None:
            return gr.Dropdown(visible=False), gr.Plot(visible=False), NO_EXPERIMENT
        offered = experiments.charts(file)
        shown = figure if figure in offered else next(iter(offered))
        about = trained.view(file) if file.kind == "trained" else provenance([file])
        menu = refitted(gr.Dropdown, list(offered), shown, figure, visible=True)
        return menu, gr.Plot(offered[shown](), visible=True), about

    def draw_training(
        self, runs: Sequence[str], metric: str | None, smoothing: float
    ) -> tuple[gr.Dropdown, gr.Plot, str]:
        """(figures that the runs logged, the chosen one as a chart, what the runs were)."""
        found = self._curves()[0]
        chosen = [found[run] for run in runs if run in found]
        if not chosen:
            text = "<p>Tick a run to see its curves.</p>" if found else NO_CURVE
            return gr.Dropdown(visible=bool(found)), gr.Plot(visible=False), text
        offered = list(dict.fromkeys(group for curve in chosen for group in charts.groups(curve)))
        shown = metric if metric in offered else offered[0]
        chart = charts.training_chart(chosen, shown, min(max(smoothing, 0.0), MAX_SMOOTHING))
        menu = refitted(gr.Dropdown, offered, shown, metric, visible=True)
        return menu, gr.Plot(chart, visible=True), _about(chosen)


def _folded(name: str, text: str = "") -> gr.HTML:
    """A part of the tab that stands folded under its title."""
    title = tables.TITLES[name]
    with gr.Accordion(title, open=False, elem_id=f"results-{name}"):
        return gr.HTML(text, label=title)


def _about(curves: Sequence[Curve]) -> str:
    runs = []
    for curve in curves:
        last = max(points[-1][0] for points in curve.metrics.values())
        name = escape(curve.name)
        runs.append(
            f"run {name}, {last:,} steps in {curve.minutes:.0f} minutes (results/training/{name}"
            ".jsonl)"
        )
    return (
        f'<p class="source">{HERE_MARK}: {"; ".join(runs)}. Training lines are medians of'
        " neighbouring steps. Smoothing averages them exponentially; validations stay as they"
        " are.</p>"
    )
