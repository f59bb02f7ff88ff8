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

  const draw = async (group) => {
    views.forEach((view) => view.finalize());
    views = [];
    await page.load(`data/${group.file}.js`);
    const config = (dark) => ({ ...index.config[dark ? "dark" : "light"] });
    const figures = PLOTS[group.key].map((chart) => {
      const place = element("div", { class: "plot", tabindex: "0", role: "region", "aria-label": `Plot: ${chart.title}` });
      const buttons = element("p", { class: "buttons" });
      const caption = element("figcaption", {}, chart.caption);
      return { chart, place, buttons, node: element("figure", { "data-chart": chart.key }, element("h2", {}, chart.title), caption, place, buttons) };
    });
    find("plots").replaceChildren(...figures.map((figure) => figure.node));
    for (const { chart, place, buttons } of figures) {
      // The page's own colours to look at, ink on white to save.
      const shown = await vegaEmbed(place, chart.spec, { actions: false, renderer: "svg", ast: true, config: config(page.isDark()) });
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
