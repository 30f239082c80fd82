/* What every page of this package does; put into it, since a page needs nothing else. */
"use strict";
const $ = name => document.getElementById(name);

async function load() {
  const text = atob($("data").textContent);
  const packed = Uint8Array.from(text, letter => letter.charCodeAt(0));
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Response(stream).arrayBuffer();
}

function bytes(count) {
  const names = ["B", "KiB", "MiB", "GiB", "TiB"];
  let step = 0;
  for (; count >= 1024 && step < 4; step++) count /= 1024;
  return `${+count.toPrecision(3)} ${names[step]}`;
}

/* The button for light and dark, and what is to be drawn anew then. */
function onTheme(draw) {
  $("theme").onclick = () => {
    const root = document.documentElement, dark = matchMedia("(prefers-color-scheme: dark)").matches;
    root.dataset.theme = (root.dataset.theme || (dark ? "dark" : "light")) === "dark" ? "light" : "dark";
    draw();
  };
}
