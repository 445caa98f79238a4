// The whole strip in one line: ectopic beats, what cannot be read, and the part on paper.

import { isEctopic, markOf } from "./labels.js";
import { fitted, hatch } from "./paper.js";

const HEIGHT = 34;
const LANES = { S: 4, F: 13, V: 22 };

export function drawOverview(canvas, strip, fromS, shownS) {
  const width = canvas.clientWidth;
  const pen = fitted(canvas, width, HEIGHT);
  const x = (timeS) => (timeS / strip.duration_s) * width;
  for (const { from_s, to_s } of strip.unreadable) hatch(pen, x(from_s), 0, x(to_s) - x(from_s), HEIGHT, 5);
  for (const beat of strip.beats) {
    if (!isEctopic(beat)) continue;
    pen.fillStyle = markOf(beat).colour;
    pen.fillRect(x(beat.time_s) - 1, LANES[beat.label], 2, 8);
  }
  pen.strokeStyle = "#0b5394";
  pen.lineWidth = 2;
  const end = Math.min(fromS + shownS, strip.duration_s);
  pen.strokeRect(x(fromS) + 1, 1, Math.max(4, x(end) - x(fromS) - 2), HEIGHT - 2);
}
