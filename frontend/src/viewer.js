// One or two films on cornerstone3D, drawn by the processor: the same pixels on every machine, whatever its graphics.
import * as core from "@cornerstonejs/core";
import * as tools from "@cornerstonejs/tools";
import { ends } from "./greys.js";
import { Regions } from "./regions.js";
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
   * @param {HTMLElement} pane  @param {(viewer: Viewer) => void} drawn  @param {(viewer: Viewer) => void} changed  told when
   * the reader changed window, zoom or place  @param {(text: string) => void} say
   */
  constructor(name, pane, drawn, changed, say) {
    start();
    Object.assign(this, { name, pane, film: null, key: null, rotation: 0, inverted: false, named: "auto", fitted: true, told: 0 });
    this.changed = () => !this.told && this.film && changed(this);
    this.ruler = new Ruler(this, say);
    this.place = pane.querySelector(".canvas");
    this.regions = new Regions(pane);
    engine.enableElement({ viewportId: name, element: this.place, type: core.Enums.ViewportType.STACK });
    this.port = engine.getViewport(name);
    this.group = tools.ToolGroupManager.createToolGroup(name);
    for (const tool of Object.values(TOOLS)) this.group.addTool(tool.toolName);
    this.group.addViewport(name, "room");
    this.use("window");
    this.place.addEventListener(core.Enums.Events.IMAGE_RENDERED, () => {
      this.lay();
      drawn(this);
    });
    this.place.addEventListener(core.Enums.Events.VOI_MODIFIED, () => {
      if (!this.film || this.told) return;
      this.named = CUSTOM;
      this.changed();
    });
    this.place.addEventListener(core.Enums.Events.CAMERA_MODIFIED, () => {
      if (!this.film || this.told) return;
      this.fitted = false;
      this.changed();
    });
    this.place.addEventListener("dblclick", () => this.film && this.fit());
    this.place.addEventListener(tools.Enums.Events.TOUCH_PRESS, ({ detail }) => this.film && this.magnifyAt(detail));
    this.lines = ({ detail }) => {
      if (!this.film || detail.annotation.metadata.referencedImageId !== this.key) return;
      drawn(this);
      this.changed();
    };
    core.eventTarget.addEventListener(tools.Enums.Events.ANNOTATION_MODIFIED, this.lines);
    this.sizes = new ResizeObserver(() => {
      if (!this.film || !this.seen) return;
      this.silently(() => engine.resize(true, true));
      if (this.fitted) this.fit();
    });
    this.sizes.observe(this.place);
  }

  /** What is done in it is not told as a change: this page did it, not the reader. */
  silently(work) {
    this.told += 1;
    try {
      return work();
    } finally {
      this.told -= 1;
    }
  }

  /** Show a film as it was left, or fitted and in its automatic window. */
  async show(id, film, view) {
    const before = this.key;
    const key = `${SCHEME}:${this.name}:${id}`;
    films.set(key, film);
    Object.assign(this, { film, key, rotation: 0, inverted: false });
    this.ruler.line = null;
    this.told += 1;
    try {
      await this.port.setStack([key]);
      if (before && before !== this.key) forget(before);
      if (this.key !== key) return; // another was asked for in the meantime
      this.reset();
      if (view) this.view = view;
    } finally {
      this.told -= 1;
    }
  }

  reset() {
    Object.assign(this, { rotation: 0, inverted: false });
    this.port.setProperties({ invert: false });
    this.port.setViewPresentation({ rotation: 0 });
    this.preset("auto");
    this.fit();
  }

  /** How the film is seen, so that it can be seen so again, or another beside it. */
  get view() {
    const { rotation, inverted, named, fitted } = this;
    return { window: this.window, named, fitted, rotation, inverted, ...this.spot, rulers: this.ruler.ends };
  }

  set view({ window, named, fitted, rotation, inverted, zoom, centre, rulers }) {
    this.silently(() => {
      if (inverted !== this.inverted) this.invert();
      if (rotation !== this.rotation) {
        this.rotation = rotation;
        this.port.setViewPresentation({ rotation });
      }
      this.setWindow(...window);
      this.named = named;
      if (fitted) this.fit();
      else this.goTo(zoom, centre);
      this.ruler.ends = rulers;
    });
  }

  /** Zoom against a fitted film, and what part of the film lies in the middle of the pane. */
  get spot() {
    const { clientWidth, clientHeight } = this.place;
    const [a, b, c, d, e, f] = this.matrix;
    const [x, y] = [clientWidth / 2 - e, clientHeight / 2 - f];
    const area = a * d - b * c;
    return { zoom: this.scale / this.fitScale, centre: [(d * x - c * y) / area, (a * y - b * x) / area] };
  }

  /** Pixels of the page for one of the film, as it is and as it would be if the whole film were shown. */
  get scale() {
    const [a, b] = this.matrix;
    return Math.hypot(a, b) / this.film.columns;
  }

  get fitScale() {
    const { rows, columns } = this.film;
    const [across, down] = this.rotation % 180 ? [rows, columns] : [columns, rows];
    return Math.min(this.place.clientWidth / across, this.place.clientHeight / down);
  }

  goTo(zoom, [across, down]) {
    this.silently(() => {
      this.zoom((zoom * this.fitScale) / this.scale);
      this.port.setCamera({
        focalPoint: core.utilities.imageToWorldCoords(this.key, [across * this.film.columns, down * this.film.rows]),
      });
      this.fitted = false;
      this.port.render();
    });
  }

  /** Be seen as another viewer is: same window, zoom and place. */
  follow(other) {
    if (other.fitted) this.silently(() => this.fit());
    else this.goTo(other.spot.zoom, other.spot.centre);
    this.setWindow(...other.window);
    this.named = other.named;
  }

  use(name) {
    this.using = name;
    const getTextLines = (data) => {
      const line = this.ruler.lines.find((one) => one.data === data);
      return line && !data.calliper ? [this.ruler.length(line)] : [];
    };
    this.group.setToolConfiguration(TOOLS.ruler.toolName, { getTextLines });
    const magnifySize = (MAGNIFIED * this.place.clientHeight) / GLASS_PX;
    this.group.setToolConfiguration(TOOLS.magnify.toolName, { magnifySize, magnifyWidth: GLASS_PX, magnifyHeight: GLASS_PX });
    for (const tool of Object.values(TOOLS)) this.group.setToolPassive(tool.toolName);
    const bind = (tool, ...bindings) => this.group.setToolActive(TOOLS[tool].toolName, { bindings });
    const primary = { mouseButton: Primary };
    const of = { pan: [{ mouseButton: Auxiliary }], zoom: [{ mouseButton: Secondary }, { mouseButton: Wheel }, { numTouchPoints: 2 }] };
    for (const tool of Object.keys(of)) bind(tool, ...of[tool], ...(tool === name ? [primary] : []));
    if (!of[name]) bind(name, primary);
  }

  /** A finger that rests on the film is a magnifier until it is lifted, whatever dragging does else. */
  magnifyAt({ element, startPoints, lastPointsList }) {
    if (lastPointsList.length > 1 || ["magnify", "ruler"].includes(this.using)) return;
    const name = this.using;
    this.use("magnify");
    const glass = this.group.getToolInstance(TOOLS.magnify.toolName);
    glass.preTouchStartCallback({ type: tools.Enums.Events.TOUCH_START, detail: { element, currentPoints: startPoints }, preventDefault() {} });
    const lifted = () => {
      for (const kind of ["touchend", "touchcancel"]) document.removeEventListener(kind, lifted);
      this.use(name);
    };
    for (const kind of ["touchend", "touchcancel"]) document.addEventListener(kind, lifted);
  }

  /** Low and high end of the window, as shares of the full range. */
  get window() {
    const { lower, upper } = this.port.getProperties().voiRange;
    const full = 2 ** this.film.bits - 1;
    return [lower / full, upper / full];
  }

  setWindow(low, high) {
    const full = 2 ** this.film.bits - 1;
    this.silently(() => this.port.setProperties({ voiRange: { lower: low * full, upper: Math.max(high, low + 0.002) * full } }));
    this.named = CUSTOM;
    this.port.render();
  }

  preset(name) {
    this.setWindow(...ends(this.film, name));
    this.named = name;
    this.changed();
  }

  widen(level, width) {
    const [low, high] = this.window;
    const middle = (low + high) / 2 + level;
    const half = Math.max(0.004, ((high - low) / 2) * width);
    this.setWindow(middle - half, middle + half);
    this.changed();
  }

  invert() {
    this.inverted = !this.inverted;
    this.silently(() => this.port.setProperties({ invert: this.inverted }));
    this.port.render();
    this.changed();
  }

  rotate() {
    this.rotation = (this.rotation + 90) % 360;
    this.silently(() => this.port.setViewPresentation({ rotation: this.rotation }));
    this.port.render();
    this.changed();
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
    this.silently(() => {
      this.port.resetCamera({ resetPan: true, resetZoom: true, resetToCenter: true });
      if (this.rotation) this.port.setViewPresentation({ rotation: this.rotation });
    });
    this.fitted = true;
    this.port.render();
    this.changed();
  }

  /** A pixel of the film for each of the screen. */
  actual() {
    this.zoom(1 / (this.scale * (window.devicePixelRatio || 1)));
  }

  /** Outline regions of findings on the film; none takes them away. */
  mark(regions) {
    this.regions.show(regions);
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

  /** Whether it has any place on the page. */
  get seen() {
    return this.place.clientWidth > 0 && this.place.clientHeight > 0;
  }

  lay() {
    if (this.film && this.seen) this.regions.lay(this.matrix);
  }

  close() {
    this.sizes.disconnect();
    core.eventTarget.removeEventListener(tools.Enums.Events.ANNOTATION_MODIFIED, this.lines);
    tools.ToolGroupManager.destroyToolGroup(this.name);
    engine.disableElement(this.name);
    if (this.key) forget(this.key);
    this.film = null;
  }
}
