// One or two films on cornerstone3D, drawn by the processor: the same pixels on every machine, whatever its graphics.
import * as core from "@cornerstonejs/core";
import * as tools from "@cornerstonejs/tools";
import { Ruler } from "./ruler.js";

const SCHEME = "film";
const { Primary, Secondary, Auxiliary, Wheel } = tools.Enums.MouseBindings;
const TOOLS = {
  window: tools.WindowLevelTool,
  pan: tools.PanTool,
  zoom: tools.ZoomTool,
  magnify: tools.MagnifyTool,
  ruler: tools.LengthTool,
};
const MAGNIFIED = 2.5;
const GLASS_PX = 220;
const CUSTOM = "custom";
const films = new Map();
let engine = null;

function start() {
  if (engine) return;
  core.init({ rendering: { useCPURendering: true } });
  core.setUseCPURendering(true);
  tools.init();
  for (const tool of Object.values(TOOLS)) tools.addTool(tool);
  core.imageLoader.registerImageLoader(SCHEME, (id) => ({ promise: Promise.resolve(image(id)) }));
  core.metaData.addProvider(metadata, 10000);
  engine = new core.RenderingEngine("room");
}

function image(id) {
  const film = films.get(id);
  const full = 2 ** film.bits - 1;
  return {
    imageId: id, minPixelValue: 0, maxPixelValue: full, slope: 1, intercept: 0,
    windowCenter: [(full + 1) / 2], windowWidth: [full + 1], voiLUTFunction: "LINEAR",
    getPixelData: () => film.greys, rows: film.rows, columns: film.columns, height: film.rows, width: film.columns,
    color: false, rgba: false, numberOfComponents: 1, invert: false, photometricInterpretation: "MONOCHROME2",
    rowPixelSpacing: film.spacing?.[0] ?? 1, columnPixelSpacing: film.spacing?.[1] ?? 1,
    sizeInBytes: film.greys.byteLength, dataType: film.bits === 8 ? "Uint8Array" : "Uint16Array",
    voxelManager: core.utilities.VoxelManager.createImageVoxelManager({
      width: film.columns, height: film.rows, scalarData: film.greys, numberOfComponents: 1, id,
    }),
  };
}

function metadata(type, id) {
  const film = films.get(id);
  if (!film) return undefined;
  const rowPixelSpacing = film.spacing?.[0] ?? 1;
  const columnPixelSpacing = film.spacing?.[1] ?? 1;
  if (type === "imagePlaneModule") {
    return {
      frameOfReferenceUID: id, rows: film.rows, columns: film.columns, imagePositionPatient: [0, 0, 0],
      imageOrientationPatient: [1, 0, 0, 0, 1, 0], rowCosines: [1, 0, 0], columnCosines: [0, 1, 0],
      rowPixelSpacing, columnPixelSpacing, pixelSpacing: [rowPixelSpacing, columnPixelSpacing],
    };
  }
  if (type === "imagePixelModule") {
    return {
      pixelRepresentation: 0, bitsAllocated: film.bits, bitsStored: film.bits, highBit: film.bits - 1,
      photometricInterpretation: "MONOCHROME2", samplesPerPixel: 1,
    };
  }
  if (type === "generalSeriesModule") return { modality: "DX", seriesInstanceUID: id };
  if (type === "modalityLutModule") return { rescaleSlope: 1, rescaleIntercept: 0 };
  return undefined;
}

/** The grey below which a share of the pixels lies, as a share of the full range. */
function quantiles(film, shares) {
  const counts = new Uint32Array(2 ** film.bits);
  for (const grey of film.greys) counts[grey] += 1;
  const found = [];
  let below = 0;
  let grey = 0;
  for (const share of shares) {
    while (grey < counts.length - 1 && below + counts[grey] <= share * film.greys.length) below += counts[grey++];
    found.push(grey / (counts.length - 1));
  }
  return found;
}

/** A film that is no longer shown takes no memory, and its rulers are gone. */
function forget(key) {
  films.delete(key);
  for (const line of tools.annotation.state.getAllAnnotations()) {
    if (line.metadata.referencedImageId === key) tools.annotation.state.removeAnnotation(line.annotationUID);
  }
  if (core.cache.getImageLoadObject(key)) core.cache.removeImageLoadObject(key, { force: true });
}

export class Viewer {
  /**
   * @param {HTMLElement} pane  @param {(viewer: Viewer) => void} moved  @param {(low: number, high: number) => void} windowed
   * @param {(text: string) => void} say
   */
  constructor(name, pane, moved, windowed, say) {
    start();
    Object.assign(this, { name, pane, windowed, film: null, key: null, heat: null, rotation: 0, inverted: false, named: "full" });
    this.ruler = new Ruler(this, say);
    this.place = pane.querySelector(".canvas");
    this.layer = pane.querySelector(".heat");
    this.outline = pane.querySelector(".outline");
    engine.enableElement({ viewportId: name, element: this.place, type: core.Enums.ViewportType.STACK });
    this.port = engine.getViewport(name);
    this.group = tools.ToolGroupManager.createToolGroup(name);
    for (const tool of Object.values(TOOLS)) this.group.addTool(tool.toolName);
    this.group.addViewport(name, "room");
    this.use("window");
    this.place.addEventListener(core.Enums.Events.IMAGE_RENDERED, () => {
      this.lay();
      moved(this);
    });
    this.place.addEventListener(core.Enums.Events.VOI_MODIFIED, () => {
      if (!this.film || this.following) return;
      this.named = CUSTOM;
      this.windowed(...this.window);
    });
    this.sizes = new ResizeObserver(() => this.film && engine.resize(true, true));
    this.sizes.observe(this.place);
  }

