/** Light or dark, English or Japanese: what the reader chose, else what the browser prefers. */

export type Tongue = "en" | "ja";
export type Theme = "light" | "dark";

const THEME = "fallow.theme";
const TONGUE = "fallow.language";

function stored(name: string): string | null {
  try {
    return localStorage.getItem(name);
  } catch {
    return null;
  }
}

function store(name: string, value: string): void {
  try {
    localStorage.setItem(name, value);
  } catch {
    // Then it holds until the page is left.
  }
}

const dark = matchMedia("(prefers-color-scheme: dark)");
const kept = stored(THEME);
let theme = $state<Theme>(kept === "light" || kept === "dark" ? kept : dark.matches ? "dark" : "light");
const spoken = stored(TONGUE) ?? navigator.language;
let tongue = $state<Tongue>(spoken.startsWith("ja") ? "ja" : "en");

function show(): void {
  document.documentElement.dataset["theme"] = theme;
  document.documentElement.lang = tongue;
}

show();

export const look = {
  get theme() {
    return theme;
  },
  set theme(value: Theme) {
    theme = value;
    store(THEME, value);
    show();
  },
  get tongue() {
    return tongue;
  },
  set tongue(value: Tongue) {
    tongue = value;
    store(TONGUE, value);
    show();
  },
};
