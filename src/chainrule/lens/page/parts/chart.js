/** Curves over steps, by uPlot: they grow while a training runs, and a line follows the mouse with the numbers there. */

import { brief, grouped } from "../numbers.js";
import { html, useEffect, useRef, useState } from "../html.js";
import uPlot from "../vendor/uplot.js";
import { Numbers } from "./table.js";
import { useDark } from "./theme.js";

const HEIGHT = 210;

/** `series` are `{label, colour (a variable of the style sheet), values, points}` over `steps`; null where there is no number. */
export function Chart({ title, steps, series, format = brief, range }) {
  const frame = useRef(null);
  const plot = useRef(null);
  const dark = useDark();
  const [at, setAt] = useState(null);
  const shown = series.filter((one) => one.values.some((value) => value !== null));
  const key = shown.map((one) => one.label).join();
  useEffect(() => {
    if (!steps.length) return undefined;
    const style = getComputedStyle(document.documentElement);
    const colour = (name) => resolved(frame.current, name);
    const axis = {
      stroke: colour("--soft"),
      grid: { stroke: colour("--rule"), width: 1 },
      ticks: { show: false },
      font: `12px ${style.getPropertyValue("--sans")}`,
    };
    const options = {
      width: frame.current.clientWidth,
      height: HEIGHT,
      legend: { show: false },
      cursor: { y: false, points: { size: 7 }, drag: { x: true, y: false } },
      scales: { x: { time: false }, y: range ? { range } : {} },
      axes: [
        { ...axis, values: (_, ticks) => ticks.map((tick) => (Number.isInteger(tick) ? grouped(tick) : "")) },
        { ...axis, size: 58, values: (_, ticks) => ticks.map((tick) => format(tick)) },
      ],
      series: [
        {},
        ...shown.map((one) => ({
          stroke: colour(one.colour),
          width: one.points ? 0 : 1.75,
          spanGaps: true,
          points: { show: one.points ?? false, size: 8, fill: colour(one.colour), stroke: colour("--paper") },
        })),
      ],
      hooks: { setCursor: [(made) => setAt(made.cursor.idx ?? null)] },
    };
    plot.current = new uPlot(options, [steps, ...shown.map((one) => one.values)], frame.current);
    const watcher = new ResizeObserver(() => plot.current.setSize({ width: frame.current.clientWidth, height: HEIGHT }));
    watcher.observe(frame.current);
    return () => {
      watcher.disconnect();
      plot.current.destroy();
      plot.current = null;
    };
  }, [dark, key, steps.length > 0]);
  useEffect(() => {
    plot.current?.setData([steps, ...shown.map((one) => one.values)]);
  }, [steps, series]);
  const index = at ?? steps.length - 1;
  const pressed = (event) => {
    const move = { ArrowLeft: -1, ArrowRight: 1, Home: -Infinity, End: Infinity }[event.key];
    if (!move || !plot.current) return;
    event.preventDefault();
    const to = Math.min(Math.max(index + move, 0), steps.length - 1);
    plot.current.setCursor({ left: plot.current.valToPos(steps[to], "x"), top: 10 });
    setAt(to);
  };
  const latest = (one) =>
    one.values[index] !== null ? one.values[index] : one.values.slice(0, index + 1).findLast((value) => value !== null);
  return html`<figure class="chart" data-last=${steps.at(-1)}>
    <figcaption>
      <h2>${title}</h2>
      <span class="readout"
        >${shown.map((one) => html`<span style=${{ "--line": `var(${one.colour})` }} class=${one.points ? "key dots" : "key"}>${one.label} <b class="number">${format(latest(one) ?? null)}</b></span>`)}
        <span class="hint">step ${grouped(steps[index] ?? 0)}</span></span
      >
      <${Numbers}
        title=${title}
        rows=${() => ({ heads: ["step", ...shown.map((one) => one.label)], lines: steps.map((step, i) => [step, ...shown.map((one) => one.values[i])]) })}
      />
    </figcaption>
    <div
      ref=${frame}
      class="plot"
      tabindex="0"
      role="img"
      aria-label=${`${title} over ${grouped(steps.length)} records: ${shown.map((one) => `${one.label} ${format(latest(one) ?? null)}`).join(", ")} at step ${steps[index] ?? 0}`}
      onKeyDown=${pressed}
    />
  </figure>`;
}

/** The colour that a variable has here, in a form that a canvas takes. */
function resolved(element, name) {
  const probe = document.createElement("i");
  probe.style.color = `var(${name})`;
  element.append(probe);
  const { color } = getComputedStyle(probe);
  probe.remove();
  return color;
}
