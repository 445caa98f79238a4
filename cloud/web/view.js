// Which part of a strip is on paper, and how keys, buttons and the overview move it.

import { isEctopic, isInconclusive } from "./labels.js";
import { drawOverview } from "./overview.js";
import { MM, clock, drawPage, layout, voltageRange } from "./paper.js";

export class View {
  constructor(paper, overview, windowText) {
    Object.assign(this, { paper, overview, windowText, strip: null, fromS: 0, focusS: null });
    new ResizeObserver(() => this.draw()).observe(paper.parentElement);
    paper.addEventListener("keydown", (event) => this.onKey(event));
    overview.addEventListener("pointerdown", (event) => {
      const share = event.offsetX / overview.clientWidth;
      this.moveTo(share * this.strip.duration_s - this.shownS / 2);
    });
  }

  show(strip) {
    this.strip = { ...strip, range_mv: voltageRange(strip) };
    this.fromS = 0;
    this.focusS = null;
    this.draw();
  }

  draw() {
    if (!this.strip || !this.paper.clientWidth) return;
    this.plan = layout(this.strip, this.paper.clientWidth);
    this.shownS = this.plan.rows * this.plan.secondsPerRow;
    this.fromS = this.clamped(this.fromS);
    drawPage(this.paper, this.strip, this.plan, this.fromS);
    drawOverview(this.overview, this.strip, this.fromS, this.shownS);
    const end = Math.min(this.fromS + this.shownS, this.strip.duration_s);
    this.windowText.textContent = `${clock(this.fromS)} to ${clock(end)} of ${clock(this.strip.duration_s)}`;
    this.describe();
  }

  describe() {
    const shown = this.strip.beats.filter((b) => b.time_s >= this.fromS && b.time_s < this.fromS + this.shownS);
    const [ectopic, unsure] = [isEctopic, isInconclusive].map((is) => shown.filter(is).length);
    this.paper.setAttribute("aria-label",
      `ECG strip, ${this.windowText.textContent}: ${shown.length} beats, ${ectopic} labelled ectopic, ${unsure} inconclusive. All beats are in the table.`);
  }

  clamped(fromS) {
    return Math.max(0, Math.min(fromS, this.strip.duration_s - this.shownS));
  }

  moveTo(fromS) {
    this.focusS = null;
    this.fromS = this.clamped(Math.floor(fromS));
    this.draw();
  }

  // Brings a beat to the middle of the first row and rings it; N and P go on from there.
  lookAt(timeS) {
    this.moveTo(timeS - this.plan.secondsPerRow / 2);
    this.focusS = timeS;
    this.point(timeS);
  }

  // Rings the place that was asked for, until the next movement draws over it.
  point(timeS) {
    const { secondsPerRow, rowMm } = this.plan;
    const row = Math.floor((timeS - this.fromS) / secondsPerRow);
    const x = (10 + (timeS - this.fromS - row * secondsPerRow) * 25) * MM;
    const pen = this.paper.getContext("2d");
    pen.strokeStyle = "#0b5394";
    pen.lineWidth = 2;
    pen.strokeRect(x - 11, row * rowMm * MM + 2, 22, rowMm * MM - 6);
  }

  step(direction) {
    const ectopic = this.strip.beats.filter(isEctopic);
    const now = this.focusS ?? this.fromS;
    const found = direction > 0
      ? ectopic.find((beat) => beat.time_s > now)
      : ectopic.findLast((beat) => beat.time_s < now);
    if (found) this.lookAt(found.time_s);
  }

  onKey(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const row = this.plan.secondsPerRow;
    const moves = {
      ArrowLeft: -1, ArrowRight: 1, ArrowUp: -row, ArrowDown: row,
      PageUp: -this.shownS, PageDown: this.shownS, Home: -Infinity, End: Infinity,
    };
    if (event.key in moves) {
      this.moveTo(Math.min(this.strip.duration_s, Math.max(0, this.fromS + moves[event.key])));
    } else if (event.key === "n") this.step(1);
    else if (event.key === "p") this.step(-1);
    else return;
    event.preventDefault();
  }
}
