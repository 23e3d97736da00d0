"use strict";
// Everything is in the page already: this only hides and orders it.
const main = document.querySelector("main");
const tiles = [...main.querySelectorAll("article")];
const written = new Map(tiles.map((tile, at) => [tile, at]));
const filters = [...document.querySelectorAll("select[data-filter]")];
const order = document.querySelector("#order");

// finders are a list, everything else is one value
const values = (tile, key) => (key === "finder" ? tile.dataset.finder.split("\n") : [tile.dataset[key]]);

function compare(key) {
  if (key === "") return (a, b) => written.get(a) - written.get(b);
  if (key === "number") return (a, b) => a.dataset.number - b.dataset.number;
  // unknown areas come first: somebody should look at them
  const area = (tile) => (tile.dataset.area === "" ? Infinity : Number(tile.dataset.area));
  if (key === "area") return (a, b) => area(b) - area(a) || a.dataset.number - b.dataset.number;
  if (key === "least") return (a, b) => area(a) - area(b) || a.dataset.number - b.dataset.number;
  return (a, b) => a.dataset[key].localeCompare(b.dataset[key]) || a.dataset.number - b.dataset.number;
}

function show() {
  const wanted = filters.filter((one) => one.value !== "").map((one) => [one.dataset.filter, one.value.slice(1)]);
  let shown = 0;
  for (const tile of tiles) {
    tile.hidden = !wanted.every(([key, value]) => values(tile, key).includes(value));
    shown += !tile.hidden;
  }
  tiles.sort(compare(order.value)).forEach((tile) => main.append(tile));
  document.querySelector("#shown").textContent = `${shown} of ${tiles.length} shown`;
}

// what is chosen stands in the address, so that a view can be kept, and other pages open with it
const controls = [...filters, order];
const name = (control) => control.dataset.filter || control.id;

function remember() {
  const chosen = controls.filter((one) => one.value !== "").map((one) => [name(one), one.value]);
  location.replace(`#${new URLSearchParams(chosen)}`);
}

function recall() {
  const chosen = new URLSearchParams(location.hash.slice(1));
  for (const control of controls) {
    control.value = chosen.get(name(control)) ?? "";
    // not every page has every device
    if (control.selectedIndex < 0) control.value = "";
  }
  for (const link of document.querySelectorAll("nav a")) link.hash = location.hash;
  show();
}

for (const control of controls) control.addEventListener("change", remember);
addEventListener("hashchange", recall);
document.querySelector(".controls").hidden = false;
recall();
