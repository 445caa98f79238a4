// Joins the parts: open a strip, have it analysed, show what came back.

import { analyze, getExample, listExamples } from "./api.js";
import { readStrip } from "./reader.js";
import { showBeats, showFacts, showLegend, showWarning, element } from "./report.js";
import { clock } from "./paper.js";
import { View } from "./view.js";

const at = (id) => document.getElementById(id);
const view = new View(at("paper"), at("overview"), at("window"));
let shown = null;
let latest = 0;

function say(text, fault = false) {
  at("status").textContent = text;
  at("status").classList.toggle("fault", fault);
}

// Runs one opening at a time: an answer that was overtaken by a later opening is dropped.
async function open(name, obtain) {
  const turn = ++latest;
  say(`Opening ${name}…`);
  try {
    const { request, source } = await obtain();
    say(`Analysing ${name}…`);
    const answer = await analyze(request);
    if (turn === latest) show(request, answer, source, name);
  } catch (fault) {
    if (turn !== latest) return;
    at("report").hidden = true;
    at("warning").hidden = true;
    say(fault.message, true);
  }
}

function show(request, answer, source, name) {
  shown = answer;
  at("report").hidden = false;
  showFacts(at("facts"), answer, source);
  showWarning(at("warning"), answer);
  at("scale-lead").textContent = `Lead ${answer.lead}.`;
  view.show({ ...answer, ecg_mv: request.ecg_mv, duration_s: answer.analyzed_s });
  listBeats();
  say(`${name}: ${answer.beats_note || `${answer.beats.length} beats.`}`);
}

function listBeats() {
  const left = showBeats(at("beats"), shown.beats, at("all-beats").checked, (timeS) => view.lookAt(timeS));
  const listed = at("beats").childElementCount;
  const none = shown.beats_note || "No beat was labelled ectopic.";
  at("beats-note").textContent = left ? `${left} more are not listed; the API gives all.` : listed ? "" : none;
}

function openExample(name) {
  return open(at("example").selectedOptions[0].textContent, async () => {
    const example = await getExample(name, at("example-seconds").value, at("example-start").value);
    const { ecg_mv, fs_hz, lead } = example;
    return { request: { ecg_mv, fs_hz, lead }, source: `${example.source}, from ${clock(example.start_s)}` };
  });
}

function openText(name, text) {
  return open(name, async () => readStrip(text, at("lead").value, at("fs").valueAsNumber));
}

async function openFile(file) {
  if (file) await openText(file.name, await file.text());
}

at("open").addEventListener("submit", (event) => {
  event.preventDefault();
  openExample(at("example").value);
});
at("file").addEventListener("change", (event) => openFile(event.target.files[0]).then(() => { event.target.value = ""; }));
at("all-beats").addEventListener("change", listBeats);
at("next").addEventListener("click", () => view.step(1));
at("previous").addEventListener("click", () => view.step(-1));

document.addEventListener("dragover", (event) => { event.preventDefault(); at("open").classList.add("dropping"); });
document.addEventListener("dragleave", () => at("open").classList.remove("dropping"));
document.addEventListener("drop", (event) => {
  event.preventDefault();
  at("open").classList.remove("dropping");
  openFile(event.dataTransfer.files[0]);
});
document.addEventListener("paste", (event) => {
  if (event.target.tagName === "INPUT") return;
  openText("pasted text", event.clipboardData.getData("text"));
});

async function start() {
  showLegend(at("legend"));
  const { examples, synthetic } = await listExamples();
  at("example").replaceChildren(...examples.map((name) => element("option", synthetic ? `${name} (synthetic)` : `record ${name}`, { value: name })));
  const asked = new URLSearchParams(location.search);
  if (asked.has("seconds")) at("example-seconds").value = asked.get("seconds");
  if (asked.has("start_s")) at("example-start").value = asked.get("start_s");
  const wanted = asked.get("example");
  if (wanted && !examples.includes(wanted)) return say(`There is no example “${wanted}” here; choose one above.`, true);
  if (wanted) at("example").value = wanted;
  await openExample(at("example").value);
}

start().catch((fault) => say(fault.message, true));
