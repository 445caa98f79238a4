// Summary, legend and table of beats, as text.

import { INCONCLUSIVE, LABELS, SURE, UNREADABLE, drawMark, isEctopic, isInconclusive, letterOf } from "./labels.js";
import { clock, fitted } from "./paper.js";

const MAX_ROWS = 500;

export function element(tag, text = "", attributes = {}) {
  const made = document.createElement(tag);
  made.textContent = text;
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  return made;
}

export function showFacts(into, answer, source) {
  const { release } = answer;
  const rate = answer.heart_rate_bpm;
  const released = fact("Release", release.name, `day ${release.day}, trained on: ${release.trained_on}`, "wide");
  released.querySelector("p").append(" ", element("a", "card", { href: `/v1/releases/${release.name}/card` }));
  released.append(element("code", `model ${release.model_digest.slice(0, 16)}…`, { title: release.model_digest }));
  into.replaceChildren(
    rate === null
      ? fact("Heart rate", "cannot be told", "too few readable beats")
      : fact("Heart rate", `${Math.round(rate)} /min`, "from the median RR interval"),
    fact("Beats", countsText(answer), leftOutText(answer)),
    fact("Readable", percent(answer.readable_fraction), `of ${clock(answer.analyzed_s)} analysed`),
    fact("Lead", answer.lead, answer.lead_validated ? "the lead of training" : "NOT validated"),
    released,
    ...(source ? [fact("Source", source, answer.start ?? "", "source")] : []),
  );
}

export function showWarning(into, answer) {
  const sentences = [];
  if (!answer.lead_validated) sentences.push(answer.lead_note);
  if (answer.release.synthetic) sentences.push("This model learned from synthetic ECG: its labels only show that the software runs.");
  into.textContent = sentences.join(" ");
  into.hidden = !sentences.length;
}

export function showLegend(into) {
  const marks = [...Object.entries(LABELS), ...[INCONCLUSIVE, UNREADABLE].map((mark) => [mark.letter, mark])];
  into.replaceChildren(...marks.map(([letter, mark]) => legendItem(letter, mark)), ...[
    element("span", `hollow: probability under ${percent(SURE)}`),
    element("span", "hatched: cannot be read"),
  ]);
}

// Returns how many beats were left out of the table.
export function showBeats(into, beats, all, lookAt) {
  const listed = beats.filter((beat) => all || isEctopic(beat) || beat.inconclusive || !beat.readable);
  into.replaceChildren(...listed.slice(0, MAX_ROWS).map((beat) => beatRow(beat, lookAt)));
  return Math.max(0, listed.length - MAX_ROWS);
}

function fact(title, value, note, kind = "") {
  const made = element("div", "", { class: `fact ${kind}`.trim() });
  made.append(element("h3", title), element("p", value), element("small", note));
  return made;
}

function countsText(answer) {
  return Object.entries(answer.counts).map(([label, count]) => `${label} ${count}`).join(" · ");
}

function leftOutText({ num_inconclusive_beats: unsure, num_unreadable_beats: unread }) {
  const notRead = unread ? `${unread} more in seconds that cannot be read` : "none in seconds that cannot be read";
  return unsure ? `${unsure} more inconclusive · ${notRead}` : notRead;
}

function legendItem(letter, mark) {
  const made = element("span");
  const canvas = element("canvas", "", { "aria-hidden": "true" });
  drawMark(fitted(canvas, 18, 18), 9, 9, 6, mark);
  made.append(canvas, element("b", letter), element("span", mark.meaning));
  return made;
}

function beatRow(beat, lookAt) {
  const row = element("tr", "", rowAttributes(beat));
  const time = element("button", clock(beat.time_s, 2), { type: "button" });
  time.addEventListener("click", () => lookAt(beat.time_s));
  const cell = element("td");
  cell.append(time);
  const others = Object.entries(beat.probabilities).filter(([label]) => label !== beat.label)
    .map(([label, share]) => `${label} ${percent(share)}`.replaceAll(" ", "\u00a0")).join(" · ");
  row.append(cell,
    element("td", labelText(beat), { class: "label" }),
    element("td", percent(beat.probability)),
    element("td", others),
    element("td", beat.readable ? "readable" : "cannot be read"));
  return row;
}

function rowAttributes(beat) {
  if (isInconclusive(beat)) return { class: "unsure" };
  return beat.readable ? {} : { class: "unread" };
}

function labelText(beat) {
  if (isInconclusive(beat)) return `inconclusive (${beat.label}\u00a0${percent(beat.probability)})`;
  return beat.readable ? beat.label : `${letterOf(beat)} (${beat.label})`;
}

function percent(share) {
  if (share > 0.995 && share < 1) return "> 99 %";
  if (share > 0 && share < 0.005) return "< 1 %";
  return `${Math.round(100 * share)} %`;
}
