// Regions of findings over a film: outlines in an SVG that lies as the film does, and labels beside them.

const SVG = "http://www.w3.org/2000/svg";
const GAP = 2;

function path(region, name) {
  const made = document.createElementNS(SVG, "path");
  made.setAttribute("class", `${name}${region.dashed ? " dashed" : ""}`);
  made.setAttribute("d", region.outlines.map((line) => `M${line.map((point) => point.join(" ")).join("L")}Z`).join(""));
  return made;
}

function label(region) {
  const made = document.createElement("span");
  made.className = `tag${region.dashed ? " dashed" : ""}`;
  made.textContent = region.label;
  return made;
}

export class Regions {
  constructor(pane) {
    this.pane = pane;
    this.lines = pane.querySelector(".regions");
    this.group = this.lines.querySelector("g");
    this.tags = pane.querySelector(".tags");
    this.all = [];
  }

  /** @param {{label: string, outlines: number[][][], dashed: boolean}[]} regions  none hides all */
  show(regions) {
    this.all = regions;
    this.group.replaceChildren(...regions.flatMap((one) => [path(one, "under"), path(one, "line")]));
    this.tags.replaceChildren(...regions.map(label));
  }

  /** Lay all over the film, whose unit square lies as the matrix says. */
  lay(matrix) {
    if (!this.all.length) return;
    this.group.setAttribute("transform", `matrix(${matrix.join(" ")})`);
    const [a, b, c, d, e, f] = matrix;
    const { clientWidth, clientHeight } = this.pane;
    const placed = [];
    this.all.forEach((region, k) => {
      const seen = region.outlines.flat().map(([x, y]) => [a * x + c * y + e, b * x + d * y + f]);
      const tag = this.tags.children[k];
      const [width, height] = [tag.offsetWidth, tag.offsetHeight];
      const left = Math.min(Math.max(GAP, Math.min(...seen.map(([x]) => x))), clientWidth - width - GAP);
      let top = Math.min(Math.max(GAP, Math.min(...seen.map(([, y]) => y)) - height - GAP), clientHeight - height - GAP);
      for (const other of placed) {
        if (left < other.right && left + width > other.left && top < other.bottom && top + height > other.top) top = other.bottom + GAP;
      }
      placed.push({ left, top, right: left + width, bottom: top + height });
      placed.sort((one, other) => one.top - other.top);
      tag.style.transform = `translate(${left}px, ${top}px)`;
      region.at = [left, top, width, height];
    });
  }
}
