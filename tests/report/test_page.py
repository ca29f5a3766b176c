"""The page of a study: parts, numbers against the table of runs, and what a browser draws."""

import html.parser
import json
import math
import re
import shutil

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pandas as pd
import pytest

import relu_flow as rf
from relu_flow.app.cli import app
from relu_flow.report.page.data import Collected, scale_text
from relu_flow.report.page.document import write_page
from relu_flow.report.page.fan import fan_section
from relu_flow.report.page.run import Rerun, run_again
from relu_flow.study.run.collect import collect

SEEDS, SCALES, MUS, END = 6, (1e-2, 1e-3), (0.5, 0.6, 0.7), 8.0
STUDY = {
    "name": "Scales & </script><b>mu</b>",
    "data": {"family": "orthogonally_separable", "samples": 4, "features": 3, "mu": MUS},
    "seeds": SEEDS,
    "widths": 5,
    "scales": SCALES,
    "t1": END,
    "batch": 12,
    "max_steps": 512,
    "milestones": [
        {"observable": "loss", "level": 2.0, "direction": -1, "name": "half </script>"},
        {"observable": "loss", "level": 1e-9, "direction": -1, "name": "never"},
    ],
    "record": {"end": ["loss", "stable_rank"], "times": [1.0, 4.0], "at_times": ["loss"]},
}
CHROMIUM = shutil.which("chromium")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("study")
    state = rf.run_study(rf.Study(**STUDY), path, workers=1)
    assert (state.done, state.failures) == (36, 0)
    collect(path)
    return path


@pytest.fixture(scope="module")
def page(folder):
    return write_page(folder, folder / "page.html")


@pytest.fixture(scope="module")
def text(page):
    return page.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def maimed(folder, tmp_path_factory):
    """The study as if two runs at the first point had failed and one had not been done."""
    path = tmp_path_factory.mktemp("maimed") / "study"
    shutil.copytree(folder, path)
    runs = pd.read_parquet(path / "runs.parquet")
    result = runs["result"].astype(object)
    result[[0, 3]] = "step_underflow"
    result[4] = None
    runs["result"] = result.astype("category")
    runs.to_parquet(path / "runs.parquet")
    return path


class Page(html.parser.HTMLParser):
    """Tables by id as rows of cells, attributes that fetch, and what JSON scripts hold."""

    def __init__(self, text):
        super().__init__()
        self.tables, self.ids, self.links, self.data = {}, [], [], {}
        self._rows: list[list[str]] = []
        self._script = None
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        self.ids += [given["id"]] if "id" in given else []
        self.links += [given[key] for key in ("src", "href", "data", "srcset") if key in given]
        if tag == "table":
            self._rows = self.tables.setdefault(given["id"], [])
        if tag == "tr":
            self._rows.append([])
        if tag in ("td", "th"):
            self._rows[-1].append("")
            self._cell = True
        self._script = given.get("id") if tag == "script" else None

    def handle_endtag(self, tag):
        if tag in ("td", "th"):
            self._cell = False
        if tag == "table":
            self._rows = []
        self._script = None

    def handle_data(self, data):
        if self._script is not None:
            self.data[self._script] = json.loads(data)
        elif self._rows and getattr(self, "_cell", False):
            self._rows[-1][-1] += data


@pytest.fixture(scope="module")
def parsed(text):
    return Page(text)


def cells_of(parsed, table):
    head, *rows = parsed.tables[table]
    return [dict(zip(head, row, strict=True)) for row in rows]


def numbers(cell):
    return [float(x.replace("∞", "inf")) for x in re.findall(r"-?(?:[\d.]+(?:e[-+]?\d+)?|∞)", cell)]


def test_the_page_has_all_its_parts(parsed):
    for key in ("times", "phases", "maps", "courses", "fan", "runs", "exponents", "provenance"):
        assert f"{key}-section" in parsed.ids
    for plot in ("times-0", "times-1", "phase-strip", "map", "course-0", "fan", "raster"):
        assert plot in parsed.ids
    assert len(parsed.ids) == len(set(parsed.ids))


