// ECG paper: rows of 25 mm/s and 10 mm/mV with a calibration pulse, and the overview below them.

import { SURE, drawMark, isEctopic, letterOf, markOf } from "./labels.js";

export const MM = 96 / 25.4; // CSS pixels
const MM_PER_S = 25;
const MM_PER_MV = 10;
const GUTTER_MM = 10; // holds the calibration pulse
const MARKS_MM = 10;
const TIMES_MM = 5;
const TRACE_MM = { least: 25, most: 50 };
const ROWS = 3;
const COLOUR = { fine: "#f8dcdc", coarse: "#eab0b0", trace: "#101418", hatch: "#7a828b", text: "#3d4852" };

// How a strip lies on paper of a given width: seconds a row, rows, and the height of their traces.
export function layout(strip, width) {
  const [low, high] = strip.range_mv;
  const secondsPerRow = Math.max(1, Math.floor((width / MM - GUTTER_MM) / MM_PER_S));
  const traceMm = Math.min(TRACE_MM.most, Math.max(TRACE_MM.least, Math.ceil((high - low) * MM_PER_MV / 5 + 1) * 5));
  const num = Math.min(ROWS, Math.max(1, Math.ceil(strip.duration_s / secondsPerRow)));
  return { width, low, high, secondsPerRow, traceMm, rows: num, rowMm: MARKS_MM + traceMm + TIMES_MM };
}

export function pageHeight(plan) {
  return plan.rows * plan.rowMm * MM;
}

// Give a canvas as many device pixels as it covers; the pen then works in CSS pixels.
export function fitted(canvas, width, height) {
  const ratio = window.devicePixelRatio || 1;
  canvas.width = Math.round(width * ratio);
  canvas.height = Math.round(height * ratio);
  const pen = canvas.getContext("2d");
  pen.setTransform(ratio, 0, 0, ratio, 0, 0);
  return pen;
}

export function drawPage(canvas, strip, plan, fromS) {
  const height = pageHeight(plan);
  canvas.style.height = `${height}px`;
  const pen = fitted(canvas, plan.width, height);
  drawGrid(pen, plan.width, height);
  for (let row = 0; row < plan.rows; row++) {
    pen.save();
    pen.translate(0, row * plan.rowMm * MM);
    drawRow(pen, strip, plan, fromS + row * plan.secondsPerRow);
    pen.restore();
  }
  drawScale(pen, plan, height);
}

// All readable voltages where they fit; else without the rarest 0.4 %, which is cut off.
export function voltageRange(strip) {
  const ecgMv = readableSamples(strip);
  let [least, greatest] = [Infinity, -Infinity];
  for (const mv of ecgMv) {
    if (mv < least) least = mv;
    if (mv > greatest) greatest = mv;
  }
  if ((greatest - least) * MM_PER_MV <= TRACE_MM.most - 5) return [least, greatest];
  const step = Math.max(1, Math.floor(ecgMv.length / 20000));
  const some = Float64Array.from({ length: Math.ceil(ecgMv.length / step) }, (_, i) => ecgMv[i * step]).sort();
  const at = (share) => some[Math.round(share * (some.length - 1))];
  return [at(0.002), at(0.998)];
}

function readableSamples({ ecg_mv, fs_hz, unreadable }) {
  const parts = [];
  let from = 0;
  for (const { from_s, to_s } of unreadable) {
    parts.push(ecg_mv.slice(from, Math.round(from_s * fs_hz)));
    from = Math.round(to_s * fs_hz);
  }
  const readable = parts.concat([ecg_mv.slice(from)]).flat();
  return readable.length ? readable : ecg_mv;
}

function drawGrid(pen, width, height) {
  for (const [every, colour, thickness] of [[1, COLOUR.fine, 0.7], [5, COLOUR.coarse, 1]]) {
    pen.beginPath();
    for (let x = 0; x <= width; x += every * MM) { pen.moveTo(x, 0); pen.lineTo(x, height); }
    for (let y = 0; y <= height; y += every * MM) { pen.moveTo(0, y); pen.lineTo(width, y); }
    pen.strokeStyle = colour;
    pen.lineWidth = thickness;
    pen.stroke();
  }
}

function drawRow(pen, strip, plan, fromS) {
  const toS = Math.min(fromS + plan.secondsPerRow, strip.duration_s);
  const x = (timeS) => (GUTTER_MM + (timeS - fromS) * MM_PER_S) * MM;
  const middle = (plan.low + plan.high) / 2;
  const centre = (MARKS_MM + plan.traceMm / 2) * MM;
  const y = (mv) => centre - (mv - middle) * MM_PER_MV * MM;
  drawPulse(pen, centre + 5 * MM);
  drawLead(pen, strip.lead, centre - 7 * MM);
  if (toS <= fromS) return;
  drawTrace(pen, strip, fromS, toS, x, y, plan);
  drawUnreadable(pen, strip.unreadable, fromS, toS, x, plan);
  drawTimes(pen, fromS, toS, x, plan);
  for (const beat of between(strip.beats, fromS, toS)) drawBeat(pen, beat, x(beat.time_s));
}

// On the paper itself, so that a print or a screenshot tells it too.
function drawScale(pen, plan, height) {
  const text = `${MM_PER_S} mm/s  ${MM_PER_MV} mm/mV`;
  pen.font = "11px system-ui, sans-serif";
  drawTag(pen, text, plan.width - pen.measureText(text).width - 9, height - 17);
}

