// The film as it is seen, with its regions and rulers, and lines below that say what it is.

const STRIP = 18;

export function picture(viewer, caption) {
  const seen = viewer.place.querySelector("canvas");
  const ratio = seen.width / seen.clientWidth;
  const sheet = new OffscreenCanvas(seen.width, seen.height + (8 + STRIP * caption.length) * ratio);
  const pen = sheet.getContext("2d");
  pen.fillStyle = "#000";
  pen.fillRect(0, 0, sheet.width, sheet.height);
  pen.drawImage(seen, 0, 0);
  pen.save();
  pen.beginPath();
  pen.rect(0, 0, seen.width, seen.height);
  pen.clip();
  drawRegions(pen, viewer, ratio);
  for (const line of viewer.ruler.lines) drawRuler(pen, viewer, line, ratio);
  pen.restore();
  pen.fillStyle = "#fff";
  pen.font = `${13 * ratio}px sans-serif`;
  caption.forEach((line, k) => pen.fillText(line, 8 * ratio, seen.height + STRIP * (k + 1) * ratio, sheet.width - 16 * ratio));
  return sheet.convertToBlob({ type: "image/png" });
}

function drawRegions(pen, viewer, ratio) {
  const matrix = new DOMMatrix(viewer.matrix.map((number) => number * ratio));
  const lines = viewer.regions.group.querySelectorAll("path.line");
  viewer.regions.all.forEach((region, k) => {
    const path = new Path2D();
    path.addPath(new Path2D(lines[k].getAttribute("d")), matrix);
    stroke(pen, path, ratio, region.dashed);
  });
  pen.font = `600 ${12.5 * ratio}px sans-serif`;
  for (const { label, at } of viewer.regions.all) {
    const [left, top, width, height] = at.map((number) => number * ratio);
    pen.fillStyle = "#000b";
    pen.fillRect(left, top, width, height);
    pen.fillStyle = "#fff";
    pen.fillText(label, left + 5 * ratio, top + height - 5 * ratio, width - 8 * ratio);
  }
}

function drawRuler(pen, viewer, line, ratio) {
  const [from, to] = line.data.handles.points.map((point) => viewer.port.worldToCanvas(point).map((at) => at * ratio));
  const path = new Path2D();
  path.moveTo(...from);
  path.lineTo(...to);
  stroke(pen, path, ratio);
  if (line.data.calliper) return;
  pen.font = `bold ${13 * ratio}px sans-serif`;
  pen.lineWidth = 3 * ratio;
  pen.strokeStyle = "#000";
  pen.fillStyle = "#fff";
  for (const draw of ["strokeText", "fillText"]) pen[draw](viewer.ruler.length(line), to[0] + 8 * ratio, to[1] - 6 * ratio);
}

function stroke(pen, path, ratio, dashed = false) {
  for (const [width, colour] of [[3.5, "#000"], [1.5, "#ffd75e"]]) {
    pen.lineWidth = width * ratio;
    pen.strokeStyle = colour;
    pen.setLineDash(dashed ? [7 * ratio, 5 * ratio] : []);
    pen.stroke(path);
  }
}
