// The toolbar's icons, from Lucide.
import {
  ClipboardPen, Columns2, Contrast, FilePenLine, HeartPulse, Expand, Eye, FileCheck, FileDown, FileSpreadsheet, Hand, ImageDown, Keyboard, Link2, Maximize, PanelLeft, PanelRight,
  Plus, RotateCw, Ruler, ScanSearch, SunMoon, Trash2, Undo2, Moon, Sun, ZoomIn, createElement,
} from "lucide";

const ICONS = {
  draft: ClipboardPen, signed: FilePenLine, heart: HeartPulse, reading: FileCheck, columns: Columns2, contrast: Contrast, expand: Expand, eye: Eye, dicom: FileDown, csv: FileSpreadsheet, hand: Hand, png: ImageDown,
  keyboard: Keyboard, link: Link2, fit: Maximize, left: PanelLeft, right: PanelRight, plus: Plus, rotate: RotateCw, ruler: Ruler,
  magnify: ScanSearch, invert: SunMoon, trash: Trash2, reset: Undo2, moon: Moon, sun: Sun, zoom: ZoomIn,
};

/** Put an icon into each element that names one and has it not yet. */
export function drawIcons() {
  for (const place of document.querySelectorAll("[data-icon]")) {
    if (place.dataset.drawn === place.dataset.icon) continue;
    place.querySelector("svg")?.remove();
    place.prepend(createElement(ICONS[place.dataset.icon], { width: 18, height: 18, "aria-hidden": "true", focusable: "false" }));
    place.dataset.drawn = place.dataset.icon;
  }
}
