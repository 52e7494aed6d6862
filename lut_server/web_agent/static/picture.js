// Draws a latency table: the prices of its ops, and its networks as predicted and as measured.

const SPACE = "http://www.w3.org/2000/svg";
const MOST_BARS = 16;

function shape(name, attributes, text = null) {
  const made = document.createElementNS(SPACE, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (text !== null) made.textContent = text;
  return made;
}

function picture(width, height, label) {
  return shape("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": label });
}

/** Three significant digits. */
export function figure(value) {
  return Number(value.toPrecision(3)).toString();
}

/** About four round numbers from 0 to `most`. */
function steps(most) {
  const raw = most / 4;
  const size = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].map((times) => times * size).find((each) => each >= raw);
  return Array.from({ length: Math.floor(most / step) + 1 }, (_, i) => i * step);
}

/** Bars of the dearest ops, named by primitive, input and stride. */
export function drawBars(prices) {
  const dearest = [...prices].sort((a, b) => b.price_ms - a.price_ms).slice(0, MOST_BARS);
  const [width, row, labels] = [340, 24, 168];
  const most = Math.max(...dearest.map((price) => price.price_ms), 1e-9);
  const svg = picture(width, dearest.length * row, `Prices of ${dearest.length} ops in ms`);
  dearest.forEach((price, i) => {
    const [primitive, input, , stride] = price.op_key.split("/");
    const y = i * row;
    const length = (Math.max(price.price_ms, 0) / most) * (width - labels - 46);
    const look = price.stable ? "bar" : "bar unstable";
    const name = `${primitive} ${input}${stride === "s1" ? "" : ` ${stride}`}`;
    svg.append(
      shape("text", { x: labels - 6, y: y + 16, "text-anchor": "end" }, name),
      shape("rect", { x: labels, y: y + 5, width: length.toFixed(1), height: row - 9, rx: 3, class: look }),
      shape("text", { x: labels + length + 5, y: y + 16, class: "value" }, figure(price.price_ms)),
    );
  });
  return svg;
}

/** Measured over predicted ms; in the band a prediction is at most 10 % off. */
export function drawScatter(networks) {
  const [width, height, left, bottom] = [340, 300, 42, 34];
  const most = 1.05 * Math.max(...networks.flatMap((network) => [network.measured_ms, network.predicted_ms]));
  const x = (value) => (left + (value / most) * (width - left - 8)).toFixed(1);
  const y = (value) => (height - bottom - (value / most) * (height - bottom - 8)).toFixed(1);
  const svg = picture(width, height, `Predicted against measured latency of ${networks.length} networks`);
  const corners = [[0, 0], [most, most * 0.9], [most, most], [most * 0.9, most]];
  svg.append(
    shape("polygon", { points: corners.map(([a, b]) => `${x(a)},${y(b)}`).join(" "), class: "band" }),
    shape("line", { x1: x(0), y1: y(0), x2: x(most), y2: y(most), class: "same" }),
    shape("path", { d: `M${left} 8V${height - bottom}H${width - 8}`, class: "axis" }),
    shape("text", { x: width - 8, y: height - 4, "text-anchor": "end" }, "predicted, ms"),
    shape("text", { x: left + 4, y: 16 }, "measured, ms"),
  );
  for (const value of steps(most)) {
    svg.append(
      shape("text", { x: x(value), y: height - bottom + 14, "text-anchor": "middle" }, figure(value)),
      shape("text", { x: left - 5, y: Number(y(value)) + 4, "text-anchor": "end" }, figure(value)),
    );
  }
  for (const [role, look, r] of [["calibration", "fit", 3], ["held_out", "point", 4]]) {
    for (const network of networks.filter((each) => each.role === role)) {
      svg.append(shape("circle", { cx: x(network.predicted_ms), cy: y(network.measured_ms), r, class: look }));
    }
  }
  return svg;
}
