// Judges custom resources by what their makers publish: node custom_resources.mjs FOLDER < documents.json
// FOLDER holds node_modules. The published validators take fields that nobody knows; its types do not.
import { execFileSync } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { pathToFileURL } from "node:url";

const PACKAGES = { "keda.sh": "keda", "monitoring.coreos.com": "prometheus-operator" };
const folder = process.argv[2];
const documents = JSON.parse(readFileSync(0, "utf-8"));
let faults = 0;
let program = "";

for (const [index, document] of documents.entries()) {
  const name = `${document.kind} ${document.metadata.name}`;
  const module = `@kubernetes-models/${PACKAGES[document.apiVersion.split("/")[0]]}/${document.apiVersion}/${document.kind}`;
  const file = pathToFileURL(join(folder, "node_modules", `${module}.js`));
  const { [document.kind]: Kind } = await import(file);
  try {
    new Kind(document).validate();
  } catch (error) {
    console.error(`${name}: ${error.message}`);
    faults += 1;
  }
  program += `import type { I${document.kind} as K${index} } from "${module}";\n`;
  program += `export const r${index}: K${index} = ${JSON.stringify(document, null, 1)};\n`;
}

writeFileSync(join(folder, "resources.mts"), program);
try {
  const options = ["--noEmit", "--strict", "--skipLibCheck", "--module", "nodenext", "resources.mts"];
  execFileSync(join("node_modules", ".bin", "tsc"), options, { cwd: folder, encoding: "utf-8" });
} catch (error) {
  console.error(error.stdout);
  faults += 1;
}
process.exit(faults ? 1 : 0);
