/* What stands behind a number: replicates, sizes, command, cost, environment, findings, the records themselves. */
"use strict";

window.DETAILS = window.DETAILS || {};

(() => {
  const { element, grid } = page;
  const percent = (value) => (value === null || value === undefined ? "-" : `${(100 * value).toFixed(2)} %`);
  const figure = (value) => (value === null || value === undefined ? "-" : Number(value).toPrecision(4));
  const whole = (value) => (value === null || value === undefined ? "-" : value.toLocaleString("en"));
  const total = (seconds) => Object.values(seconds).reduce((sum, each) => sum + each, 0);

  const section = (title, ...children) => element("section", {}, element("h3", {}, title), ...children);
  const pairs = (values) =>
    element(
      "dl",
      {},
      Object.entries(values).flatMap(([key, value]) => [
        element("dt", {}, key),
        element("dd", {}, typeof value === "string" ? value : JSON.stringify(value)),
      ]),
    );

  /* A record as its line has it: what is not its own is the first record's, and numbers stand for values of the pool. */
  const wholeRecord = (record, first, { pool, shared }) => {
    const fields = { ...first.fields, ...record.fields };
    for (const key of shared) fields[key] = pool[fields[key]];
    const [names, rest, single] = fields.trial;
    fields.trial = Object.fromEntries(pool[names].map((key) => [key, key in single ? single[key] : pool[rest][key]]));
    return { ...fields, digest: record.digest };
  };

  const replicates = (records) =>
    grid(
      ["replicate", "status", "accuracy", "test loss", "train loss", "epochs", "steps", "time", "finished (UTC)", "line"],
      records.map(({ record, place }) => [
        String(record.trial.replicate),
        record.status,
        percent(record.accuracy),
        figure(record.test_loss),
        figure(record.train_loss),
        whole(record.epochs),
        whole(record.steps),
        `${total(record.seconds).toFixed(1)} s`,
        record.finished.slice(0, 16).replace("T", " "),
        place,
      ]),
      [0, 2, 3, 4, 5, 6, 7],
    );

  const sizes = (records) =>
    grid(
      ["replicate", "images", "labels", "shared part", "per image", "views", "1x would be", "ratio", "condensed images", "views per image"],
      records.map(({ record }) => {
        const labels = record.bytes_labels;
        const ratio = labels && record.bytes_labels_reference ? record.bytes_labels_reference / labels.total : null;
        return [
          String(record.trial.replicate),
          record.bytes_images === null ? "-" : `${whole(record.bytes_images)} B`,
          ...["total", "shared", "blobs", "views"].map((part) => (labels ? `${whole(labels[part])} B` : "-")),
          record.bytes_labels_reference === null ? "-" : `${whole(record.bytes_labels_reference)} B`,
          ratio === null ? "-" : `${ratio.toFixed(1)}x`,
          whole(record.num_images),
          whole(record.num_views),
        ];
      }),
      [0, 1, 2, 3, 4, 5, 6, 7, 8, 9],
    );

  const cost = (records) => {
    const stages = [...new Set(records.flatMap(({ record }) => Object.keys(record.seconds)))];
    if (!stages.length) return null;
    return section(
      "Cost, seconds of wall clock",
      grid(
        ["replicate", ...stages, "sum"],
        records.map(({ record }) => [
          String(record.trial.replicate),
          ...stages.map((stage) => (stage in record.seconds ? record.seconds[stage].toFixed(2) : "-")),
          total(record.seconds).toFixed(2),
        ]),
        [...stages.keys(), stages.length, stages.length + 1],
      ),
    );
  };

  /* Blocks that are the same for several replicates stand once. */
  const grouped = (records, key, title) => {
    const blocks = new Map();
    for (const { record } of records) {
      const text = JSON.stringify(record[key]);
      blocks.set(text, [...(blocks.get(text) ?? []), record.trial.replicate]);
    }
    const many = blocks.size > 1;
    return [...blocks].map(([text, of]) => {
      const values = JSON.parse(text);
      const name = many ? `${title}, replicate ${of.join(", ")}` : title;
      const empty = !values || !Object.keys(values).length;
      return empty ? null : element("details", {}, element("summary", {}, name), pairs(values));
    });
  };

  const replicatesOf = (row) => row.records.map((record) => (record.fields.trial ?? row.records[0].fields.trial)[2].replicate);

  const findings = (row, pool) => {
    if (!row.findings.length) return section("What check records says", element("p", {}, "Nothing: no rule is broken here."));
    const items = row.findings.map(([at, where]) => {
      const [severity, rule, message] = pool[at];
      const label = element("strong", { class: `severity ${severity}` }, `${severity}: ${rule}`);
      const place = Array.isArray(where) ? `replicate ${where.map((number) => replicatesOf(row)[number]).sort((a, b) => a - b).join(", ")}` : where;
      return element("li", {}, label, ` ${place}: ${message}`);
    });
    return section("What check records says", element("ul", { class: "findings" }, items));
  };

  const failures = (records) => {
    const failed = records.filter(({ record }) => record.error);
    if (!failed.length) return null;
    return section(
      "Failures",
      failed.map(({ record }) =>
        element(
          "details",
          { open: true },
          element("summary", {}, `replicate ${record.trial.replicate}: ${record.error.type}: ${record.error.message}`),
          element("pre", { tabindex: "0" }, record.error.traceback),
        ),
      ),
    );
  };

  /* The dialog of a row of a table. */
  page.showDetails = async ({ data, table, row, closed }) => {
    await page.load(`data/${row.chunk}.js`);
    const chunk = DETAILS[row.chunk];
    const { rows, pool } = chunk;
    const detail = rows[row.key];
    const whole = (record) => wholeRecord(record, detail.records[0], chunk);
    const records = detail.records.map((record) => ({ record: whole(record), place: record.place }));
    const shown = Object.fromEntries(data.columns.map((column, index) => [column.key, row.shown[index]]));
    const facts = data.columns
      .map((column, index) => [column.title, row.shown[index]])
      .filter(([title, text]) => title && title !== "method" && text !== "-");
    const dialog = document.getElementById("detail");
    dialog.replaceChildren(
      element("h2", { id: "detail-title" }, shown.method),
      element("p", { class: "marks" }, table.title, row.flags.map((flag) => element("span", { class: "flag" }, flag))),
      element(
        "dl",
        { class: "facts" },
        facts.map(([title, text]) => element("div", {}, element("dt", {}, title), element("dd", {}, page.breakable(text)))),
      ),
      section("Replicates", replicates(records)),
      ...[failures(records)].filter(Boolean),
      findings(detail, pool),
      section(
        "The command that makes it again",
        element("pre", { class: "command", tabindex: "0" }, detail.command),
        page.copyButton(() => detail.command, "Copy the command"),
      ),
      section("Sizes in true bytes", sizes(records)),
      ...[cost(records)].filter(Boolean),
      section(
        "Where it comes from",
        ...(detail.picture ? [element("p", {}, element("a", { href: detail.picture }, "Look at its condensed set"))] : []),
        ...grouped(records, "made_by", "Digests of what made it"),
        ...grouped(records, "provenance", "What the method says of it"),
        ...grouped(records, "condensed", "The condensed set"),
        ...grouped(records, "environment", "Where it ran"),
      ),
      section(
        "Records",
        records.map(({ record, place }) =>
          element(
            "details",
            { class: "record" },
            element("summary", {}, `replicate ${record.trial.replicate}, ${place}`),
            element("pre", { tabindex: "0" }, JSON.stringify(record, null, 1)),
          ),
        ),
      ),
    );
    page.openDialog(dialog, closed);
  };
})();
