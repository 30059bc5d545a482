// Rulers on a film, and how one is laid from the keyboard: Enter sets its ends, arrow keys move them.
import { utilities } from "@cornerstonejs/core";
import { LengthTool, annotation } from "@cornerstonejs/tools";
import { words } from "./words.js";

const STEP = 10;
const RATIO = { heart: "heart", chest: "chest" };
const LAID = { heart: [[0.36, 0.62], [0.64, 0.62]], chest: [[0.15, 0.7], [0.85, 0.7]] }; // where callipers lie at first, of the film
const [LEAST_MM, MOST_MM] = [150, 600]; // what a chest film is wide

export class Ruler {
  /** @param {(text: string) => void} say  told what a reader who cannot see the line must know */
  constructor(viewer, say) {
    Object.assign(this, { viewer, say, line: null, moving: [] });
  }

  /** All lines on the film that is shown. */
  get lines() {
    const { key } = this.viewer;
    return annotation.state.getAllAnnotations().filter((one) => one.metadata.referencedImageId === key);
  }

  length(line) {
    const [from, to] = line.data.handles.points;
    const { film } = this.viewer;
    const length = Math.hypot(...from.map((at, k) => at - to[k]));
    if (!film.spacing) return words.pixels(length);
    const said = words.millimetres(length, film.detector);
    const width = film.columns * film.spacing[1];
    return width < LEAST_MM || width > MOST_MM ? words.doubtful(said) : said;
  }

  /** Heart over chest, as the two callipers have it; null without both. */
  get ratio() {
    const [heart, chest] = [RATIO.heart, RATIO.chest].map((name) => this.lines.find((line) => line.data.calliper === name));
    if (!heart || !chest) return null;
    const across = ({ data }) => Math.abs(utilities.worldToImageCoords(this.viewer.key, data.handles.points[0])[0] - utilities.worldToImageCoords(this.viewer.key, data.handles.points[1])[0]);
    return across(chest) > 0 ? across(heart) / across(chest) : null;
  }

  /** Whether the reader moved both callipers: before, their ratio is of no film. */
  get placed() {
    const { columns, rows } = this.viewer.film;
    const moved = ({ line, calliper }) => line.some(([x, y], k) => Math.hypot(x - LAID[calliper][k][0] * columns, y - LAID[calliper][k][1] * rows) > 1);
    const callipers = this.ends.filter(({ calliper }) => calliper);
    return callipers.length > 0 && callipers.every(moved);
  }

  /** Lay two callipers to be dragged, or take them away. */
  measureRatio() {
    const there = this.lines.filter((line) => line.data.calliper);
    for (const line of there) annotation.state.removeAnnotation(line.annotationUID);
    if (!there.length) {
      const { columns, rows } = this.viewer.film;
      for (const name of Object.values(RATIO)) this.add(LAID[name].map(([across, down]) => [across * columns, down * rows]), name);
      this.say(words.ratioHint);
    }
    this.draw();
  }

  add(line, calliper) {
    const { port, key } = this.viewer;
    const points = line.map((point) => utilities.imageToWorldCoords(key, point));
    const made = LengthTool.createAnnotationForViewport(port, { data: { handles: { points } } });
    if (calliper) made.data.calliper = calliper;
    annotation.state.addAnnotation(made, port.element);
  }

  /** The ends of all lines, in pixels of the film. */
  get ends() {
    const { key } = this.viewer;
    return this.lines.map(({ data }) => ({ line: data.handles.points.map((point) => [...utilities.worldToImageCoords(key, point)]), calliper: data.calliper }));
  }

  set ends(lines) {
    for (const { line, calliper } of lines ?? []) this.add(line, calliper);
    if (lines?.length) this.draw();
  }

  enter() {
    const { port } = this.viewer;
    if (!this.line) {
      const centre = port.canvasToWorld([port.element.clientWidth / 2, port.element.clientHeight / 2]);
      this.line = LengthTool.createAnnotationForViewport(port, { data: { handles: { points: [centre, [...centre]] } } });
      annotation.state.addAnnotation(this.line, port.element);
      this.moving = [0, 1];
      this.say(words.rulerStart);
    } else if (this.moving.length === 2) {
      this.moving = [1];
      this.say(words.rulerEnd);
    } else {
      this.say(words.rulerSet(this.length(this.line)));
      this.line.data.handles.activeHandleIndex = null;
      this.line = null;
    }
    if (this.line) this.line.data.handles.activeHandleIndex = this.moving[0];
    this.draw();
  }

  move(across, down, finely) {
    const { port } = this.viewer;
    const { points } = this.line.data.handles;
    const step = finely ? 1 : STEP;
    for (const k of this.moving) {
      const [x, y] = port.worldToCanvas(points[k]);
      points[k] = port.canvasToWorld([x + across * step, y + down * step]);
    }
    this.line.data.cachedStats = {}; // else its text would be late
    if (this.moving.length === 1) this.say(this.length(this.line));
    this.draw();
  }

  /** Take the line away that is being laid, or else the last one. */
  remove() {
    const last = this.line ?? this.lines.at(-1);
    if (!last) return;
    annotation.state.removeAnnotation(last.annotationUID);
    this.line = null;
    this.say(words.rulerGone);
    this.draw();
  }

  draw() {
    this.viewer.port.render();
  }
}
