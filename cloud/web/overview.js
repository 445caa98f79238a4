// The whole strip in one line: ectopic and inconclusive beats, what cannot be read, and the part on paper.

import { isEctopic, isInconclusive, letterOf, markOf } from "./labels.js";
import { fitted, hatch } from "./paper.js";

const HEIGHT = 34;
const LANES = { S: 2, F: 10, V: 18, "?": 26 };
const LANE_HEIGHT = 7;

export function drawOverview(canvas, strip, fromS, shownS) {
  const width = canvas.clientWidth;
  const pen = fitted(canvas, width, HEIGHT);
  const x = (timeS) => (timeS / strip.duration_s) * width;
  for (const { from_s, to_s } of strip.unreadable) hatch(pen, x(from_s), 0, x(to_s) - x(from_s), HEIGHT, 5);
  for (const beat of strip.beats) {
    const [left, top] = [x(beat.time_s) - 1, LANES[letterOf(beat)]];
    pen.fillStyle = pen.strokeStyle = markOf(beat).colour;
    pen.lineWidth = 1;
    if (isEctopic(beat)) pen.fillRect(left, top, 2, LANE_HEIGHT);
    if (isInconclusive(beat)) pen.strokeRect(left - 0.5, top + 0.5, 3, LANE_HEIGHT - 2);
  }
  pen.strokeStyle = "#0b5394";
  pen.lineWidth = 2;
  const end = Math.min(fromS + shownS, strip.duration_s);
  pen.strokeRect(x(fromS) + 1, 1, Math.max(4, x(end) - x(fromS) - 2), HEIGHT - 2);
}
