// The keyboard. Letters do what buttons do, wherever the focus is but in a text field; arrow keys mean the film, unless a control has them.

const ARROWS = { ArrowUp: [0, 1], ArrowDown: [0, -1], ArrowLeft: [-1, 0], ArrowRight: [1, 0] };
const TEXT = "input:not([type=checkbox]), textarea, dialog, dialog *";

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

/** Do what `keys` says; `panes` are the films, `tool` tells what dragging does, `active` which film is meant. */
export function listen(keys, panes, tool, active) {
  document.addEventListener("keydown", (event) => {
    if (event.target.matches(TEXT) || event.ctrlKey || event.metaKey || event.altKey) return;
    const focused = panes.find((one) => one.place === event.target);
    const pane = focused ?? (event.target === document.body ? active() : null);
    if (ARROWS[event.key]) {
      if (!pane?.shown) return;
      event.preventDefault();
      arrow(pane, ARROWS[event.key], event.shiftKey);
    } else if (pane?.shown && ruler(pane, event.key, tool())) event.preventDefault();
    else if (keys[event.key.toLowerCase()]) {
      event.preventDefault(); // it would look for an option, or be typed into what it opens
      keys[event.key.toLowerCase()]();
    }
  });
}