def test_nothing_on_the_page_is_fetched(text, parsed):
    assert all(link.startswith(("#", "data:")) for link in parsed.links)
    styles = "".join(re.findall(r"<style>.*?</style>", text, re.S))
    assert "@import" not in styles
    assert "url(" not in styles
    assert "default-src 'none'" in text
    assert text.count("* plotly.js v") == 1


def test_names_are_shown_as_they_are(text):
    assert "<title>Scales &amp; &lt;/script&gt;&lt;b&gt;mu&lt;/b&gt;</title>" in text
    assert "<b>mu</b>" not in text
    assert "half </script>" not in text


def test_provenance_says_what_was_run(parsed, text):
    said = dict(parsed.tables["provenance-table"])
    assert said["spec hash"] == rf.Study(**STUDY).hash
    assert f"jax: {jax.__version__}" in said["versions"]
    assert said["device"] == "cpu"
    assert said["batch"] == "12"
    assert "&quot;max_steps&quot;: 512" in text


def test_the_table_of_runs_holds_medians_of_the_parquet_file(folder, parsed):
    runs = pd.read_parquet(folder / "runs.parquet")
    rows = cells_of(parsed, "runs-table")
    points = runs.groupby(["log_scale", "mu"], sort=False)
    assert len(rows) == points.ngroups == 6
    for row, (point, of) in zip(rows, points, strict=True):
        log_scale, mu = np.asarray(point)
        assert row["point of the grid"] == f"scale {math.exp(log_scale):.4g}, mu {mu:g}"
        assert (row["used"], row["left out"]) == ("6", "0")
        for name, column in (
            ("median time of “half </script>”", "time_half </script>"),
            ("median loss at the end", "end_loss"),
            ("median stable_rank at the end", "end_stable_rank"),
        ):
            # Of six values the median is with 1 - 2/64 between the least and the greatest.
            expected = [of[column].median(), of[column].min(), of[column].max()]
            np.testing.assert_allclose(numbers(row[name]), expected, rtol=5e-4)
        assert row["median time of “never”"] == "∞ [∞, ∞]"
        assert numbers(row["fraction that reached “half </script>”"])[0] == 1
        # Wilson's interval of none of six: from 0 to z^2 / (6 + z^2).
        fraction = numbers(row["fraction that reached “never”"])
        np.testing.assert_allclose(fraction, [0, 0, 3.8415 / 9.8415], rtol=1e-3)


def test_runs_that_failed_are_counted_and_left_out(maimed, tmp_path):
    text = write_page(maimed, tmp_path / "page.html", fan=False).read_text()
    assert "<b>33</b> successful" in text
    assert "<b>2</b> step underflow" in text
    assert "<b>1</b> not done" in text
    assert "33 of 36 runs used, left out: 1 not done, 2 step_underflow." in text
    first, second, *_ = cells_of(Page(text), "runs-table")
    assert (first["used"], first["left out"]) == ("3", "1 not done, 2 step_underflow")
    assert (second["used"], second["left out"]) == ("6", "0")
    kept = pd.read_parquet(maimed / "runs.parquet").iloc[[1, 2, 5]]["end_loss"]
    # Three runs are too few for an interval at 95 %.
    found = numbers(first["median loss at the end"])
    np.testing.assert_allclose(found, [kept.median(), -np.inf, np.inf], rtol=5e-4)


def test_a_page_without_a_run_that_succeeded_draws_nothing(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "study")
    runs = pd.read_parquet(tmp_path / "study" / "runs.parquet")
    runs["result"] = pd.Categorical(["max_steps_reached"] * len(runs))
    runs.to_parquet(tmp_path / "study" / "runs.parquet")
    text = write_page(tmp_path / "study").read_text()
    assert "<b>0</b> successful" in text
    assert "No run succeeded: there is nothing to draw." in text
    assert 'id="map-section"' not in text
    assert cells_of(Page(text), "runs-table")[0]["left out"] == "6 max_steps_reached"


