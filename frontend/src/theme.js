// The theme that the system asks for, unless the reader chose one.
import { drawIcons } from "./icons.js";
import { words } from "./words.js";

const KEY = "hilum-theme";
const button = document.getElementById("theme");
const system = matchMedia("(prefers-color-scheme: light)");

function show() {
  const chosen = localStorage.getItem(KEY);
  const light = chosen ? chosen === "light" : system.matches;
  document.documentElement.dataset.theme = light ? "light" : "dark";
  button.setAttribute("aria-label", light ? words.darkTheme : words.lightTheme);
  button.dataset.icon = light ? "moon" : "sun";
  drawIcons();
}

export function switchTheme() {
  localStorage.setItem(KEY, document.documentElement.dataset.theme === "dark" ? "light" : "dark");
  show();
}

system.addEventListener("change", show);
show();
