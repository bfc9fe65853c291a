"""The Results tab: the paper's figures beside those measured here, and how each is repeated."""

from __future__ import annotations

from html import escape
from pathlib import Path
from typing import Any

import gradio as gr

from app.parts.events import LIGHT, Updates
from app.parts.tables import HERE_MARK, PAPER_MARK, provenance
from app.results import charts, experiments, tables, trained
from app.results.floor import floor_section
from app.session import Session
from nbp_core.results.files import Curve, ResultFile, read_curves, read_results

_INTRO = (
    f"Figures marked {PAPER_MARK} are what the authors report, on their machine and"
    f" with their weights. Those marked {HERE_MARK} were measured with this software,"
    " on the machine and with the weights that stand beside them."
)
NO_CURVE = (
    "<p>No training run is kept here yet. Copy a run's metrics.jsonl to"
    " results/training/NAME.jsonl; this makes one:</p><pre>python -m nbp_core train-tokenizer"
    " --clips FOLDER --photos FOLDER --run runs/NAME --minutes 90</pre>"
)

NO_EXPERIMENT = (
    "<p>No experiment is kept here yet. One of them:</p><pre>python -m nbp_core experiment"
    " large-blocks --model weights/tiny --clips FOLDER</pre>"
)


class ResultsTab:
    """Layout and wiring; every handler is a method."""

    def __init__(self, session: Session, tab: gr.Tab) -> None:
        self.session = session
        with gr.Column(elem_classes="results"):
            gr.Markdown(_INTRO)
            self.again = gr.Button("Reload results", size="sm", elem_id="read-results")
            self.table1 = gr.HTML(label="Table 1", elem_id="results-table1")
            self.speed = gr.Plot(show_label=False, elem_id="results-speed")
            self.floor = gr.HTML(label="Steps and the hardware limit", elem_id="results-floor")
            self.table2 = gr.HTML(tables.table2(), label="Table 2")
            self.by_block = gr.HTML(label="By block shape")
            self.table7 = gr.HTML(label="Table 7")
            gr.HTML("<h2>Experiments</h2>", label="Experiments")
            self.experiment = gr.Dropdown(
                [], label="Experiment and figure", elem_id="results-experiment", filterable=False,
                info="docs/experiments.md says what each measures and what came of it.",
            )  # fmt: skip
            self.chart = gr.Plot(show_label=False, elem_id="results-chart", visible=False)
            self.chart_text = gr.HTML(label="About the experiment", elem_id="results-chart-text")
            gr.HTML("<h2>Training</h2>", label="Training")
            self.curve = gr.Dropdown(
                [], label="Run and figure", elem_id="results-curve", filterable=False,
                info="A training run kept with the project, and what was logged in it.",
            )  # fmt: skip
            self.training = gr.Plot(show_label=False, elem_id="results-training", visible=False)
            self.training_text = gr.HTML(label="About the run", elem_id="results-run")
            self.runs = gr.HTML(label="Runs of this session", elem_id="results-session")
            self.repeat = gr.HTML(label="How to repeat", elem_id="results-repeat")
        shown = [
            self.table1, self.speed, self.floor, self.by_block, self.table7, self.experiment,
            self.chart, self.chart_text, self.curve, self.training, self.training_text, self.runs,
            self.repeat,
        ]  # fmt: skip
        for event in (tab.select, self.again.click):
            event(self.read, [self.curve, self.experiment], shown, **LIGHT)
        drawn = [self.chart, self.chart_text]
        self.experiment.input(self.draw_experiment, self.experiment, drawn, **LIGHT)
        self.curve.input(self.draw, self.curve, [self.training, self.training_text], **LIGHT)

    def _results(self) -> tuple[list[ResultFile], list[str]]:
        return read_results(self.session.results) if self.session.results else ([], [])

    def _curves(self) -> tuple[dict[str, Curve], list[str]]:
        folder: Path | None = self.session.results
        found, faults = read_curves(folder / "training") if folder else ([], [])
        return {curve.name: curve for curve in found}, faults

    def read(self, chosen: str | None, experiment: str | None = None) -> Updates:
        """Reads all files that have changed; what is chosen stays chosen while it is there."""
        results, faults = self._results()
        curves, broken = self._curves()
        names = [f"{name}: {group}" for name, c in curves.items() for group in charts.groups(c)]
        chosen = chosen if chosen in names else next(iter(names), None)
        plot, text = self.draw(chosen)
        offered = list(experiments.charts(results))
        experiment = experiment if experiment in offered else next(iter(offered), None)
        chart, about = self.draw_experiment(experiment)
        return {
            self.table1: tables.table1(results),
            self.speed: charts.speed_chart(tables.speeds_here(results)),
            self.floor: floor_section(results),
            self.by_block: tables.by_block(results),
            self.table7: tables.table7(results),
            self.experiment: gr.Dropdown(choices=offered, value=experiment, visible=bool(offered)),
            self.chart: chart,
            self.chart_text: about,
            self.curve: gr.Dropdown(choices=names, value=chosen, visible=bool(names)),
            self.training: plot,
            self.training_text: text,
            self.runs: tables.session_runs(self.session.jobs.finished()),
            self.repeat: tables.repeat(results, [*faults, *broken]),
        }

    def draw_experiment(self, chosen: str | None) -> tuple[Any, str]:
        """The chosen figure of an experiment, and what was measured."""
        results, _ = self._results()
        chart = experiments.charts(results).get(chosen or "")
        if chart is None:
            return gr.Plot(visible=False), NO_EXPERIMENT
        name = str(chosen).partition(": ")[0]
        file = next(result for result in results if result.name == name)
        is_trained = file.kind == "trained"
        about = trained.view(file) if is_trained else provenance([file])
        return gr.Plot(chart(), visible=True), about

    def draw(self, chosen: str | None) -> tuple[Any, str]:
        """The chosen figure of a training run, and what the run was."""
        name, _, group = (chosen or "").partition(": ")
        curve = self._curves()[0].get(name)
        if curve is None:
            return gr.Plot(visible=False), NO_CURVE
        last = max(points[-1][0] for points in curve.metrics.values())
        text = (
            f'<p class="source">{HERE_MARK}: run {escape(name)}, {last:,} steps in'
            f" {curve.minutes:.0f} minutes, from results/training/{escape(name)}.jsonl; lines of"
            " training are medians of neighbouring steps.</p>"
        )
        return gr.Plot(charts.training_chart(curve, group), visible=True), text
