"use strict";
// Draws the page from its data. Knows no file and no network; what a fault or a role means is in the data's words.
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const AXIS_WIDTH = 84; // px, the same in every plot, so that the same time is at the same place
  const RIGHT = 22;
  const NEAR = 14; // px between the pointer and an operation that it means
  const DETAIL_MAX = 9000; // points in view, above which an ok one is a square and not a circle
  const FEW = 8; // rows of a table that is shown unasked
  const ZOOM_MIN_S = 0.002;
  const FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, sans-serif";
  const OUTCOMES = ["ok", "failed", "unknown"];
  const COLOURS = ["ok", "fail", "info"];
  const byId = (id) => document.getElementById(id);

  // --- elements ---

  function el(name, attributes = {}, ...children) {
    const made = document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) {
      if (value !== null && value !== undefined && value !== false) made.setAttribute(key, value === true ? "" : value);
    }
    made.append(...children.filter((child) => child !== null && child !== undefined));
    return made;
  }

  function svg(name, attributes = {}, ...children) {
    const made = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    made.append(...children);
    return made;
  }

  const fill = (id, ...children) => byId(id).append(...children.filter((child) => child !== null));

  // Columns are [title, "number" or ""]; a row is cells, of text or elements; a cell of the first column heads its row.
  function table(caption, columns, rows, classes = []) {
    const head = el(
      "tr",
      {},
      ...columns.map(([title, kind]) => el("th", { scope: "col", class: kind || null }, title)),
    );
    const body = rows.map((cells, place) =>
      el(
        "tr",
        { class: classes[place] || null },
        ...cells.map((cell, column) =>
          column === 0 ? el("th", { scope: "row" }, cell) : el("td", { class: columns[column][1] || null }, cell),
        ),
      ),
    );
    return el(
      "div",
      { class: "scroll" },
      el("table", {}, el("caption", {}, caption), el("thead", {}, head), el("tbody", {}, ...body)),
    );
  }

  const count = (number) => number.toLocaleString("en-US");
  const seconds = (value, digits = 2) => `${value.toFixed(digits)} s`;
  const plural = (number, word) => `${count(number)} ${word}${number === 1 ? "" : "s"}`;

  function duration(us) {
    if (us < 1000) return `${us} µs`;
    return us < 1e6 ? `${(us / 1000).toPrecision(3)} ms` : `${(us / 1e6).toPrecision(3)} s`;
  }

  // --- verdict, what is missing, what broke ---

  const MARKS = { valid: "✓", invalid: "✕", unknown: "?" };
  const word = (verdict) => el("span", { class: `${verdict}-word` }, `${MARKS[verdict] || "?"} ${verdict}`);

  function drawVerdict() {
    const verdict = data.verdict || "no verdict";
    const facts = [
      ["scenario", data.scenario],
      ["world", { live: "live processes", sim: "simulation" }[data.world] || data.world || "not known"],
      ["seed", data.seed],
      ["duration", data.duration_s === null ? "not known" : seconds(data.duration_s, 1)],
      ["ok", count(data.operations.ok || 0)],
      ["failed", count(data.operations.fail || 0)],
      ["unknown", count(data.operations.info || 0)],
    ];
    if (data.plant) facts.splice(3, 0, ["planted bug", data.plant]);
    fill(
      "verdict",
      el(
        "h1",
        { id: "verdict-title", class: `${data.verdict}-word` },
        el("span", { class: "mark", "aria-hidden": "true" }, MARKS[data.verdict] || "?"),
        verdict[0].toUpperCase() + verdict.slice(1),
      ),
      el("p", {}, data.meaning),
      el(
        "dl",
        { class: "facts" },
        ...facts.map(([name, value]) => el("div", {}, el("dt", {}, name), el("dd", {}, value))),
      ),
      data.replay ? el("p", { class: "replay quiet" }, "Run it again: ", el("code", {}, data.replay)) : null,
    );
  }

  function drawMissing() {
    const notes = data.missing;
    if (!notes.length) return;
    byId("missing").hidden = false;
    byId("missing").append(
      el("h2", { id: "missing-title" }, "What is missing"),
      el("p", { class: "note" }, "This report shows what the run directory holds. It does not hold everything:"),
      el("ul", {}, ...notes.map((note) => el("li", {}, note))),
    );
  }

  function drawBroke() {
    if (data.verdict !== "invalid" && !data.wrong) return;
    const part = byId("broke");
    part.hidden = false;
    part.append(
      el("h2", { id: "broke-title" }, "What broke"),
      el("p", { class: "sentence" }, data.sentence || data.meaning),
    );
    if (data.wrong) {
      const jump = el("button", { type: "button", class: "first", id: "jump" }, "Jump to the first error");
      jump.addEventListener("click", () => {
        showError();
        byId("timeline").scrollIntoView();
      });
      part.append(
        el(
          "p",
          {},
          jump,
          el(
            "span",
            { class: "quiet" },
            data.wrong.end < 0 ? "  before the clients began" : `  at ${seconds(data.wrong.end, 3)}`,
          ),
        ),
      );
    }
    if (data.anomaly) drawAnomaly(part);
    if (data.messages.length) drawMessages(part);
    if (data.minimal) {
      part.append(el("h3", {}, "The smallest scenario that still fails"), el("pre", { tabindex: "0" }, data.minimal));
    }
  }

  const PARTS = { broken: "cannot be explained", open: "was open then", shows: "part of the proof" };

  function drawAnomaly(part) {
    const found = data.anomaly;
    const bars = found.bars;
    part.append(el("h3", {}, "The operation that cannot be explained, and those beside it"));
    const caption =
      `${found.check}${found.key ? `, key ${found.key}` : ""}: one row for each client process; a bar is an ` +
      "operation from its invocation to its completion. Order is that of the history; lengths are not to scale.";
    const rest = [
      found.states.length ? `Where every order gets stuck: ${found.states.join("; or ")}.` : "",
      found.prefix ? `The first ${found.prefix} events of the history cannot be explained.` : "",
      found.unnamed ? `${plural(found.unnamed, "more operation")} left out here.` : "",
    ].join(" ");
    part.append(el("figure", {}, el("figcaption", {}, caption), barsPicture(bars), el("p", { class: "note" }, rest)));
    const rows = table(
      "In the order of the history",
      [
        ["operation", ""],
        ["process", "number"],
        ["invoked", "number"],
        ["completed", "number"],
        ["event", "number"],
        ["part", ""],
      ],
      bars.map((bar) => [
        bar.words,
        String(bar.process),
        seconds(bar.began, 4),
        bar.ended === null ? "unknown" : seconds(bar.ended, 4),
        String(bar.first),
        PARTS[bar.part],
      ]),
      bars.map((bar) => (bar.part === "broken" ? "broken" : "")),
    );
    part.append(el("details", { open: bars.length <= FEW }, el("summary", {}, "The operations as a table"), rows));
    const broken = bars.find((bar) => bar.part === "broken");
    if (broken) {
      part.append(
        el(
          "p",
          { class: "note" },
          "Follow it through the nodes: ",
          el("code", {}, explain(found.workload, broken.first)),
        ),
      );
    }
  }

  function barsPicture(bars) {
    const places = [...new Set(bars.flatMap((bar) => [bar.first, bar.last]).filter((place) => place !== null))].sort(
      (a, b) => a - b,
    );
    const processes = [...new Set(bars.map((bar) => bar.process))].sort((a, b) => a - b);
    const left = 86,
      row = 52,
      step = Math.max(38, Math.min(86, 940 / (places.length + 1)));
    const width = left + step * (places.length + 1),
      height = processes.length * row + 26;
    const x = (place) => left + step * (places.indexOf(place) + 0.4);
    const marks = processes.flatMap((process, place) => {
      const y = place * row + row / 2 + 4;
      return [
        svg("line", { x1: left, x2: width, y1: y, y2: y, stroke: "var(--line)" }),
        svg("text", { x: 0, y: y + 4, class: "quiet" }, `process ${process}`),
      ];
    });
    const above = new Map();
    for (const bar of bars) {
      const y = processes.indexOf(bar.process) * row + row / 2 + 4;
      const from = x(bar.first),
        to = bar.last === null ? width : x(bar.last),
        broken = bar.part === "broken";
      const colour = broken ? "var(--failed)" : bar.part === "open" ? "var(--accent)" : "var(--quiet)";
      marks.push(
        svg("rect", {
          x: from,
          y: y - 6,
          width: Math.max(6, to - from),
          height: 12,
          rx: 2,
          fill: broken ? colour : "var(--paper)",
          stroke: colour,
          "stroke-width": 2,
          "stroke-dasharray": bar.last === null ? "5 3" : "none",
        }),
      );
      const words = `${broken ? "✕ " : ""}${bar.words.replace(/ ok$/, "")}`;
      const below = from < (above.get(bar.process) ?? 0); // the label before it is still in the way
      if (!below) above.set(bar.process, from + 7 * words.length);
      marks.push(svg("text", { x: from, y: below ? y + 18 : y - 11, "font-weight": broken ? 700 : 400 }, words));
    }
    const last = height - 6;
    for (const place of places) {
      marks.push(
        svg("text", { x: x(place), y: last, class: "quiet", "text-anchor": "middle", "font-size": 10 }, String(place)),
      );
    }
    marks.push(svg("text", { x: 0, y: last, class: "quiet", "font-size": 10 }, "event"));
    const words = bars.map((bar) => `${bar.words} by process ${bar.process}: ${PARTS[bar.part]}`).join("; ");
    const longest = Math.max(...bars.map((bar) => x(bar.first) + bar.words.length * 7 + 20), width);
    return el(
      "div",
      { class: "picture", tabindex: "0", role: "group", "aria-label": "Picture of the operations; scrolls sideways" },
      svg(
        "svg",
        { width: longest, height, viewBox: `0 0 ${longest} ${height}`, role: "img", "aria-label": words },
        ...marks,
      ),
    );
  }

  function drawMessages(part) {
    const messages = data.messages;
    const known = messages.flatMap((message) => [message.sent, message.heard]).filter((time) => time !== null);
    const start = Math.min(...known),
      end = Math.max(...known);
    part.append(el("h3", {}, "Messages between the nodes around it"));
    const caption =
      `${plural(messages.length, "message")} from ${seconds(start, 4)} to ${seconds(end, 4)}, the last ones before ` +
      "it was seen. A line runs from the sender when it sent to the receiver when it heard; a short dashed one was " +
      "not heard by then. Votes are orange, replies grey, all others blue.";
    part.append(el("figure", {}, el("figcaption", {}, caption), messagesPicture(messages, start, end)));
    const rows = messages.map((message) => [
      message.sent === null ? "before" : seconds(message.sent, 4),
      message.heard === null ? "not seen" : seconds(message.heard, 4),
      `${message.sender} → ${message.to}`,
      message.kind,
      message.words,
    ]);
    part.append(
      el(
        "details",
        {},
        el("summary", {}, "The messages as a table"),
        table(
          "In the order in which they were written down",
          [
            ["sent", ""],
            ["heard", ""],
            ["from → to", ""],
            ["message", ""],
            ["fields", ""],
          ],
          rows,
        ),
      ),
    );
  }

  function messagesPicture(messages, start, end) {
    const nodes = data.nodes.filter((node) =>
      messages.some((message) => message.sender === node || message.to === node),
    );
    const left = 46,
      width = 1080,
      row = 44,
      height = nodes.length * row + 26;
    const scale = (width - left - 24) / Math.max(1e-9, end - start);
    const x = (time) => left + 12 + (time - start) * scale,
      y = (node) => nodes.indexOf(node) * row + row / 2;
    const marks = nodes.flatMap((node) => [
      svg("line", { x1: left, x2: width, y1: y(node), y2: y(node), stroke: "var(--line)" }),
      svg("text", { x: 0, y: y(node) + 4 }, node),
    ]);
    for (const message of messages) {
      const colour = /vote/i.test(message.kind)
        ? "var(--cut)"
        : /reply|response|result|ack/i.test(message.kind)
          ? "var(--quiet)"
          : "var(--accent)";
      const from = message.sent ?? message.heard,
        y1 = y(message.sender);
      const reached = nodes.includes(message.to) && message.heard !== null;
      const x2 = reached ? x(message.heard) : x(from) + 10;
      const y2 = reached
        ? y(message.to)
        : nodes.includes(message.to)
          ? y1 + Math.sign(y(message.to) - y1) * 13
          : y1 + 13;
      const dashed = !reached || message.sent === null;
      marks.push(
        svg(
          "line",
          { x1: x(from), y1, x2, y2, stroke: colour, "stroke-width": 1.2, "stroke-dasharray": dashed ? "3 2" : "none" },
          svg("title", {}, `${message.sender} → ${message.to}: ${message.kind} ${message.words}`),
        ),
      );
      if (reached) marks.push(svg("circle", { cx: x2, cy: y2, r: 2.2, fill: colour }));
    }
    if (data.wrong && data.wrong.end >= start && data.wrong.end <= end) {
      marks.push(
        svg("line", {
          x1: x(data.wrong.end),
          x2: x(data.wrong.end),
          y1: 0,
          y2: height - 20,
          stroke: "var(--mark)",
          "stroke-width": 2,
        }),
      );
    }
    for (let tick = 0; tick <= 4; tick++) {
      const time = start + ((end - start) * tick) / 4;
      const anchor = tick === 0 ? "start" : tick === 4 ? "end" : "middle";
      marks.push(
        svg(
          "text",
          { x: x(time), y: height - 4, class: "quiet", "text-anchor": anchor, "font-size": 11 },
          seconds(time, 4),
        ),
      );
    }
    return el(
      "div",
      { class: "picture", tabindex: "0", role: "group", "aria-label": "Picture of the messages; scrolls sideways" },
      svg(
        "svg",
        {
          width,
          height,
          viewBox: `0 0 ${width} ${height}`,
          role: "img",
          "aria-label": "Messages between nodes; the table below has each of them",
        },
        ...marks,
      ),
    );
  }

  function explain(workload, index) {
    return `${data.explain} ${workload ? `${workload + 1}:` : ""}${index}`;
  }

  // --- checks, faults, recovery ---

  function drawChecks() {
    const order = { invalid: 0, unknown: 1, valid: 2 };
    const checks = [...data.checks].sort((a, b) => (order[a.verdict] ?? 1) - (order[b.verdict] ?? 1));
    const rows = checks.map((check) => [
      check.workload ? `${check.name} (${check.workload})` : check.name,
      word(check.verdict),
      check.detail,
    ]);
    byId("checks").append(
      el("h2", { id: "checks-title" }, "Checks"),
      rows.length
        ? table(
            `${plural(checks.length, "check")}, ${checks.filter((one) => one.verdict === "valid").length} of them hold`,
            [
              ["check", ""],
              ["verdict", ""],
              ["what was found", ""],
            ],
            rows,
            checks.map((check) => check.verdict),
          )
        : el("p", { class: "quiet" }, "No check is recorded."),
    );
  }

  function drawFaults() {
    const part = byId("faults");
    const rows = data.faults.map((row) => [row.kind, ...[row.asked, row.applied, row.healed, row.skipped].map(count)]);
    part.append(
      el("h2", { id: "faults-title" }, "Faults"),
      rows.length
        ? table(
            "How many were asked for, seen in effect, seen healed, and never tried",
            [
              ["kind", ""],
              ["asked", "number"],
              ["applied", "number"],
              ["healed", "number"],
              ["skipped", "number"],
            ],
            rows,
          )
        : el("p", { class: "quiet" }, "None is recorded."),
    );
    if (data.untaken.length) {
      part.append(
        el("h3", {}, "What did not take hold"),
        table(
          "Faults that were never in effect",
          [
            ["fault", ""],
            ["asked", ""],
            ["why", ""],
          ],
          data.untaken.slice(0, 40).map((row) => [row.fault, row.at, row.why]),
        ),
      );
    }
    if (data.recovery.length) {
      const steps = [
        ["detect", "it was detected"],
        ["elect", "a leader was there"],
        ["write", "a later write was acknowledged"],
      ].filter(([name]) => data.recovery.some((row) => row[name] !== null));
      const pair = (times) => (times === null ? "–" : `${times[0].toFixed(3)} / ${times[1].toFixed(3)}`);
      part.append(
        el("h3", {}, "Recovery"),
        table(
          `Seconds (p50 / max) from the fault in effect until ${steps.map(([, words]) => words).join(", ")}`,
          [["after", ""], ...steps.map(([name]) => [name, "number"])],
          data.recovery.map((row) => [row.kind, ...steps.map(([name]) => pair(row[name]))]),
        ),
      );
    }
    if (data.bands.length) {
      part.append(
        el(
          "details",
          {},
          el("summary", {}, `The ${data.bands.length} faults one by one`),
          el("ul", {}, ...data.bands.slice(0, 400).map((band) => el("li", {}, band.words))),
        ),
      );
    }
  }

  // --- colours ---

  const dark = matchMedia("(prefers-color-scheme: dark)");
  let paint = {};
  function readColours() {
    const style = getComputedStyle(document.documentElement);
    const names = [
      "paper",
      "ink",
      "quiet",
      "line",
      "accent",
      "ok",
      "fail",
      "info",
      "leader",
      "follower",
      "candidate",
      "other",
      "down",
      "paused",
      "cut",
      "suspect",
      "failed",
      "held",
      "band",
      "band-edge",
      "grid",
      "mark",
      "raised",
    ];
    paint = Object.fromEntries(names.map((name) => [name, style.getPropertyValue(`--${name}`).trim()]));
  }
  const isDark = () => (document.documentElement.dataset.theme || (dark.matches ? "dark" : "light")) === "dark";
  function showTheme() {
    const now = isDark();
    byId("theme").textContent = now ? "Light" : "Dark";
    byId("theme").setAttribute("aria-pressed", String(now));
    readColours();
    for (const plot of plots) plot.redraw(false);
  }
  function setTheme(name) {
    document.documentElement.dataset.theme = name;
    showTheme();
  }

  // --- one view for all plots ---

  const plots = [];
  const end = data.end;
  const view = { from: 0, to: end };
  let pending = 0;

  function show(from, to) {
    const width = Math.min(end, Math.max(ZOOM_MIN_S, to - from));
    view.from = Math.min(Math.max(0, from), end - width);
    view.to = view.from + width;
    if (!pending) pending = requestAnimationFrame(apply);
  }

  function apply() {
    pending = 0;
    for (const plot of plots) plot.setScale("x", { min: view.from, max: view.to });
    const digits = view.to - view.from < 1 ? 4 : 2;
    byId("range").textContent = `${view.from.toFixed(digits)} to ${view.to.toFixed(digits)} s of ${end.toFixed(2)} s`;
  }

  const move = (share) => show(view.from + share * (view.to - view.from), view.to + share * (view.to - view.from));
  function zoom(factor, at = (view.from + view.to) / 2) {
    const width = Math.min(end, Math.max(ZOOM_MIN_S, (view.to - view.from) * factor));
    const share = (at - view.from) / (view.to - view.from);
    show(at - share * width, at + (1 - share) * width);
  }
  function showError() {
    const { start, end: stop } = data.wrong;
    const room = Math.max(0.25, (stop - start) * 1.5);
    show(start - room, stop + room);
  }
  const VIEWS = {
    in: () => zoom(0.5),
    out: () => zoom(2),
    earlier: () => move(-0.5),
    later: () => move(0.5),
    all: () => show(0, end),
    error: showError,
  };

  // --- plots ---

  const sync = uPlot.sync("run");
  const ratio = () => uPlot.pxRatio;
  let hovered = null;

  function font(ctx, size, weight = 400) {
    ctx.font = `${weight} ${size * ratio()}px ${FONT}`;
  }

  // `draw(u, ctx)` draws in canvas pixels; `lines(u, left, top, time)` says what is there, or null.
  function addPlot({ title, caption, text, keys, height, values, series, y, axis, draw, lines, labels, bandLabels }) {
    const holder = el("div", { class: "plot", role: "img", "aria-label": `${title}. ${caption}` });
    const figure = el(
      "figure",
      {},
      el("h3", {}, title),
      el("figcaption", {}, caption),
      keys ? keyList(keys) : null,
      holder,
      text,
    );
    byId("plots").append(figure);
    const options = {
      width: holder.clientWidth || 600,
      height,
      padding: [6, RIGHT, 0, 0],
      legend: { show: false },
      cursor: {
        sync: { key: sync.key, scales: ["x", null] },
        y: false,
        points: { show: false },
        drag: { x: true, y: false, setScale: false },
        bind: {
          dblclick: () => () => show(0, end),
          mousedown: (u, target, handler) => (event) => (event.shiftKey ? pan(u, event) : handler(event)),
        },
      },
      scales: { x: { time: false, min: 0, max: end }, y: y.scale },
      axes: [
        {
          stroke: () => paint.quiet,
          font: `12px ${FONT}`,
          size: 28,
          grid: { stroke: () => paint.grid, width: 1 },
          ticks: { stroke: () => paint.line, width: 1, size: 4 },
          values: (u, marks) => marks.map((mark) => `${+mark.toFixed(6)} s`),
        },
        {
          stroke: () => paint.quiet,
          font: `12px ${FONT}`,
          size: AXIS_WIDTH,
          grid: { stroke: () => paint.grid, width: 1 },
          ticks: { show: false },
          ...axis,
        },
      ],
      series: [{}, ...series],
      hooks: {
        drawClear: [drawBands],
        draw: [
          (u) => {
            if (draw) clipped(u, draw);
            if (bandLabels !== false) clipped(u, drawBandLabels);
            if (labels) labels(u, u.ctx);
            drawMark(u);
          },
        ],
        setSelect: [
          (u) => {
            if (u !== hovered || u.select.width < 4) return;
            const from = u.posToVal(u.select.left, "x"),
              to = u.posToVal(u.select.left + u.select.width, "x");
            u.setSelect({ left: 0, top: 0, width: 0, height: 0 }, false);
            show(from, to);
          },
        ],
        setCursor: [
          (u) => {
            if (u === hovered) tell(u, lines);
          },
        ],
        ready: [
          (u) => {
            u.over.addEventListener("mouseenter", () => {
              hovered = u;
            });
            u.over.addEventListener("mouseleave", () => {
              if (hovered === u) {
                hovered = null;
                byId("tip").hidden = true;
              }
            });
            u.over.addEventListener("wheel", (event) => wheel(u, event), { passive: false });
          },
        ],
      },
    };
    const plot = new uPlot(options, values, holder);
    plots.push(plot);
    sync.sub(plot);
    new ResizeObserver(() => {
      if (holder.clientWidth && Math.abs(holder.clientWidth - plot.width) > 1)
        plot.setSize({ width: holder.clientWidth, height });
    }).observe(holder);
    return plot;
  }

  function wheel(u, event) {
    const sideways = Math.abs(event.deltaX) > Math.abs(event.deltaY);
    if (!event.ctrlKey && !event.metaKey && !sideways) return; // the page scrolls
    event.preventDefault();
    if (sideways) move(event.deltaX / u.over.clientWidth);
    else zoom(Math.exp(event.deltaY * 0.004), u.posToVal(event.offsetX, "x"));
  }

  function pan(u, event) {
    const from = view.from,
      width = view.to - view.from,
      x = event.clientX;
    const drag = (moved) =>
      show(
        from - ((moved.clientX - x) / u.over.clientWidth) * width,
        from + width - ((moved.clientX - x) / u.over.clientWidth) * width,
      );
    const stop = () => {
      removeEventListener("mousemove", drag);
      removeEventListener("mouseup", stop);
    };
    addEventListener("mousemove", drag);
    addEventListener("mouseup", stop);
  }

  function clipped(u, draw) {
    const { ctx, bbox } = u;
    ctx.save();
    ctx.beginPath();
    ctx.rect(bbox.left, bbox.top, bbox.width, bbox.height);
    ctx.clip();
    ctx.textAlign = "left";
    draw(u, ctx);
    ctx.restore();
  }

  const xOf = (u, time) => u.valToPos(time, "x", true);
  const inView = (span) => span.end >= view.from && span.start <= view.to;

  function drawBands(u) {
    clipped(u, (_, ctx) => {
      const px = ratio(),
        { top, height } = u.bbox;
      for (const band of data.bands) {
        if (!inView(band)) continue;
        const left = xOf(u, band.start),
          right = Math.max(left + px, xOf(u, band.end));
        ctx.fillStyle = paint.band;
        ctx.fillRect(left, top, right - left, height);
        ctx.fillStyle = paint["band-edge"];
        ctx.fillRect(left, top, px, height);
        ctx.fillRect(right - px, top, px, height);
      }
      if (data.duration_s !== null && data.duration_s < end) {
        ctx.strokeStyle = paint.quiet;
        ctx.lineWidth = px;
        ctx.setLineDash([2 * px, 4 * px]);
        ctx.beginPath();
        ctx.moveTo(xOf(u, data.duration_s), top);
        ctx.lineTo(xOf(u, data.duration_s), top + height);
        ctx.stroke();
      }
    });
  }

  function drawBandLabels(u, ctx) {
    const px = ratio(),
      { left: least, top } = u.bbox;
    font(ctx, 10.5);
    ctx.textBaseline = "top";
    for (const band of data.bands) {
      if (!inView(band)) continue;
      const left = Math.max(xOf(u, band.start), least);
      label(
        ctx,
        band.kind,
        left + 4 * px,
        top + (3 + band.row * 12) * px,
        xOf(u, band.end) - left - 6 * px,
        paint.quiet,
      );
    }
  }

  function label(ctx, text, x, y, room, colour) {
    if (room < 8 * ratio()) return;
    let shown = text;
    while (shown && ctx.measureText(shown).width > room) shown = shown.slice(0, -1);
    if (shown.length < text.length && shown.length < 3) return;
    ctx.fillStyle = colour;
    ctx.fillText(shown, x, y);
  }

  function fitting(ctx, text, room) {
    if (ctx.measureText(text).width <= room) return text;
    let shown = text;
    while (shown && ctx.measureText(`${shown}…`).width > room) shown = shown.slice(0, -1);
    return `${shown}…`;
  }

  function drawMark(u) {
    if (!data.wrong || data.wrong.end < view.from || data.wrong.end > view.to) return;
    const px = ratio(),
      x = xOf(u, data.wrong.end),
      { top, height } = u.bbox;
    u.ctx.save(); // uPlot remembers what it set
    u.ctx.fillStyle = paint.mark;
    u.ctx.fillRect(x - px, top, 2 * px, height);
    u.ctx.beginPath();
    u.ctx.moveTo(x - 5 * px, top);
    u.ctx.lineTo(x + 5 * px, top);
    u.ctx.lineTo(x, top + 7 * px);
    u.ctx.fill();
    u.ctx.restore();
  }

  // --- what the pointer is on ---

  function tell(u, lines) {
    const tip = byId("tip"),
      { left, top } = u.cursor;
    const time = left >= 0 ? u.posToVal(left, "x") : 0;
    const said = left >= 0 && lines ? lines(u, left, top, time) : null;
    if (left < 0) {
      tip.hidden = true;
      return;
    }
    const faults = data.bands
      .filter((band) => band.start <= time && time <= band.end)
      .slice(0, 4)
      .map((band) => band.words);
    tip.replaceChildren(
      ...(said || [seconds(time, 3)])
        .concat(faults)
        .map((line) => (typeof line === "string" ? el("div", {}, line) : el("div", { class: "mono" }, line.command))),
    );
    tip.hidden = false;
    const box = u.over.getBoundingClientRect(),
      x = box.left + left,
      y = box.top + top;
    tip.style.left = `${Math.max(6, x + 16 + tip.offsetWidth > innerWidth - 6 ? x - 16 - tip.offsetWidth : x + 16)}px`;
    tip.style.top = `${Math.max(6, Math.min(y + 16, innerHeight - tip.offsetHeight - 6))}px`;
  }

  // --- rows of spans: nodes, views, locks ---

  // A row has label, top and height (px), and `draw(ctx, u, geometry)` for each of its spans.
  function addRows({ title, caption, text, keys, rows, paintSpan, name, bandLabels }) {
    const height = Math.max(...rows.map((row) => row.top + row.height)) + 6;
    const labels = (u, ctx) => {
      const px = ratio();
      ctx.save();
      ctx.textBaseline = "middle";
      for (const row of rows) {
        if (!row.label) continue;
        font(ctx, row.small ? 10 : 12, row.small ? 400 : 600);
        ctx.textAlign = "right";
        ctx.fillStyle = row.small ? paint.quiet : paint.ink;
        ctx.fillText(
          fitting(ctx, row.label, (AXIS_WIDTH - 10) * px),
          u.bbox.left - 8 * px,
          u.bbox.top + (row.top + (row.centre ?? row.height / 2)) * px,
        );
      }
      ctx.restore();
    };
    const draw = (u, ctx) => {
      const px = ratio();
      for (const row of rows) {
        for (const span of row.spans) {
          if (!inView(span)) continue;
          const left = Math.max(xOf(u, span.start), u.bbox.left - 4 * px),
            right = Math.min(xOf(u, span.end), u.bbox.left + u.bbox.width + 4 * px);
          paintSpan(ctx, span, {
            left,
            width: Math.max(px, right - left),
            top: u.bbox.top + row.top * px,
            height: row.height * px,
            px,
            least: u.bbox.left,
          });
        }
      }
    };
    const lines = (u, left, top, time) => {
      const row = rows.find((one) => top >= one.top - 1 && top <= one.top + one.height + 1);
      if (!row) return null;
      const here = row.spans.filter((span) => span.start <= time && time <= span.end);
      return [
        `${row.name || row.label} at ${seconds(time, 3)}`,
        ...(here.length ? here.slice(-6).map((span) => name(span)) : [row.nothing || "nothing known"]),
      ];
    };
    addPlot({
      title,
      caption,
      text,
      keys,
      height: height + 34,
      values: [
        [0, end],
        [0, 0],
      ],
      series: [{ show: false }],
      y: { scale: { auto: false, range: [0, 1] } },
      axis: { values: () => [], grid: { show: false } },
      draw,
      lines,
      labels,
      bandLabels,
    });
  }

  function hatch(ctx, { left, width, top, height, px }, colour, gap, slant) {
    ctx.save();
    ctx.beginPath();
    ctx.rect(left, top, width, height);
    ctx.clip();
    ctx.strokeStyle = colour;
    ctx.lineWidth = 1.6 * px;
    ctx.beginPath();
    const step = gap * px,
      first = Math.floor((left - height) / step) * step;
    for (let x = first; x < left + width + height; x += step) {
      ctx.moveTo(x, top + height);
      ctx.lineTo(x + (slant ? height : 0), top);
    }
    ctx.stroke();
    ctx.restore();
  }

  const ROLE_LETTERS = { leader: "L", follower: "F", candidate: "C" };

  function paintLane(ctx, span, box) {
    const { left, width, top, px, least } = box;
    const bar = { left, width, top: top + 3 * px, height: 16 * px, px };
    const middle = bar.top + bar.height / 2;
    ctx.textBaseline = "middle";
    if (span.what === "down" || span.what === "starting") {
      ctx.fillStyle = paint.paper;
      ctx.fillRect(bar.left, bar.top, bar.width, bar.height);
      hatch(ctx, bar, span.what === "down" ? paint.down : paint.quiet, span.what === "down" ? 5 : 9, true);
      ctx.strokeStyle = span.what === "down" ? paint.down : paint.quiet;
      ctx.lineWidth = px;
      ctx.strokeRect(bar.left + px / 2, bar.top + px / 2, bar.width - px, bar.height - px);
      font(ctx, 11, 600);
      tag(ctx, span.what, bar, middle);
    } else if (span.what === "paused") {
      ctx.globalAlpha = 0.6; // what it was in the meantime can still be seen
      ctx.fillStyle = paint.paper;
      ctx.fillRect(bar.left, bar.top, bar.width, bar.height);
      ctx.globalAlpha = 1;
      hatch(ctx, bar, paint.paused, 4, false);
      font(ctx, 11, 600);
      tag(ctx, "paused", bar, middle);
    } else if (span.what === "cut off") {
      ctx.strokeStyle = paint.cut;
      ctx.lineWidth = 3 * px;
      ctx.setLineDash([6 * px, 3 * px]);
      ctx.beginPath();
      ctx.moveTo(left, bar.top + bar.height + 4.5 * px);
      ctx.lineTo(left + width, bar.top + bar.height + 4.5 * px);
      ctx.stroke();
      ctx.setLineDash([]);
    } else {
      ctx.fillStyle = paint[span.what] || paint.other;
      ctx.fillRect(bar.left, bar.top, bar.width, bar.height);
      if (span.what === "candidate") hatch(ctx, bar, paint.paper, 5, true);
      ctx.fillStyle = paint.paper;
      ctx.fillRect(bar.left + bar.width - px, bar.top, px, bar.height);
      const letter = ROLE_LETTERS[span.what] || span.what;
      const term = span.term === null || span.term === undefined ? "" : ` ${span.term}`;
      font(ctx, 11, span.what === "leader" ? 700 : 400);
      const text = span.what === "leader" ? `${letter} · term${term}` : `${letter}${term}`;
      const x = Math.max(bar.left, least) + 5 * px,
        room = bar.left + bar.width - x - 3 * px;
      const fits = [span.told ? `${text} · incarnation ${span.told}` : text, text, letter].find(
        (one) => ctx.measureText(one).width <= room,
      );
      if (!fits) return;
      if (span.what === "candidate") {
        ctx.fillStyle = paint.paper;
        ctx.fillRect(x - 3 * px, bar.top + 2 * px, ctx.measureText(fits).width + 6 * px, bar.height - 4 * px);
      }
      ctx.fillStyle = span.what === "leader" ? paint.paper : paint.ink;
      ctx.fillText(fits, x, middle);
    }
  }

  function tag(ctx, text, bar, middle) {
    const wide = ctx.measureText(text).width;
    if (wide + 10 * bar.px > bar.width) return;
    const x = bar.left + (bar.width - wide) / 2;
    ctx.fillStyle = paint.paper;
    ctx.fillRect(x - 4 * bar.px, bar.top + 2 * bar.px, wide + 8 * bar.px, bar.height - 4 * bar.px);
    ctx.fillStyle = paint.ink;
    ctx.fillText(text, x, middle);
  }

  function drawLanes() {
    if (!data.lanes.length) return;
    const levels = data.bands.reduce((most, band) => Math.max(most, band.row + 1), 0);
    const first = levels * 18 + 6;
    const faultRows = Array.from({ length: levels }, (_, level) => ({
      label: level === 0 ? "faults" : "",
      name: "faults",
      top: 4 + level * 18,
      height: 15,
      small: true,
      nothing: "no fault",
      spans: data.bands.filter((band) => band.row === level).map((band) => ({ ...band, fault: true })),
    }));
    const rows = data.lanes.map((lane, place) => ({
      label: lane.node,
      top: first + place * 30,
      height: 27,
      centre: 11,
      nothing: "nothing known",
      spans: [
        ...withBoots(lane),
        ...lane.states.filter((span) => span.what === "cut off"),
        ...lane.states.filter((span) => span.what === "paused"),
        ...lane.states.filter((span) => !["cut off", "paused"].includes(span.what)),
      ],
    }));
    addRows({
      title: "Nodes",
      caption: "Each node's role and term, and when it was down, paused or cut off. In words below.",
      keys: [
        ["leader", "L"],
        ["follower", "F"],
        ["candidate", "C"],
        ["down", ""],
        ["paused", ""],
        ["cut off", ""],
      ],
      text: el("ul", { class: "note" }, ...data.lanes.map((lane) => el("li", {}, lane.words))),
      rows: [...faultRows, ...rows],
      bandLabels: false,
      name: (span) =>
        span.fault
          ? span.words
          : [
              span.what,
              span.incarnation ? `, incarnation ${span.incarnation}` : "",
              span.term ? `, term ${span.term}` : "",
              `, ${seconds(span.start)} to ${seconds(span.end)}`,
              span.words ? ` (${span.words})` : "",
            ].join(""),
      paintSpan: (ctx, span, box) => {
        if (span.fault) paintFault(ctx, span, box);
        else paintLane(ctx, span, box);
      },
    });
  }

  function withBoots(lane) {
    // a role that has room for it says which incarnation of the node it is
    const named = lane.roles.map((role) => ({ ...role }));
    for (const [at, incarnation] of lane.boots.filter((boot) => boot[1] > 1)) {
      const later = named.filter((role) => role.end > at);
      for (const role of later) role.incarnation = incarnation;
      const first = later.find((role) => role.end - role.start > end / 12) || later[0];
      if (first) first.told = incarnation;
    }
    return named;
  }

  function paintFault(ctx, span, { left, width, top, height, px, least }) {
    ctx.fillStyle = paint.raised;
    ctx.fillRect(left, top, width, height);
    ctx.strokeStyle = paint.quiet;
    ctx.lineWidth = px;
    ctx.strokeRect(left + px / 2, top + px / 2, Math.max(px, width - px), height - px);
    font(ctx, 10.5, 600);
    ctx.textBaseline = "middle";
    const whole = `${span.kind} ${span.nodes.join(", ")}`;
    label(
      ctx,
      ctx.measureText(whole).width < width - 6 * px ? whole : span.kind,
      Math.max(left, least) + 3 * px,
      top + height / 2 + 0.5 * px,
      left + width - Math.max(left, least) - 5 * px,
      paint.ink,
    );
  }

  function drawViews() {
    const told = data.views.filter((one) => one.spans.length);
    if (!told.length) return;
    const rows = [];
    const height = data.nodes.length > 6 ? 6 : 10;
    let top = 4;
    for (const node of data.nodes) {
      for (const [place, one] of data.views.filter((found) => found.node === node).entries()) {
        rows.push({
          label: place === 0 || height > 8 ? (place === 0 ? `${node} of ${one.peer}` : one.peer) : "",
          name: `${node} of ${one.peer}`,
          top,
          height,
          small: true,
          spans: one.spans,
        });
        top += height + 1;
      }
      top += 7;
    }
    const doubts = data.views.filter((one) => one.spans.some((span) => span.what !== "alive"));
    addRows({
      title: "Who believed what of whom",
      caption:
        "A row for each pair: what the first node held of the second. Where there is no line, the node was down or " +
        `had not said. ${
          doubts.length
            ? `${doubts.length} of ${data.views.length} views held somebody suspect or failed at some time.`
            : "Everybody was held alive throughout."
        }`,
      keys: [
        ["alive", ""],
        ["suspect", ""],
        ["failed", ""],
      ],
      text: doubts.length
        ? el(
            "details",
            {},
            el("summary", {}, "The same in words"),
            el("ul", {}, ...doubts.map((one) => el("li", {}, one.words))),
          )
        : null,
      rows,
      name: (span) =>
        `${span.what}, ${seconds(span.start)} to ${seconds(span.end)}${span.words ? ` (${span.words})` : ""}`,
      paintSpan: (ctx, span, { left, width, top: y, height: tall, px }) => {
        const thick = span.what === "alive" ? 1.5 * px : span.what === "suspect" ? tall * 0.5 : tall;
        ctx.fillStyle = span.what === "alive" ? paint.ok : span.what === "suspect" ? paint.suspect : paint.failed;
        ctx.fillRect(left, Math.round(y + (tall - thick) / 2), width, Math.max(1, Math.round(thick)));
        if (span.what === "failed") hatch(ctx, { left, width, top: y, height: tall, px }, paint.paper, 5, true);
      },
      bandLabels: false,
    });
  }

  function drawLocks() {
    if (!data.locks.length) return;
    const rows = data.locks.map((lock, place) => ({
      label: lock.key,
      name: lock.key,
      top: 4 + place * 20,
      height: 15,
      spans: lock.holds,
      nothing: "held by nobody",
    }));
    const fewer =
      data.locks_in_all > data.locks.length ? `The ${data.locks.length} busiest of ${data.locks_in_all} locks. ` : "";
    addRows({
      title: "Locks",
      caption: `${fewer}Who held what, from the grant's arrival to its release; the number is the client's process.`,
      keys: [
        ["held", ""],
        ["lapsed", ""],
      ],
      text: el(
        "details",
        {},
        el("summary", {}, "The same in words"),
        el("ul", {}, ...data.locks.map((lock) => el("li", {}, lock.words))),
      ),
      rows,
      name: (span) => span.words,
      paintSpan: (ctx, span, box) => {
        const { left, width, top, height, px } = box;
        ctx.fillStyle = span.what === "held" ? paint.held : paint.paper;
        ctx.fillRect(left, top, width, height);
        if (span.what === "lapsed") hatch(ctx, box, paint.cut, 5, true);
        ctx.strokeStyle = span.what === "held" ? paint.paper : paint.cut;
        ctx.lineWidth = px;
        ctx.strokeRect(left + px / 2, top + px / 2, Math.max(px, width - px), height - px);
        font(ctx, 10, 600);
        ctx.textBaseline = "middle";
        const who = (/process (\d+)/.exec(span.words) || ["", ""])[1];
        if (span.what === "held")
          label(
            ctx,
            ctx.measureText(who).width < width - 5 * px ? who : "",
            left + 3 * px,
            top + height / 2,
            width - 5 * px,
            paint.paper,
          );
        else tag(ctx, who, { left, width, top, height, px }, top + height / 2);
      },
      bandLabels: false,
    });
  }

  // --- operations ---

  function unpacked(points) {
    const sum = (deltas) => {
      let total = 0;
      return deltas.map((delta) => (total += delta));
    };
    const began = sum(points.began).map((us) => us / 1e6);
    const slowest = Math.max(1, ...chunked(points.latency));
    return {
      ...points,
      began,
      index: sum(points.index),
      slowest,
      shown: points.latency.map((us) => (us < 0 ? slowest : Math.max(1, us)) / 1000),
    };
  }

  function chunked(numbers) {
    // a call takes only so many arguments
    const found = [];
    for (let first = 0; first < numbers.length; first += 10000)
      found.push(Math.max(...numbers.slice(first, first + 10000)));
    return found;
  }

  function firstAt(times, time) {
    let low = 0,
      high = times.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (times[middle] < time) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  function drawLatency() {
    if (!data.points) return;
    const points = unpacked(data.points);
    const out = data.points.left_out,
      gone = out.ok + out.fail + out.info;
    const thin = gone
      ? `${count(points.began.length)} operations are drawn. Left out where they are dense: ${count(out.ok)} ok, ` +
        `${count(out.fail)} failed, ${count(out.info)} unknown; of every stretch the fastest and the slowest are there.`
      : `All ${plural(points.began.length, "operation")} are drawn.`;
    const draw = (u, ctx) => {
      const px = ratio(),
        from = Math.max(0, firstAt(points.began, view.from) - 1),
        to = Math.min(points.began.length, firstAt(points.began, view.to) + 1);
      const round = to - from < DETAIL_MAX,
        size = (to - from > DETAIL_MAX ? 1.1 : to - from > 2500 ? 1.5 : 2.2) * px;
      for (const kind of [0, 1, 2]) {
        ctx.beginPath();
        for (let place = from; place < to; place++) {
          if (points.outcome[place] !== kind) continue;
          const x = xOf(u, points.began[place]),
            y = u.valToPos(points.shown[place], "y", true);
          if (kind === 0) {
            if (round) {
              ctx.moveTo(x + size, y);
              ctx.arc(x, y, size, 0, 7);
            } else ctx.rect(x - size, y - size, 2 * size, 2 * size);
          } else if (kind === 1) {
            const arm = Math.max(2.4 * px, size * 1.5);
            ctx.moveTo(x - arm, y - arm);
            ctx.lineTo(x + arm, y + arm);
            ctx.moveTo(x + arm, y - arm);
            ctx.lineTo(x - arm, y + arm);
          } else {
            const arm = 4.6 * px;
            ctx.moveTo(x, y - arm);
            ctx.lineTo(x + arm, y + arm * 0.8);
            ctx.lineTo(x - arm, y + arm * 0.8);
            ctx.closePath();
          }
        }
        ctx.globalAlpha = kind === 0 ? 0.62 : 1;
        ctx.fillStyle = ctx.strokeStyle = paint[COLOURS[kind]];
        ctx.lineWidth = 1.3 * px;
        if (kind === 1) ctx.stroke();
        else ctx.fill();
        ctx.globalAlpha = 1;
      }
    };
    const nearest = (u, left, top) => {
      const width = (view.to - view.from) * (NEAR / u.over.clientWidth),
        time = u.posToVal(left, "x");
      let best = -1,
        least = NEAR * NEAR;
      for (
        let place = firstAt(points.began, time - width);
        place < points.began.length && points.began[place] <= time + width;
        place++
      ) {
        const dx = u.valToPos(points.began[place], "x") - left,
          dy = u.valToPos(points.shown[place], "y") - top,
          far = dx * dx + dy * dy;
        if (far < least) {
          least = far;
          best = place;
        }
      }
      return best;
    };
    const lines = (u, left, top) => {
      const place = nearest(u, left, top);
      if (place < 0) return null;
      const key = points.keys[points.key[place]],
        us = points.latency[place],
        workload = points.workload[place];
      return [
        points.texts[points.words[place]],
        `${OUTCOMES[points.outcome[place]]} after ${us < 0 ? "no answer at all" : duration(us)}, ` +
          `invoked at ${seconds(points.began[place], 4)}`,
        `${points.workloads[workload]}, process ${points.process[place]}${key ? `, key ${key}` : ""}, ` +
          `event ${points.index[place]}`,
        { command: explain(workload, points.index[place]) },
      ];
    };
    const smallest = points.shown.reduce((least, value) => Math.min(least, value), Infinity);
    addPlot({
      title: "Latency",
      caption:
        "Each operation at its invocation, with the time to its completion, on a logarithmic scale. " +
        `${thin} ${latencyInWords()}`,
      keys: [
        ["ok", "circle"],
        ["failed", "cross"],
        ["unknown", "triangle"],
      ],
      height: 300,
      values: [points.began, points.shown],
      series: [{ paths: () => null, points: { show: false } }],
      y: { scale: { distr: 3, auto: false, range: [smallest / 1.6, (points.slowest / 1000) * 1.8] } },
      axis: {
        grid: { stroke: () => paint.grid, width: 1, filter: decades },
        values: (u, marks) =>
          decades(u, marks).map((mark) =>
            mark === null ? "" : mark >= 1000 ? `${mark / 1000} s` : `${+mark.toFixed(3)} ms`,
          ),
      },
      draw,
      lines,
    });
  }

  function decades(u, marks) {
    return marks.map((mark) =>
      mark !== null && Math.abs(Math.log10(mark) - Math.round(Math.log10(mark))) < 1e-9 ? mark : null,
    );
  }

  function latencyInWords() {
    const known = data.points.latency
      .filter((us, place) => us >= 0 && data.points.outcome[place] === 0)
      .sort((a, b) => a - b);
    if (!known.length) return "No operation went well.";
    const half = duration(known[known.length >> 1]);
    return `Of the ok ones drawn, half took less than ${half}, the slowest ${duration(known[known.length - 1])}.`;
  }

  function drawThroughput() {
    if (!data.throughput) return;
    const { step, ok, fail, info } = data.throughput;
    const times = [...ok.keys()].map((place) => place * step),
      columns = [ok, fail, info].map((one) => [...one, one[one.length - 1]]);
    times.push(times[times.length - 1] + step);
    const stepped = uPlot.paths.stepped({ align: 1 });
    const most = Math.max(...ok, ...fail, ...info, 1),
      idle = ok.filter((rate) => rate === 0).length;
    const dashes = [[], [6, 3], [2, 3]];
    addPlot({
      title: "Throughput",
      caption:
        `Operations a second, counted over ${step} s when they ended. At most ${+Math.max(...ok).toFixed(1)} ok a ` +
        `second; ${idle ? `none went well in ${idle} of ${ok.length} stretches.` : "some went well in every stretch."}`,
      keys: [
        ["ok", "line"],
        ["failed", "dash"],
        ["unknown", "dots"],
      ],
      height: 200,
      values: [times, ...columns],
      series: COLOURS.map((name, place) => ({
        stroke: () => paint[name],
        width: 1.6,
        dash: dashes[place],
        paths: stepped,
        points: { show: false },
      })),
      y: { scale: { auto: false, range: [0, most * 1.15] } },
      axis: { values: (u, marks) => marks.map((mark) => `${+mark.toFixed(2)}/s`) },
      lines: (u, left, top, time) => {
        const place = Math.min(ok.length - 1, Math.max(0, Math.floor(time / step)));
        return [
          `${seconds(place * step)} to ${seconds((place + 1) * step)}`,
          `${ok[place]} ok, ${fail[place]} failed, ${info[place]} unknown a second`,
        ];
      },
    });
  }

  function drawDepths() {
    for (const queue of data.depths) {
      const times = [...queue.time, Math.max(end, queue.time[queue.time.length - 1])],
        depths = [...queue.depth, queue.depth[queue.depth.length - 1]];
      const most = Math.max(...depths, 1),
        least = Math.min(...depths, 0);
      addPlot({
        title: data.depths.length > 1 ? `Queue depth, ${queue.workload}` : "Queue depth",
        caption:
          `Messages acknowledged as published, less those acknowledged as done. ${queue.words}` +
          (least < 0 ? " Below zero where messages came out whose publication was never acknowledged." : ""),
        height: 170,
        values: [times, depths],
        series: [
          { stroke: () => paint.ok, width: 1.6, paths: uPlot.paths.stepped({ align: 1 }), points: { show: false } },
        ],
        y: { scale: { auto: false, range: [least, most * 1.15] } },
        axis: {},
        lines: (u, left, top, time) => {
          const place = Math.max(0, firstAt(times, time + 1e-9) - 1);
          return [`${plural(depths[place], "message")} at ${seconds(time, 3)}`];
        },
      });
    }
  }

  // --- legends ---

  const KEYS = {
    leader: () => [svg("rect", { width: 22, height: 14, fill: "var(--leader)" })],
    follower: () => [svg("rect", { width: 22, height: 14, fill: "var(--follower)" })],
    candidate: () => [svg("rect", { width: 22, height: 14, fill: "var(--candidate)" }), ...slashes("var(--paper)")],
    down: () => [
      svg("rect", { x: 0.5, y: 0.5, width: 21, height: 13, fill: "var(--paper)", stroke: "var(--down)" }),
      ...slashes("var(--down)"),
    ],
    paused: () =>
      [3, 7, 11, 15, 19].map((x) =>
        svg("line", { x1: x, x2: x, y1: 0, y2: 14, stroke: "var(--paused)", "stroke-width": 1.6 }),
      ),
    "cut off": () => [
      svg("line", { x1: 0, x2: 22, y1: 7, y2: 7, stroke: "var(--cut)", "stroke-width": 3, "stroke-dasharray": "6 3" }),
    ],
    alive: () => [svg("line", { x1: 0, x2: 22, y1: 7, y2: 7, stroke: "var(--ok)", "stroke-width": 1.5 })],
    suspect: () => [svg("rect", { y: 4, width: 22, height: 6, fill: "var(--suspect)" })],
    failed: () => [svg("rect", { y: 1, width: 22, height: 12, fill: "var(--failed)" }), ...slashes("var(--paper)")],
    held: () => [svg("rect", { width: 22, height: 14, fill: "var(--held)" })],
    lapsed: () => [
      svg("rect", { x: 0.5, y: 0.5, width: 21, height: 13, fill: "none", stroke: "var(--cut)" }),
      ...slashes("var(--cut)"),
    ],
    circle: () => [svg("circle", { cx: 11, cy: 7, r: 3, fill: "var(--ok)" })],
    cross: () => [svg("path", { d: "M7 3 15 11 M15 3 7 11", stroke: "var(--fail)", "stroke-width": 1.6 })],
    triangle: () => [svg("path", { d: "M11 2 16 11 6 11Z", fill: "var(--info)" })],
    line: () => [svg("line", { x1: 0, x2: 22, y1: 7, y2: 7, stroke: "var(--ok)", "stroke-width": 2 })],
    dash: () => [
      svg("line", { x1: 0, x2: 22, y1: 7, y2: 7, stroke: "var(--fail)", "stroke-width": 2, "stroke-dasharray": "6 3" }),
    ],
    dots: () => [
      svg("line", { x1: 0, x2: 22, y1: 7, y2: 7, stroke: "var(--info)", "stroke-width": 2, "stroke-dasharray": "2 3" }),
    ],
  };
  const slashes = (colour) =>
    [-6, 0, 6, 12, 18].map((x) =>
      svg("line", { x1: x, x2: x + 14, y1: 14, y2: 0, stroke: colour, "stroke-width": 1.4 }),
    );
  const LEGEND = { held: "held, then released", lapsed: "held until its lease may have ended" };

  function keyList(keys) {
    return el(
      "ul",
      { class: "keys", "aria-label": "Key" },
      ...keys.map(([name, shape]) =>
        el(
          "li",
          {},
          svg("svg", { viewBox: "0 0 22 14", "aria-hidden": "true" }, ...(KEYS[shape] || KEYS[name])()),
          `${LEGEND[name] || name}${shape.length === 1 ? ` (${shape})` : ""}`,
        ),
      ),
    );
  }

  // --- all of it ---

  readColours();
  drawVerdict();
  drawMissing();
  drawBroke();
  drawChecks();
  drawFaults();
  drawLanes();
  drawLatency();
  drawThroughput();
  drawViews();
  drawDepths();
  drawLocks();
  if (!plots.length)
    byId("plots").append(
      el("p", { class: "quiet" }, "There is nothing to draw: neither logs nor operations are here."),
    );
  for (const button of document.querySelectorAll("[data-view]")) {
    button.addEventListener("click", VIEWS[button.dataset.view]);
    if (button.dataset.view === "error") button.hidden = !data.wrong;
  }
  byId("origin").textContent = `From ${data.directory}. This file needs no network.`;
  byId("theme").addEventListener("click", () => setTheme(isDark() ? "light" : "dark"));
  dark.addEventListener("change", showTheme);
  let before = null;
  addEventListener("beforeprint", () => {
    before = document.documentElement.dataset.theme || "";
    setTheme("light");
    for (const plot of plots) plot.setSize({ width: Math.min(plot.width, 680), height: plot.height });
  });
  addEventListener("afterprint", () => {
    if (before) setTheme(before);
    else {
      delete document.documentElement.dataset.theme;
      showTheme();
    }
    for (const plot of plots) plot.setSize({ width: plot.root.parentElement.clientWidth, height: plot.height });
  });
  showTheme();
  show(0, end);
  document.documentElement.dataset.ready = "true";
})();
