/* Condensed sets side by side, and how their labels were stored. A PNG holds many images; the page cuts them out. */
"use strict";

window.GALLERY = window.GALLERY || {};

(() => {
  const index = window.GALLERY_INDEX;
  const { element, state } = page;
  const find = (id) => document.getElementById(id);
  const TILE = 72; // pixels that an image is enlarged to, by a whole number
  const WIDE = 4; // pixels of a column of a heat map
  let cell; // {key, classes, sets}

  const percent = (value) => (value < 0.0005 ? "< 0.1 %" : `${value > 0.995 ? 100 : (100 * value).toFixed(value < 0.1 ? 1 : 0)} %`);
  const className = (label) => cell.classes[label] ?? String(label);
  const enlarged = (size) => size * Math.max(1, Math.round(TILE / size));

  /* A part of a PNG: the rectangle at column x, row y of `columns` x `rows` equal ones. */
  const cut = (file, [x, y], [columns, rows], [width, height], label) => {
    const tile = element("span", { class: "tile", role: "img", "aria-label": label, title: label });
    tile.style.width = `${width}px`;
    tile.style.height = `${height}px`;
    tile.style.backgroundImage = `url("${file}")`;
    tile.style.backgroundSize = `${columns * width}px ${rows * height}px`;
    tile.style.backgroundPosition = `${-x * width}px ${-y * height}px`;
    return tile;
  };

  /* The most probable classes, one a line; the first one is marked where it is not the image's. */
  const labels = (top, own) =>
    element(
      "span",
      { class: "top-labels" },
      (top ?? []).map(([label, share], place) =>
        element("span", { class: place === 0 && label !== own ? "other" : null }, `${place === 0 && label !== own ? "≠ " : ""}${className(label)} ${percent(share)}`),
      ),
    );

  const image = (set, row, column) => {
    const size = enlarged(set.size);
    const shape = [set.top[0].length, set.top.length];
    const label = `${set.method}, class ${className(row)}, image ${column + 1}`;
    const tile = cut(set.sheet, [column, row], shape, [size, size], label);
    return element("span", { class: "imaged" }, tile, labels(set.top[row][column], row));
  };

  const head = (set) =>
    element(
      "div",
      { class: "about-set" },
      element("b", {}, set.method),
      element("span", { class: "soft" }, set.made ? "images that were made" : "real images, picked"),
      element("code", { class: "soft", title: set.digest }, set.digest.slice(0, 16)),
      element(
        "details",
        {},
        element("summary", {}, "Rows"),
        element("ul", {}, set.links.map(([title, address]) => element("li", {}, element("a", { href: address }, title)))),
        set.more ? element("p", {}, `and ${set.more} more`) : null,
      ),
    );

  const showSets = () => {
    const chosen = find("class").value;
    const shown = cell.sets.map((set) => {
      const tiles =
        chosen === "all"
          ? set.there.flatMap((count, row) => (count ? [image(set, row, 0)] : []))
          : Array.from({ length: set.there[chosen] ?? 0 }, (_, column) => image(set, Number(chosen), column));
      const strip = element("div", { class: "strip", tabindex: "0", role: "region", "aria-label": `Images of ${set.method}, set ${set.digest.slice(0, 8)}` }, tiles);
      return element("div", { class: "set", id: `set-${set.key}` }, head(set), strip);
    });
    find("sets").replaceChildren(...shown);
    const teachers = [...new Set(cell.sets.map((set) => set.teacher))].filter(Boolean);
    const some = chosen === "all" ? "The first image of each class" : `The first images of class ${className(chosen)}`;
    const by = teachers.length ? `Teacher: ${teachers.join("; ")}.` : "The teacher of these protocols is not in the store: images stand without its labels.";
    find("teacher").textContent = `${some}. ${by}`;
  };

  // --- stored labels -------------------------------------------------------------------------------------------------

  const views = (set, stored, at) => {
    const size = enlarged(set.size);
    const [, own] = stored.images[at];
    return Array.from({ length: stored.shown }, (_, view) =>
      element(
        "span",
        { class: "imaged" },
        cut(stored.views, [view, at], [stored.shown, stored.images.length], [size, size], `view ${view + 1} of the image of class ${className(own)}`),
        labels(stored.said?.[at][view], own),
      ),
    );
  };

  const heat = (stored, at) => {
    const shape = [stored.classes.length * WIDE, stored.rows * 2];
    const wide = Math.min(Math.max(shape[0], 160), find("stored").clientWidth); // nothing to scroll on a narrow screen
    const panel = (place, title, about) =>
      element(
        "figure",
        { class: "heat" },
        element("figcaption", {}, element("b", {}, title), element("br"), about),
        place === null ? null : cut(stored.heat, [place, at], [stored.panels, stored.images.length], [wide, shape[1]], `${title}: ${about}`),
      );
    const maps = stored.maps.map((map) => {
      if (map.why) return panel(null, map.title, `cannot be decoded here: ${map.why}`);
      const same = map.same[at];
      const about = same === null ? "none of these views is stored" : `same top class ${percent(same)}, KL ${map.divergence[at]}`;
      return panel(map.at, map.title, about);
    });
    return [panel(0, "the teacher", `${stored.rows} of ${stored.count} views`), ...maps];
  };

  const block = (set, stored, at) => {
    const nodes = [element("h3", {}, `${set.method}, ${stored.protocol}`)];
    const strip = element("div", { class: "strip", tabindex: "0", role: "region", "aria-label": `Augmented views, ${stored.protocol}` }, views(set, stored, at));
    const said = stored.said ? ", each with what the teacher says of it: its stored label (≠: not the class of the image, as where another one is mixed in)" : "; the store keeps no teacher's labels of a set of this size";
    nodes.push(element("p", {}, `The first ${stored.shown} of ${stored.count} stored views${said}.`), strip);
    if (stored.maps.length) {
      nodes.push(
        element(
          "p",
          {},
          `The image's label before and after each compressor, as the student is given it at temperature ${stored.temperature}. A row for each view, a column for each class` +
            `${stored.classes.length < cell.classes.length ? ` (the ${stored.classes.length} most probable)` : ""}; dark is 0, bright ${percent(stored.highest)}, grey is not stored. ` +
            "KL in nats and the share of views with the same top class: means over the stored views of this image.",
        ),
        element("div", { class: "heats" }, heat(stored, at)),
      );
    }
    return nodes;
  };

  const showStored = () => {
    const set = cell.sets.find((each) => each.key === find("set").value);
    const at = Number(find("image").value || 0);
    const text = "The store holds no stored labels of this set: its rows have class labels, or labels that were not kept.";
    find("stored").replaceChildren(...(set.labels.length ? set.labels.flatMap((stored) => block(set, stored, at)) : [element("p", {}, text)]));
  };

  const options = (id, values, chosen) => {
    find(id).replaceChildren(...values.map(([value, text]) => element("option", { value, selected: value === chosen }, text)));
  };

  const chooseSet = (key) => {
    const first = cell.sets.find((each) => each.labels.length) ?? cell.sets[0];
    const set = cell.sets.find((each) => each.key === key) ?? first;
    options("set", cell.sets.map((each) => [each.key, each.method]), set.key);
    const images = set.labels[0]?.images ?? [];
    options("image", images.map(([, own], place) => [String(place), `first of class ${className(own)}`]), "0");
    find("image").parentElement.hidden = !images.length;
    showStored();
  };

  const write = () => state.write({ cell: cell.key, class: find("class").value === "all" ? null : find("class").value, set: find("set").value });

  const read = async () => {
    const wanted = state.read();
    const { key } = index.find((each) => each.key === wanted.get("cell")) ?? index[0];
    await page.load(`data/gallery-${key}.js`);
    cell = { key, ...GALLERY[key] };
    find("cell").value = key;
    const most = Math.max(...cell.sets.map((set) => set.there.length));
    options("class", [["all", "every class"], ...Array.from({ length: most }, (_, row) => [String(row), className(row)])], wanted.get("class") ?? "all");
    showSets();
    chooseSet(wanted.get("set"));
    document.documentElement.dataset.drawn = key;
    if (wanted.get("set")) find(`set-${find("set").value}`).scrollIntoView();
  };

  if (!index.length) return;
  options("cell", index.map((each) => [each.key, `${each.title}: ${each.count} set${each.count > 1 ? "s" : ""}`]), null);
  find("cell").addEventListener("change", (event) => {
    state.write({ cell: event.target.value });
    read();
  });
  find("class").addEventListener("change", () => {
    showSets();
    write();
  });
  find("set").addEventListener("change", (event) => {
    chooseSet(event.target.value);
    write();
  });
  find("image").addEventListener("change", showStored);
  addEventListener("hashchange", read);
  read();
})();
