// Rulers on a film, and how one is laid from the keyboard: Enter sets its ends, arrow keys move them.
import { utilities } from "@cornerstonejs/core";
import { LengthTool, annotation } from "@cornerstonejs/tools";
import { words } from "./words.js";

const STEP = 10;

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
    return words.millimetres(Math.hypot(...from.map((at, k) => at - to[k])));
  }

  /** The ends of all lines, in pixels of the film. */
  get ends() {
    return this.lines.map((line) => line.data.handles.points.map((point) => [...utilities.worldToImageCoords(this.viewer.key, point)]));
  }

  set ends(lines) {
    const { port, key } = this.viewer;
    for (const line of lines ?? []) {
      const points = line.map((point) => utilities.imageToWorldCoords(key, point));
      const made = LengthTool.createAnnotationForViewport(port, { data: { handles: { points } } });
      annotation.state.addAnnotation(made, port.element);
    }
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
