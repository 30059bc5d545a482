// Dark, unless the reader chose light.

const KEY = "hilum-theme";
const button = document.getElementById("theme");

function show(light) {
  document.documentElement.dataset.theme = light ? "light" : "dark";
  button.textContent = light ? "Dark" : "Light";
  button.setAttribute("aria-label", `${button.textContent} theme`);
}

export function switchTheme() {
  const light = document.documentElement.dataset.theme === "dark";
  localStorage.setItem(KEY, light ? "light" : "dark");
  show(light);
}

show(localStorage.getItem(KEY) === "light");
