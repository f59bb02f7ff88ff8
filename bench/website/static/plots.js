/* The plots of one table at a time, drawn by Vega without eval. */
"use strict";

window.PLOTS = window.PLOTS || {};

(() => {
  const index = window.PLOT_INDEX;
  const { element, state } = page;
  const find = (id) => document.getElementById(id);
  let views = [];

  const save = (view, name, type) => async () => {
    const address = await view.toImageURL(type, type === "png" ? 3 : 1);
    const link = element("a", { href: address, download: `${name}.${type}` });
    document.body.append(link);
    link.click();
    link.remove();
  };

  /* The charts of a group; rows that several of them draw stand once in its file. */
  const chartsOf = async (group) => {
    await page.load(`data/${group.file}.js`);
    const { rows, charts } = PLOTS[group.key];
    if (rows) {
      PLOTS[group.key] = charts.map(({ spec, ...chart }) => ({ ...chart, spec: { ...spec, data: { values: spec.data.rows.map((at) => rows[at]) } } }));
    }
    return PLOTS[group.key];
  };

  /* On a narrow screen a plot is as wide as its place, and its legend stands below. */
  const fitted = (spec, width) => {
    if (width >= 640 || typeof spec.width !== "number") return spec;
    if (typeof spec.height === "number") return { ...spec, width, autosize: { type: "fit-x", contains: "padding" } };
    return { ...spec, width: Math.max(120, width - 190) }; // a plot with a row for each name cannot be fitted
  };

  const draw = async (group) => {
    views.forEach((view) => view.finalize());
    views = [];
    const charts = await chartsOf(group);
    const config = (dark, narrow = false) => {
      const look = index.config[dark ? "dark" : "light"];
      if (!narrow) return look;
      return { ...look, axis: { ...look.axis, labelLimit: 110 }, legend: { ...look.legend, orient: "bottom", columns: 2, labelLimit: 130 } };
    };
    const figures = charts.map((chart) => {
      const place = element("div", { class: "plot", tabindex: "0", role: "region", "aria-label": `Plot: ${chart.title}` });
      const buttons = element("p", { class: "buttons" });
      const caption = element("figcaption", {}, chart.caption);
      return { chart, place, buttons, node: element("figure", { "data-chart": chart.key }, element("h2", {}, chart.title), caption, place, buttons) };
    });
    find("plots").replaceChildren(...figures.map((figure) => figure.node));
    for (const { chart, place, buttons } of figures) {
      // The page's own colours to look at, ink on white to save.
      const spec = fitted(chart.spec, place.clientWidth);
      const shown = await vegaEmbed(place, spec, { actions: false, renderer: "svg", ast: true, config: config(page.isDark(), spec !== chart.spec) });
      views.push(shown);
      const hidden = element("div");
      const save_as = (type) => async () => {
        const white = await vegaEmbed(hidden, chart.spec, { actions: false, renderer: "svg", ast: true, config: config(false) });
        await save(white.view, `${chart.key}-${group.key}`, type)();
        white.finalize();
      };
      buttons.append(
        ...["svg", "png"].map((type) => element("button", { type: "button", onclick: save_as(type) }, `Save as ${type.toUpperCase()}`)),
      );
    }
    document.documentElement.dataset.drawn = group.key;
  };

  const read = () => {
    const wanted = state.read().get("group");
    const group = index.groups.find((each) => each.key === wanted) ?? index.groups.reduce((best, each) => (each.weight > best.weight ? each : best));
    find("group").value = group.key;
    draw(group);
  };

  if (!index.groups.length) {
    find("group").parentElement.replaceWith(element("p", {}, "No table has two rows with a result: there is nothing to plot."));
    return;
  }
  const datasets = Map.groupBy(index.groups, (group) => group.dataset);
  find("group").append(
    ...[...datasets].map(([dataset, groups]) =>
      element("optgroup", { label: dataset }, groups.map((group) => element("option", { value: group.key }, group.title))),
    ),
  );
  find("group").addEventListener("change", (event) => {
    state.write({ group: event.target.value });
    read();
  });
  addEventListener("hashchange", read);
  document.addEventListener("theme", read);
  read();
})();
