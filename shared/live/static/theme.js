// Light or dark: as the system says, or as the button was last set.

import { byId } from "./dom.js";

const KEY = "sweetspot-live-theme";
const system = matchMedia("(prefers-color-scheme: dark)");

export function setUpTheme(onChange) {
  const show = () => {
    const choice = localStorage.getItem(KEY) ?? "auto";
    document.documentElement.dataset.theme = choice === "auto" ? (system.matches ? "dark" : "light") : choice;
    byId("theme").textContent = choice;
    onChange();
  };
  byId("theme").addEventListener("click", () => {
    const next = { auto: "light", light: "dark", dark: "auto" };
    localStorage.setItem(KEY, next[localStorage.getItem(KEY) ?? "auto"]);
    show();
  });
  system.addEventListener("change", show);
  show();
}