def test_maps_hold_the_medians_of_every_point(folder, parsed):
    runs = pd.read_parquet(folder / "runs.parquet")
    content = parsed.data["map-data"]
    assert [axis["texts"] for axis in content["axes"]] == [["0.01", "0.001"], ["0.5", "0.6", "0.7"]]
    layers = {layer["title"]: layer for layer in content["layers"]}
    points = runs.groupby(["log_scale", "mu"], sort=False)
    for title, column in (("median loss at the end", "end_loss"),
                          ("median number of switches of a run", "switches")):  # fmt: skip
        np.testing.assert_allclose(layers[title]["values"], points[column].median(), rtol=1e-5)
    assert layers["fraction that reached “never”"]["values"] == [0] * 6
    assert layers["median time of “never”"]["late"] == [True] * 6


def test_exponents_are_slopes_of_the_runs(folder, parsed):
    runs = pd.read_parquet(folder / "runs.parquet")
    rows = cells_of(parsed, "exponents-table")
    # The scale has two values: slopes are in mu alone, at each scale.
    assert {row["at"] for row in rows} == {"scale 0.01", "scale 0.001"}
    assert len(rows) == 4 * 2
    for row in rows:
        if "never" in row["quantity"]:
            assert row["what it says"].startswith("not determined")
            continue
        column = {"time of “half </script>”": "time_half </script>"}.get(
            row["quantity"], "end_" + row["quantity"].removesuffix(" at the end")
        )
        of = runs[np.isclose(np.exp(runs["log_scale"]), float(row["at"].split()[1]))]
        slope, _ = np.polyfit(np.log(of["mu"]), np.log(of[column]), 1)
        found = numbers(row["slope"])
        np.testing.assert_allclose(found[0], slope, rtol=1e-3, atol=1e-9)
        grows = found[1] > 0
        falls = found[2] < 0
        said = "grows with mu" if grows else "falls with growing mu" if falls else "no dependence"
        assert row["what it says"].startswith(said)


def test_the_run_done_again_is_the_stored_one(folder, parsed):
    data = Collected(folder)
    again = run_again(data, 13)  # seed 1 at the third point: scale 0.01, mu 0.7
    stored = pd.read_parquet(folder / "runs.parquet").iloc[13]
    assert len(again.switches) == stored["switches"]
    np.testing.assert_allclose(again.losses[-1], stored["end_loss"], rtol=1e-8)
    half = STUDY["milestones"][0]["name"]
    np.testing.assert_allclose(again.milestones[half], stored[f"time_{half}"], rtol=1e-8)
    key = jr.fold_in(jr.fold_in(jr.key(0), 1), 1)
    drawn = [jr.normal(jr.fold_in(jr.fold_in(key, j), 0), (3,)) for j in range(5)]
    units = [w / jnp.linalg.norm(w) for w in drawn]
    np.testing.assert_allclose(again.directions[0], units, rtol=1e-12)
    assert again.times[0] == 0
    assert again.times[-1] == END
    frames = parsed.data["fan-frames"]["frames"]
    assert len(frames) == 60
    losses = [float(re.findall(r"loss (\S+),", frame["said"])[0]) for frame in frames]
    first = pd.read_parquet(folder / "runs.parquet").iloc[0]
    np.testing.assert_allclose(losses[-1], first["end_loss"], rtol=1e-3)