  /** Show a film, in the window of another or at its full range. */
  async show(id, film, window) {
    const before = this.key;
    const key = `${SCHEME}:${this.name}:${id}`;
    films.set(key, film);
    this.film = film;
    this.key = key;
    this.rotation = 0;
    this.inverted = false;
    this.ruler.line = null;
    await this.port.setStack([key]);
    if (before && before !== this.key) forget(before);
    if (this.key !== key) return; // another was asked for in the meantime
    const [low, high] = window ?? [0, 1];
    this.setWindow(low, high);
    this.named = low === 0 && high === 1 ? "full" : CUSTOM;
    this.fit();
  }

  use(name) {
    const magnifySize = (MAGNIFIED * this.place.clientHeight) / GLASS_PX;
    this.group.setToolConfiguration(TOOLS.magnify.toolName, { magnifySize, magnifyWidth: GLASS_PX, magnifyHeight: GLASS_PX });
    for (const tool of Object.values(TOOLS)) this.group.setToolPassive(tool.toolName);
    const bind = (tool, ...bindings) => this.group.setToolActive(TOOLS[tool].toolName, { bindings });
    const primary = { mouseButton: Primary };
    const of = { pan: [{ mouseButton: Auxiliary }], zoom: [{ mouseButton: Secondary }, { mouseButton: Wheel }, { numTouchPoints: 2 }] };
    for (const tool of Object.keys(of)) bind(tool, ...of[tool], ...(tool === name ? [primary] : []));
    if (!of[name]) bind(name, primary);
  }

  /** Low and high end of the window, as shares of the full range. */
  get window() {
    const { lower, upper } = this.port.getProperties().voiRange;
    const full = 2 ** this.film.bits - 1;
    return [lower / full, upper / full];
  }

  setWindow(low, high) {
    const full = 2 ** this.film.bits - 1;
    this.following = true; // it was told: it need not tell
    this.port.setProperties({ voiRange: { lower: low * full, upper: Math.max(high, low + 0.002) * full } });
    this.following = false;
    this.named = CUSTOM;
    this.port.render();
  }

  preset(name) {
    const ends = { auto: [0.01, 0.99], lungs: [0.02, 0.6], bones: [0.35, 0.999] }[name];
    const [low, high] = ends ? quantiles(this.film, ends) : [0, 1];
    this.setWindow(low, high);
    this.named = name;
    this.windowed(low, high);
  }

  widen(level, width) {
    const [low, high] = this.window;
    const middle = (low + high) / 2 + level;
    const half = Math.max(0.004, ((high - low) / 2) * width);
    this.setWindow(middle - half, middle + half);
    this.windowed(middle - half, middle + half);
  }

  invert() {
    this.inverted = !this.inverted;
    this.port.setProperties({ invert: this.inverted });
    this.port.render();
  }

  rotate() {
    this.rotation = (this.rotation + 90) % 360;
    this.port.setViewPresentation({ rotation: this.rotation });
    this.port.render();
  }

  zoom(times) {
    this.port.setZoom(this.port.getZoom() * times);
    this.port.render();
  }

  pan(across, down) {
    const { clientWidth, clientHeight } = this.place;
    this.port.setCamera({ focalPoint: this.port.canvasToWorld([clientWidth / 2 - across, clientHeight / 2 - down]) });
    this.port.render();
  }

  fit() {
    this.port.resetCamera({ resetPan: true, resetZoom: true, resetToCenter: true });
    if (this.rotation) this.port.setViewPresentation({ rotation: this.rotation });
    this.port.render();
  }

  /** Lay a heatmap over the film, or take it away. */
  overlay(heat, opacity, withOutline) {
    this.heat = heat;
    this.layer.hidden = !heat;
    this.outline.toggleAttribute("hidden", !heat || !withOutline); // an SVG element has no property of that name
    if (!heat) return;
    this.layer.src = `data:image/png;base64,${heat.png}`;
    this.layer.style.opacity = opacity;
    const path = heat.outlines.map((line) => `M${line.map((point) => point.join(" ")).join("L")}Z`).join("");
    for (const one of this.outline.querySelectorAll("path")) one.setAttribute("d", path);
    this.lay();
  }

  /** Where the film's unit square lies in the pane, as a CSS matrix. The library counts from the middle of the first pixel. */
  get matrix() {
    const at = (row, column) => this.port.worldToCanvas(core.utilities.imageToWorldCoords(this.key, [column + 0.5, row + 0.5]));
    const origin = at(0, 0);
    const right = at(0, this.film.columns);
    const below = at(this.film.rows, 0);
    return [right[0] - origin[0], right[1] - origin[1], below[0] - origin[0], below[1] - origin[1], origin[0], origin[1]];
  }

  lay() {
    if (!this.heat) return;
    const matrix = this.matrix;
    const side = 256;
    const scaled = matrix.map((number, k) => (k < 4 ? number / side : number));
    this.layer.style.transform = `matrix(${scaled.join(",")})`;
    this.outline.querySelector("g").setAttribute("transform", `matrix(${matrix.join(" ")})`);
  }

  close() {
    this.sizes.disconnect();
    tools.ToolGroupManager.destroyToolGroup(this.name);
    engine.disableElement(this.name);
    if (this.key) forget(this.key);
  }
}
