// Bundles the page into the package. The viewer and the unpacker are files of their own, fetched when they are wanted.
import { build } from "esbuild";
import { words } from "./src/words.js";
import { copyFileSync, existsSync, mkdirSync, readFileSync, readdirSync, rmSync, writeFileSync } from "node:fs";

const out = "../src/hilum/serve/static";
rmSync(out, { recursive: true, force: true });
mkdirSync(out, { recursive: true });

const CSS_SIDES = "const { clientWidth, clientHeight } = canvas;";
const SCREEN_SIDES = "const [clientWidth, clientHeight] = [canvas.clientWidth, canvas.clientHeight].map((side) => Math.round(side * (window.devicePixelRatio || 1)));";
// Where the viewer's library needs mending: file, what it says, what it must say. The build fails when it says something else.
const MENDED = [
  // The ruler's text sets its style as an attribute, which the page's policy forbids; as a property it may.
  ["drawTextBox.js", "textElement.setAttribute('style', combinedStyle)", "textElement.style.cssText = combinedStyle"],
  // Drawn by the processor, a film is in pixels of the screen, of which a fine screen has several to one of the page.
  ["StackViewport.js", "const { clientHeight } = this.element;\n        if (focalPoint)", "const clientHeight = this.canvas.height;\n        if (focalPoint)"],
  ["rendering/resize.js", CSS_SIDES, SCREEN_SIDES],
  ["BaseRenderingEngine.js", CSS_SIDES, SCREEN_SIDES],
  // The processor draws no other than linear windows, and refuses to be told of any.
  ["MagnifyTool.js", "magnifyViewport.setProperties(viewportProperties);", "magnifyViewport.setProperties({ ...viewportProperties, VOILUTFunction: undefined });"],
  // The magnifier may be moved before its film has come.
  ["MagnifyTool.js", "const { focalPoint, position } = magnifyViewport.getCamera();", "this.editData.currentPoints = currentPoints;\n            const { focalPoint, position } = magnifyViewport.getCamera();\n            if (!focalPoint) return;"],
  ["MagnifyTool.js", "const updatedFocalPoint = [\n                    worldPos[0],\n                    worldPos[1],\n                    worldPos[2],\n                ];", "const updatedFocalPoint = [...this.editData.currentPoints.world];"],
];
const mend = {
  name: "mend",
  setup(building) {
    building.onLoad({ filter: /cornerstonejs.*(drawTextBox|StackViewport|MagnifyTool|BaseRenderingEngine|rendering\/resize)\.js$/ }, ({ path }) => {
      let contents = readFileSync(path, "utf8");
      for (const [file, before, after] of MENDED.filter(([file]) => path.endsWith(`/${file}`))) {
        if (!contents.includes(before)) throw new Error(`${file} has changed: look whether it still needs this: ${after}`);
        contents = contents.replace(before, after);
      }
      return { contents };
    });
  },
};
const { metafile } = await build({
  metafile: true,
  plugins: [mend],
  entryPoints: ["src/main.js"],
  bundle: true,
  splitting: true,
  minify: true,
  format: "esm",
  target: "es2022",
  legalComments: "eof",
  chunkNames: "[name]-[hash]",
  outdir: out,
});
for (const file of ["style.css", "icon.svg"]) copyFileSync(`src/${file}`, `${out}/${file}`);
const page = readFileSync("src/index.html", "utf8").replaceAll(/\{\{(\w+)\}\}/g, (_, key) => {
  if (typeof words[key] !== "string") throw new Error(`words.js must have ${key}, which index.html shows`);
  return words[key].replaceAll("&", "&amp;").replaceAll('"', "&quot;").replaceAll("<", "&lt;");
});
writeFileSync(`${out}/index.html`, page);

// The licences of all that went in, as they ask for.
const packages = new Set(Object.keys(metafile.inputs).flatMap((file) => file.match(/^node_modules\/((?:@[^/]+\/)?[^/]+)/)?.[1] ?? []));
const licences = [...packages].sort().map((name) => {
  const folder = `node_modules/${name}`;
  const { version, license, author } = JSON.parse(readFileSync(`${folder}/package.json`, "utf8"));
  const file = readdirSync(folder).find((one) => /^licen[cs]e/i.test(one));
  const text = file && existsSync(`${folder}/${file}`) ? readFileSync(`${folder}/${file}`, "utf8").trim() : `${license}, ${author?.name ?? author ?? "its authors"}`;
  return `${name} ${version} (${license})\n\n${text}\n`;
});
writeFileSync(`${out}/licences.txt`, licences.join(`\n${"-".repeat(80)}\n\n`));
