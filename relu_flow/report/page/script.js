"use strict";
(function () {
  const config = { displaylogo: false, responsive: true };
  const byId = (id) => document.getElementById(id);
  const read = (id) => JSON.parse(byId(id).textContent);
  const short = (x) => (x === null ? "∞" : Number(x.toPrecision(4)).toString());

  function plots() {
    return Promise.all([...document.querySelectorAll(".plot")].map((place) => {
      const figure = read(place.id + "-data");
      return Plotly.newPlot(place, figure.data, figure.layout, config);
    }));
  }

  // ---- maps over the grid -------------------------------------------------------------------
  function maps() {
    const { axes, layers } = read("map-data");
    const sizes = axes.map((axis) => axis.texts.length);
    const at = sizes.map(() => 0);
    let across = axes.length === 2 ? 1 : 0, upwards = axes.length === 2 ? 0 : 1;
    const place = byId("map");
    const flat = (index) => index.reduce((sum, i, k) => sum * sizes[k] + i, 0);

    function said(layer, k) {
      if (!layer.used[k]) return "no run used";
      if (layer.late[k]) return "not reached";
      return short(layer.values[k]);
    }
    function hover(layer, k) {
      const lower = layer.low[k] === null ? "-∞" : short(layer.low[k]);
      const lost = layer.lost[k] ? `, ${layer.lost[k]} left out` : "";
      return `${layer.title}: ${said(layer, k)}<br>95 % interval [${lower}, ` +
        `${short(layer.high[k])}]<br>${layer.used[k]} runs used${lost}`;
    }
    const look = { font: { family: getComputedStyle(document.body).fontFamily, size: 13 },
      paper_bgcolor: "#fff", plot_bgcolor: "#f1f1f1" };
    const ticks = (axis) => ({ title: { text: axis.label }, ticktext: axis.texts,
      tickvals: axis.texts.map((_, i) => i), showgrid: false, zeroline: false });

    function wide(values) {
      const known = values.filter((v) => v !== null);
      return known.length > 0 && Math.min(...known) > 0 &&
        Math.max(...known) / Math.min(...known) > 30;
    }
    function draw() {
      const layer = layers[+byId("map-layer").value];
      if (axes.length === 1) line(layer); else heat(layer);
    }
    function line(layer) {
      const index = axes[0].texts.map((_, i) => i);
      const known = (i) => layer.values[i] !== null;
      const up = (i) => known(i) && layer.high[i] !== null ? layer.high[i] - layer.values[i] : 0;
      const down = (i) => known(i) && layer.low[i] !== null ? layer.values[i] - layer.low[i] : 0;
      const unit = layer.unit ? ` (${layer.unit})` : "";
      const logarithmic = wide(layer.values.concat(layer.low.filter((v) => v !== null)));
      const top = logarithmic ? { type: "log" } : { type: "linear",
        rangemode: layer.limits ? "normal" : "tozero",
        range: layer.limits ? [-0.05, 1.05] : undefined };
      const notes = index.filter((i) => !known(i)).map((i) => ({ x: i, y: 0.5, yref: "paper",
        text: said(layer, i), showarrow: false, textangle: -90, font: { color: "#777" } }));
      Plotly.react(place, [{ type: "scatter", mode: "lines+markers", x: index,
        y: layer.values, text: index.map((i) => hover(layer, i)),
        hovertemplate: "%{text}<extra></extra>", line: { color: "#0072b2", width: 1 },
        marker: { size: 9 }, error_y: { type: "data", symmetric: false,
          array: index.map(up), arrayminus: index.map(down), thickness: 2 } }],
      { ...look, plot_bgcolor: "#fff", height: 420, annotations: notes,
        margin: { l: 80, r: 24, t: 20, b: 70 },
        xaxis: { ...ticks(axes[0]), range: [-0.5, index.length - 0.5], automargin: true },
        yaxis: { title: { text: layer.title + unit }, gridcolor: "#ececec", zeroline: false,
          ...top } }, config);
    }
    function heat(layer) {
      const cell = (i, j) => {
        const index = at.slice();
        index[across] = i; index[upwards] = j;
        return flat(index);
      };
      const columns = [...Array(sizes[across]).keys()], rows = [...Array(sizes[upwards]).keys()];
      const numbers = rows.map((j) => columns.map((i) => cell(i, j)));
      const logarithmic = wide(layer.values);
      const shade = (v) => (v === null ? null : logarithmic ? Math.log10(v) : v);
      const known = layer.values.filter((v) => v !== null).map(shade);
      let low = known.length ? Math.min(...known) : 0, high = known.length ? Math.max(...known) : 1;
      if (layer.limits) [low, high] = layer.limits;
      if (high - low < 1e-12) { low -= 0.5; high += 0.5; }
      const bar = { thickness: 14, title: { text: layer.unit, side: "right" } };
      if (logarithmic) {
        bar.tickvals = [...Array(5).keys()].map((k) => low + ((high - low) * k) / 4);
        bar.ticktext = bar.tickvals.map((v) => Number((10 ** v).toPrecision(2)).toString());
      }
      const few = sizes[across] <= 14 && sizes[upwards] <= 30;
      const notes = [];
      rows.forEach((j) => columns.forEach((i) => {
        const k = numbers[j][i], v = shade(layer.values[k]);
        if (!few) return;
        const dark = v !== null && (v - low) / (high - low) < 0.55;
        notes.push({ x: i, y: j, text: said(layer, k), showarrow: false,
          font: { size: 12, color: v === null ? "#666" : dark ? "#fff" : "#111" } });
      }));
      Plotly.react(place, [{ type: "heatmap", x: columns, y: rows,
        z: numbers.map((row) => row.map((k) => shade(layer.values[k]))),
        text: numbers.map((row) => row.map((k) => hover(layer, k))),
        hovertemplate: "%{text}<extra></extra>", colorscale: "Viridis", zmin: low, zmax: high,
        colorbar: bar, xgap: 2, ygap: 2, hoverongaps: true }],
      { ...look, height: Math.max(300, Math.min(900, 130 + 46 * rows.length)), annotations: notes,
        title: { text: layer.title, font: { size: 14 }, x: 0, xref: "paper", xanchor: "left" },
        margin: { l: 80, r: 20, t: 40, b: 60 },
        xaxis: { ...ticks(axes[across]), range: [-0.5, columns.length - 0.5], automargin: true },
        yaxis: { ...ticks(axes[upwards]), range: [-0.5, rows.length - 0.5], automargin: true } },
      config);
    }
    byId("map-layer").addEventListener("change", draw);
    if (axes.length > 2) {
      const choose = () => {
        axes.forEach((_, k) => {
          byId(`map-at-${k}-label`).hidden = k === across || k === upwards;
        });
        byId("map-x").value = across;
        byId("map-y").value = upwards;
      };
      byId("map-x").addEventListener("change", (event) => {
        const wanted = +event.target.value;
        if (wanted === upwards) upwards = across;
        across = wanted;
        choose(); draw();
      });
      byId("map-y").addEventListener("change", (event) => {
        const wanted = +event.target.value;
        if (wanted === across) across = upwards;
        upwards = wanted;
        choose(); draw();
      });
      axes.forEach((_, k) => byId(`map-at-${k}`).addEventListener("change", (event) => {
        at[k] = +event.target.value;
        draw();
      }));
      choose();
    }
    draw();
  }

  // ---- the fan of one run -------------------------------------------------------------------
  function fan() {
    const { frames, first } = read("fan-frames");
    const slider = byId("fan-time"), play = byId("fan-play"), said = byId("fan-said");
    let timer = null;

    function show() {
      const frame = frames[+slider.value];
      said.textContent = frame.said;
      slider.setAttribute("aria-valuetext", frame.said);
      Plotly.restyle("fan", { x: frame.x, y: frame.y }, frame.x.map((_, k) => first + k));
      Plotly.relayout("raster", Object.fromEntries(
        ["shapes[0].x0", "shapes[0].x1", "shapes[1].x0", "shapes[1].x1"].map(
          (key) => [key, frame.time])));
    }
    function stop() {
      clearInterval(timer);
      timer = null;
      play.textContent = "▶ play";
    }
    slider.addEventListener("input", () => { stop(); show(); });
    play.addEventListener("click", () => {
      if (timer !== null) { stop(); return; }
      if (+slider.value >= frames.length - 1) slider.value = 0;
      play.textContent = "⏸ pause";
      timer = setInterval(() => {
        if (+slider.value >= frames.length - 1) { stop(); return; }
        slider.value = +slider.value + 1;
        show();
      }, 160);
    });
    show();
  }

  plots().then(() => {
    if (byId("map-data")) maps();
    if (byId("fan-frames")) fan();
    document.documentElement.dataset.drawn = "yes";
  });
})();