def test_rays_have_the_neurons_angles_and_lengths_by_log_norm(folder):
    angles = np.array([[0.1, 2.0, -1.0], [0.2, 2.5, -2.0]])
    run = Rerun(
        number=0,
        problem=rf.orthogonal(jr.key(0), samples=2, features=2)[0],
        times=np.array([0.0, 8.0]),
        directions=np.stack([np.cos(angles), np.sin(angles)], axis=-1),
        log_norms=np.array([[-1000.0, -500.0, -1000.0], [-500.0, 0.0, -np.inf]]),
        signs=np.array([[1.0, 1.0, -1.0], [1.0, 1.0, -1.0]]),
        losses=np.array([1.0, 0.5]),
        switches=pd.DataFrame({"time": [3.0], "neuron": [1], "sample": [0], "kind": ["activate"]}),
        milestones={},
        ended="",
    )
    frames = Page(fan_section(Collected(folder), run).body).data["fan-frames"]["frames"]

    def rays(frame, trace):
        return np.array([frame["x"][trace][1::3], frame["y"][trace][1::3]]).T

    # From log norm -1000, a ray of 0.12, to 0, a ray of 1.
    for frame, lengths in zip(frames, ([0.12, 0.56], [0.56, 1.0]), strict=True):
        np.testing.assert_allclose(np.linalg.norm(rays(frame, 0), axis=1), lengths, atol=2e-4)
    first, last = rays(frames[0], 0), rays(frames[1], 0)
    cosine = lambda a, b: a @ b / np.linalg.norm(a) / np.linalg.norm(b)
    np.testing.assert_allclose(cosine(*first), np.cos(1.9), atol=2e-3)
    np.testing.assert_allclose(cosine(*last), np.cos(2.3), atol=2e-3)
    # A neuron without weights has no ray; the one that switched has a ring.
    assert rays(frames[0], 1).shape == (1, 2)
    assert rays(frames[1], 1).shape == (0, 2)
    assert frames[0]["x"][3] == [None]
    np.testing.assert_allclose([frames[1]["x"][3][0], frames[1]["y"][3][0]], last[1])
    assert "1/1 switches" in frames[1]["said"]


def test_scales_that_underflow_have_a_text():
    assert scale_text(math.log(1e-4)) == "0.0001"
    assert scale_text(-10000.0) == "1.14e-4343"  # 10000 / ln 10 = 4342.9448, 10^0.0552 = 1.1355


def test_bad_input_has_a_clear_message(folder, tmp_path, capsys):
    with pytest.raises(
        ValueError, match=r"must be the folder of a study, but .* has no spec\.json"
    ):
        write_page(tmp_path)
    shutil.copy(folder / "spec.json", tmp_path)
    with pytest.raises(ValueError, match="Collect it first: relu-flow study collect"):
        write_page(tmp_path)
    with pytest.raises(ValueError, match="`run` must be from 0 to 35"):
        write_page(folder, run=36)
    with pytest.raises(ValueError, match="`out` must be a file in a folder that is there"):
        write_page(folder, tmp_path / "none" / "page.html")
    with pytest.raises(SystemExit) as ended:
        app(["report", str(tmp_path), "--no-cache"])
    assert ended.value.code == 2
    assert "relu-flow: Argument `path` must be a collected study" in capsys.readouterr().err


def test_a_table_of_other_runs_is_refused(folder, tmp_path):
    path = tmp_path / "study"
    shutil.copytree(folder, path)
    pd.read_parquet(path / "runs.parquet").iloc[:-1].to_parquet(path / "runs.parquet")
    with pytest.raises(ValueError, match="35 runs instead of 36"):
        write_page(path)


def test_the_command_writes_the_page_beside_the_study(folder, capsys):
    with pytest.raises(SystemExit) as ended:
        app(["report", str(folder), "--no-fan", "--no-cache"])
    assert not ended.value.code
    assert capsys.readouterr().out.strip() == str(folder / "report.html")
    assert (folder / "report.html").stat().st_size > 1e6
    (folder / "report.html").unlink()


