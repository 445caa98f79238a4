// The requests this page makes; a refusal becomes an Error with the server's sentence.

export async function listExamples() {
  return answered(await fetch("/v1/examples"));
}

export async function getExample(name, seconds, startS) {
  const query = new URLSearchParams({ seconds, ...(startS === "" ? {} : { start_s: startS }) });
  return answered(await fetch(`/v1/examples/${encodeURIComponent(name)}?${query}`));
}

export async function analyze(request) {
  return answered(await fetch("/v1/ecg/analyze", {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(request),
  }));
}

async function answered(response) {
  const body = await response.json().catch(() => ({}));
  if (!response.ok) throw new Error(body.error?.message ?? `The server answers ${response.status}.`);
  return body;
}
