/* The plots of one table at a time, drawn by Vega without eval, each as it comes near the part that is seen. */
"use strict";

window.PLOTS = window.PLOTS || {};

(() => {
  const index = window.PLOT_INDEX;
  const { element, state } = page;
  const find = (id) => document.getElementById(id);
  let views = [];
  let near; // watches which plots come near
  let turns = 0; // how often something was drawn

  const save = async (view, name, type) => {
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

  /* About how high a plot will be, in pixels: its place is kept until it is drawn. */
  const heightOf = (spec, values) => {
    if (spec.vconcat) {
      const of = ({ filter }) => values.filter((row) => row[filter.field] === filter.equal);
      return spec.vconcat.reduce((sum, panel) => sum + heightOf(panel, of(panel.transform[0])), 0);
    }
    const { step } = spec.height;
    return 60 + (step ? step * new Set(values.map((row) => row[spec.encoding.y.field])).size : spec.height);
  };

  const config = (dark, narrow = false) => {
    const look = index.config[dark ? "dark" : "light"];
    if (!narrow) return look;
    return { ...look, axis: { ...look.axis, labelLimit: 110 }, legend: { ...look.legend, orient: "bottom", columns: 2, labelLimit: 130 } };
  };

  const embed = (place, spec, look) => vegaEmbed(place, spec, { actions: false, renderer: "svg", ast: true, config: look });

  /* The page's own colours to look at, ink on white to save. */
  const saveButton = (chart, group, type) => {
    const saveAs = async () => {
      const white = await embed(element("div"), chart.spec, config(false));
      await save(white.view, `${chart.key}-${group.key}`, type);
      white.finalize();
    };
    return element("button", { type: "button", onclick: saveAs }, `Save as ${type.toUpperCase()}`);
  };

  const figureOf = (chart, group) => {
    const place = element("div", { class: "plot", tabindex: "0", role: "region", "aria-label": `Plot: ${chart.title}` });
    place.style.minHeight = `${heightOf(chart.spec, chart.spec.data.values)}px`;
    const buttons = ["svg", "png"].map((type) => saveButton(chart, group, type));
    return element(
      "figure",
      { "data-chart": chart.key },
      element("h2", {}, chart.title),
      element("figcaption", {}, chart.caption),
      place,
      element("p", { class: "buttons" }, buttons),
    );
  };

  /* Show the plots of a group. Each is drawn once it is near the part of the page that is seen. */
  const draw = async (group) => {
    const turn = ++turns;
    views.forEach((view) => view.finalize());
    views = [];
    near?.disconnect();
    const charts = await chartsOf(group);
    if (turn !== turns) return; // somebody has chosen another one meanwhile
    const figures = new Map(charts.map((chart) => [figureOf(chart, group), chart]));
    find("plots").replaceChildren(...figures.keys());
    const show = async (figure) => {
      const place = figure.querySelector(".plot");
      const { spec } = figures.get(figure);
      const fit = fitted(spec, place.clientWidth);
      views.push(await embed(place, fit, config(page.isDark(), fit !== spec)));
      place.style.minHeight = "";
      figure.dataset.shown = "";
    };
    near = new IntersectionObserver(
      async (entries, observer) => {
        const coming = entries.filter((entry) => entry.isIntersecting).map((entry) => entry.target);
        coming.forEach((figure) => observer.unobserve(figure));
        for (const figure of coming) await show(figure);
        document.documentElement.dataset.drawn = group.key;
      },
      { rootMargin: "300px 0px" },
    );
    for (const figure of figures.keys()) near.observe(figure);
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