@pytest.fixture(scope="module")
def browser_page(page):
    """The page in a browser that has no network; nothing may be asked for or complained of."""
    if CHROMIUM is None:
        pytest.skip("there is no chromium on this machine")
    playwright = pytest.importorskip("playwright.sync_api")
    asked, complaints = [], []
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        context = browser.new_context(offline=True, viewport={"width": 1200, "height": 1000})
        shown = context.new_page()
        shown.on("request", lambda request: asked.append(request.url))
        shown.on("console", lambda message: complaints.append(message.text))
        shown.on("pageerror", lambda error: complaints.append(str(error)))
        shown.set_default_timeout(120_000)
        shown.goto(page.as_uri())
        shown.wait_for_selector("html[data-drawn=yes]", state="attached")
        yield shown
        assert asked == [page.as_uri()]
        assert complaints == []
        browser.close()


def drawn(shown, place, what):
    """Return the shapes that are drawn: where lines go, as SVG has them."""
    script = "(found) => found.map((path) => path.getAttribute('d'))"
    return shown.locator(f"#{place} {what}").evaluate_all(script)


def test_the_slider_changes_what_is_drawn(browser_page):
    fan, slider = browser_page.locator("#fan"), browser_page.locator("#fan-time")
    look = lambda: (
        drawn(browser_page, "fan", ".scatterlayer path.js-line"),
        drawn(browser_page, "raster", ".shapelayer path"),
        # Not the element's own screenshot, which waits for it to stand still, at times in vain.
        browser_page.screenshot(clip=fan.bounding_box()),
        browser_page.locator("#fan-said").inner_text(),
    )
    slider.focus()
    browser_page.keyboard.press("Home")
    first = look()
    browser_page.keyboard.press("End")
    last = look()
    for before, after in zip(first, last, strict=True):
        assert before != after
    assert f"t = {END:g}" in last[3]
    browser_page.keyboard.press("Home")
    assert look() == first
    # A click half way, with the mouse.
    box = slider.bounding_box()
    browser_page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    middle = look()
    assert slider.input_value() in ("29", "30")
    assert middle[0] not in (first[0], last[0])
    # The line over the switches is half way along the axis too.
    line = browser_page.locator("#raster .shapelayer path").first.bounding_box()
    edges = browser_page.evaluate(
        "() => { const axis = document.getElementById('raster')._fullLayout.xaxis;"
        "return [axis._offset, axis._length]; }"
    )
    left = browser_page.locator("#raster").bounding_box()["x"]
    share = (line["x"] + line["width"] / 2 - left - edges[0]) / edges[1]
    assert share == pytest.approx(int(slider.input_value()) / 59, abs=0.01)


def test_the_slider_is_obeyed_while_the_fan_plays(browser_page):
    slider, play = browser_page.locator("#fan-time"), browser_page.locator("#fan-play")
    lines = lambda: drawn(browser_page, "fan", ".scatterlayer path.js-line")
    slider.focus()
    browser_page.keyboard.press("Home")
    for _ in range(3):
        browser_page.keyboard.press("ArrowRight")
    third = lines()
    browser_page.keyboard.press("Home")
    start = lines()
    play.click()
    browser_page.wait_for_function("() => +document.getElementById('fan-time').value > 8")
    assert lines() not in (start, third)
    slider.focus()
    browser_page.keyboard.press("Home")
    for _ in range(3):
        browser_page.keyboard.press("ArrowRight")
    assert lines() == third
    browser_page.wait_for_timeout(500)
    assert slider.input_value() == "3"
    assert lines() == third


def test_the_map_shows_what_is_selected(browser_page, folder):
    cells = browser_page.locator("#map .infolayer .annotation-text")
    runs = pd.read_parquet(folder / "runs.parquet")
    medians = runs.groupby(["log_scale", "mu"], sort=False)["end_loss"].median()
    browser_page.select_option("#map-layer", label="median loss at the end")
    shown = [float(cell) for cell in cells.all_text_contents()]
    np.testing.assert_allclose(shown, medians, rtol=1e-3)
    browser_page.select_option("#map-layer", label="median time of “never”")
    assert cells.all_text_contents() == ["not reached"] * 6
