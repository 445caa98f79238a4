// Shows /openapi.json as a list of routes: works offline, where FastAPI's own page needs a CDN.

import { element } from "./report.js";

const document_ = await (await fetch("/openapi.json")).json();

for (const [path, methods] of Object.entries(document_.paths)) {
  for (const [method, route] of Object.entries(methods)) {
    const made = element("section", "", { class: "route" });
    made.append(element("code", `${method.toUpperCase()} ${path}`), element("p", route.description ?? route.summary));
    for (const { name, in: place, description } of route.parameters ?? []) {
      made.append(element("p", `${name} (${place}) ${description ?? ""}`, { class: "hint" }));
    }
    const schema = route.requestBody?.content["application/json"]?.schema;
    if (schema) made.append(element("pre", JSON.stringify(schema, null, 1)));
    document.getElementById("routes").append(made);
  }
}