// 1 mV high, 0.2 s wide.
function drawPulse(pen, foot) {
  const [left, up, down, right] = [1, 2.5, 7.5, 9].map((mm) => mm * MM);
  const top = foot - MM_PER_MV * MM;
  pen.beginPath();
  [[left, foot], [up, foot], [up, top], [down, top], [down, foot], [right, foot]]
    .forEach(([px, py], i) => (i ? pen.lineTo(px, py) : pen.moveTo(px, py)));
  pen.strokeStyle = COLOUR.trace;
  pen.lineWidth = 1.2;
  pen.stroke();
}

function drawLead(pen, lead, foot) {
  pen.font = "bold 12px system-ui, sans-serif";
  pen.fillStyle = COLOUR.text;
  pen.textAlign = "left";
  pen.textBaseline = "alphabetic";
  pen.fillText(lead, MM, foot, (GUTTER_MM - 1.5) * MM);
}

function drawTrace(pen, strip, fromS, toS, x, y, plan) {
  const first = Math.floor(fromS * strip.fs_hz);
  const last = Math.min(strip.ecg_mv.length - 1, Math.ceil(toS * strip.fs_hz));
  pen.save();
  pen.beginPath();
  pen.rect(x(fromS), MARKS_MM * MM, x(toS) - x(fromS), plan.traceMm * MM);
  pen.clip();
  pen.beginPath();
  for (let i = first; i <= last; i++) pen.lineTo(x(i / strip.fs_hz), y(strip.ecg_mv[i]));
  pen.strokeStyle = COLOUR.trace;
  pen.lineWidth = 1.2;
  pen.lineJoin = "round";
  pen.stroke();
  pen.restore();
}

function drawTimes(pen, fromS, toS, x, plan) {
  const top = (MARKS_MM + plan.traceMm) * MM;
  pen.font = "11px system-ui, sans-serif";
  pen.fillStyle = pen.strokeStyle = COLOUR.text;
  pen.textAlign = "left";
  pen.textBaseline = "bottom";
  pen.lineWidth = 1;
  pen.beginPath();
  for (let s = Math.ceil(fromS); s < toS; s++) {
    pen.moveTo(x(s), top);
    pen.lineTo(x(s), top + 1.5 * MM);
    if (s === Math.ceil(fromS) || s % 5 === 0) pen.fillText(clock(s), x(s) + 2, top + TIMES_MM * MM - 1);
  }
  pen.stroke();
}

function drawBeat(pen, beat, x) {
  const mark = markOf(beat);
  const ectopic = isEctopic(beat);
  pen.fillStyle = mark.colour;
  pen.font = ectopic ? "bold 15px system-ui, sans-serif" : "12px system-ui, sans-serif";
  pen.textAlign = "center";
  pen.textBaseline = "alphabetic";
  pen.fillText(letterOf(beat), x, 4.2 * MM);
  drawMark(pen, x, 6.6 * MM, ectopic ? 5 : 4, mark, beat.probability >= SURE);
  pen.beginPath();
  pen.moveTo(x, 8.4 * MM);
  pen.lineTo(x, 10 * MM);
  pen.strokeStyle = mark.colour;
  pen.lineWidth = 1;
  pen.stroke();
}

function drawUnreadable(pen, stretches, fromS, toS, x, plan) {
  for (const { from_s, to_s } of stretches) {
    const [left, right] = [Math.max(from_s, fromS), Math.min(to_s, toS)].map(x);
    if (right <= left) continue;
    hatch(pen, left, MARKS_MM * MM, right - left, plan.traceMm * MM);
    if (right - left > 90) drawTag(pen, "cannot be read", left + 3, (MARKS_MM + plan.traceMm) * MM - 18);
  }
}

function drawTag(pen, text, x, y) {
  pen.font = "11px system-ui, sans-serif";
  pen.textAlign = "left";
  pen.textBaseline = "middle";
  pen.fillStyle = "#fff";
  pen.fillRect(x, y, pen.measureText(text).width + 6, 15);
  pen.fillStyle = COLOUR.text;
  pen.fillText(text, x + 3, y + 8);
}

export function hatch(pen, left, top, width, height, every = 9) {
  pen.save();
  pen.beginPath();
  pen.rect(left, top, width, height);
  pen.clip();
  pen.fillStyle = "rgba(255, 250, 250, .55)";
  pen.fillRect(left, top, width, height);
  pen.beginPath();
  for (let at = left - height; at < left + width; at += every) {
    pen.moveTo(at, top + height);
    pen.lineTo(at + height, top);
  }
  pen.strokeStyle = COLOUR.hatch;
  pen.lineWidth = 1;
  pen.stroke();
  pen.restore();
}

// Items with `time_s` in [fromS, toS), by bisection: a day has 100,000 beats.
export function between(items, fromS, toS) {
  const first = (limit) => {
    let [low, high] = [0, items.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (items[middle].time_s < limit) low = middle + 1; else high = middle;
    }
    return low;
  };
  return items.slice(first(fromS), first(toS));
}

export function clock(seconds, digits = 0) {
  const hours = Math.floor(seconds / 3600);
  const minutes = Math.floor(seconds / 60) % 60;
  const rest = (seconds % 60).toFixed(digits).padStart(digits ? 3 + digits : 2, "0");
  return hours ? `${hours}:${String(minutes).padStart(2, "0")}:${rest}` : `${minutes}:${rest}`;
}
