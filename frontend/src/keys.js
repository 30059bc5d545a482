// The keyboard. Letters do what buttons do; on a film, arrow keys move its window, the film itself, or the ruler's ends.

const ARROWS = { ArrowUp: [0, 1], ArrowDown: [0, -1], ArrowLeft: [-1, 0], ArrowRight: [1, 0] };

function arrow({ viewer }, [across, up], shift) {
  if (viewer.ruler.line) viewer.ruler.move(across, -up, shift);
  else if (shift) viewer.pan(30 * across, -30 * up);
  else viewer.widen(-0.02 * up, across ? 1 - 0.08 * across : 1);
}

/** @returns {boolean} whether the key meant the ruler */
function ruler({ viewer }, key, tool) {
  if (key === "Enter" && tool === "ruler") viewer.ruler.enter();
  else if (key === "Escape" && viewer.ruler.line) viewer.ruler.remove();
  else if (key === "Delete" || key === "Backspace") viewer.ruler.remove();
  else return false;
  return true;
}

/** Do what `keys` says; `panes` are the films, `tool` tells what dragging does. */
export function listen(keys, panes, tool) {
  document.addEventListener("keydown", (event) => {
    const typing = event.target.matches("input:not([type=checkbox]), select, dialog *");
    if (typing || event.ctrlKey || event.metaKey || event.altKey) return;
    const pane = panes.find((one) => one.place === event.target && one.shown);
    if (ARROWS[event.key]) {
      if (!pane) return;
      event.preventDefault();
      arrow(pane, ARROWS[event.key], event.shiftKey);
    } else if (pane && ruler(pane, event.key, tool())) event.preventDefault();
    else keys[event.key.toLowerCase()]?.();
  });
}
