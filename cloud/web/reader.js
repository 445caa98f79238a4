// A strip from text: JSON as the API takes it, or CSV of one column (mV) or two (seconds, mV).

export function readStrip(text, lead, fsHz) {
  return text.trimStart().startsWith("{") ? fromJson(text) : fromCsv(text, lead, fsHz);
}

function fromJson(text) {
  let parsed;
  try {
    parsed = JSON.parse(text);
  } catch (fault) {
    throw new Error(`The file is no JSON: ${fault.message}`);
  }
  const { ecg_mv, fs_hz, lead, start, source } = parsed;
  if (!Array.isArray(ecg_mv)) throw new Error("The JSON has no list “ecg_mv”.");
  return { request: { ecg_mv, fs_hz, lead, ...(start ? { start } : {}) }, source: source ?? "" };
}

function fromCsv(text, lead, fsHz) {
  const lines = text.split(/\r?\n/).filter((line) => line.trim() && !line.startsWith("#"));
  const rows = lines.map((line) => line.split(/[,;\t]/).map(Number));
  if (rows.length && rows[0].some(Number.isNaN)) rows.shift(); // column names
  const bad = rows.findIndex((row) => row.length > 2 || row.some(Number.isNaN) || row.length !== rows[0].length);
  if (!rows.length || bad >= 0) {
    const place = rows.length ? `, for example in data row ${bad + 1}` : "";
    throw new Error(`The CSV must have one column (mV) or two (seconds, mV)${place}.`);
  }
  const timed = rows[0].length === 2;
  const rate = timed ? (rows.length - 1) / (rows.at(-1)[0] - rows[0][0]) : fsHz;
  return { request: { ecg_mv: rows.map((row) => row.at(-1)), fs_hz: Math.round(rate * 1000) / 1000, lead }, source: "" };
}
