// What a label means, and how a beat is marked: letter, shape and colour, so that none is needed.

export const LABELS = {
  N: { meaning: "not ectopic (AAMI), see below", colour: "#3d4852", shape: "dot" },
  S: { meaning: "supraventricular ectopic", colour: "#a34700", shape: "triangle" },
  V: { meaning: "ventricular ectopic", colour: "#0b4fa0", shape: "square" },
  F: { meaning: "fusion", colour: "#7a1f7a", shape: "diamond" },
  Q: { meaning: "unclassifiable, never a finding", colour: "#3d4852", shape: "circle" },
};
export const INCONCLUSIVE = { meaning: "inconclusive: the model may well be wrong here", colour: "#66717c", shape: "bar", letter: "?" };
export const UNREADABLE = { meaning: "beat in a second that cannot be read", colour: "#5f6b76", shape: "cross", letter: "×" };
export const SURE = 0.8;
const ECTOPIC = new Set(["S", "V", "F"]);
const HOLLOW = new Set(["circle", "cross", "bar"]);

export function isInconclusive(beat) {
  return beat.readable && beat.inconclusive;
}

export function isEctopic(beat) {
  return beat.readable && !beat.inconclusive && ECTOPIC.has(beat.label);
}

export function markOf(beat) {
  if (isInconclusive(beat)) return INCONCLUSIVE;
  return beat.readable ? LABELS[beat.label] ?? UNREADABLE : UNREADABLE;
}

export function letterOf(beat) {
  return markOf(beat).letter ?? beat.label;
}

const PATHS = {
  dot: (pen, r) => pen.arc(0, 0, r * 0.45, 0, 2 * Math.PI),
  circle: (pen, r) => pen.arc(0, 0, r * 0.8, 0, 2 * Math.PI),
  triangle: (pen, r) => polygon(pen, [[0, -r], [r, r * 0.8], [-r, r * 0.8]]),
  square: (pen, r) => polygon(pen, [[-r, -r], [r, -r], [r, r], [-r, r]], 0.8),
  diamond: (pen, r) => polygon(pen, [[0, -r], [r, 0], [0, r], [-r, 0]]),
  bar: (pen, r) => polygon(pen, [[-r, -r], [r, -r], [r, r], [-r, r]], 1, 0.5),
  cross: (pen, r) => { polygon(pen, [[-r, -r], [r, r]], 0.6); polygon(pen, [[-r, r], [r, -r]], 0.6); },
};

export function drawMark(pen, x, y, radius, mark, sure = true) {
  pen.save();
  pen.translate(x, y);
  pen.beginPath();
  PATHS[mark.shape](pen, radius);
  pen.strokeStyle = pen.fillStyle = mark.colour;
  pen.lineWidth = 1.5;
  if (sure && !HOLLOW.has(mark.shape)) pen.fill();
  pen.stroke();
  pen.restore();
}

function polygon(pen, points, scale = 1, flat = 1) {
  points.forEach(([x, y], i) => (i ? pen.lineTo(x * scale, y * scale * flat) : pen.moveTo(x * scale, y * scale * flat)));
  pen.closePath();
}
