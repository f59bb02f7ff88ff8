/* The leaderboard: which table, which rows, which columns; all of it stands in the address. */
"use strict";

(() => {
  const data = window.LEADERBOARD;
  const { element, state, breakable } = page;
  const find = (id) => document.getElementById(id);
  const narrow = matchMedia("(max-width: 700px)");
  const FILTERS = ["method", "compressor", "ipc", "student", "budget", "status"];
  const MOST_BEST = 6; // cells whose best rows stand above a table
  const SHOWN_ON_PHONES = ["method", "compressor", "ipc", "mean", "rank"];
  const natural = new Intl.Collator("en", { numeric: true });
  const at = Object.fromEntries(data.row_keys.map((key, index) => [key, index]));
  const columns = data.columns.map((column, index) => ({ ...column, index }));

  let current; // {table, board, chosen, hidden}

  // --- values of rows ------------------------------------------------------------------------------------------------

  const raw = (row, key) => row.raw[at[key]];
  const filterValue = (row, key) => String(raw(row, key) ?? (key === "compressor" ? "-" : "no budget"));

  /* What a column sorts by; text where it shows more than its value. */
  const sortValue = (row, column) => {
    if (column.key === "compressor") return row.shown[column.index];
    return raw(row, column.key);
  };

  /* What is missing stands last, whichever way it is sorted. */
  const compare = (direction) => (first, second) => {
    const missing = (value) => value === null || value === undefined || value === "";
    if (missing(first) || missing(second)) return missing(first) - missing(second);
    const numbers = typeof first === "number" && typeof second === "number";
    return direction * (numbers ? first - second : natural.compare(first, second));
  };
  DataTable.ext.type.order["value-asc"] = compare(1);
  DataTable.ext.type.order["value-desc"] = compare(-1);

  // --- the list of tables --------------------------------------------------------------------------------------------

  const mark = (table) => (table.official ? null : table.default_recipe ? "default recipe" : "unofficial");
  const methodsOf = (table) => table.rows.map((row) => `${raw(row, "method")} ${raw(row, "compressor") ?? ""}`);

  const listTables = () => {
    const groups = Map.groupBy(data.tables, (table) => table.shared.dataset);
    const twice = (table) => data.tables.filter((other) => other.title === table.title).length > 1;
    const link = (table) =>
      element(
        "a",
        { href: `#${new URLSearchParams({ table: table.key })}`, "data-key": table.key },
        element("span", { class: "name" }, table.shared.protocol),
        element(
          "span",
          { class: "about" },
          [
            `${table.shared.labels} labels`,
            `${table.rows.length} row${table.rows.length > 1 ? "s" : ""}`,
            twice(table) ? `digest ${(table.shared.protocol_digest ?? table.key).slice(0, 8)}` : null,
            mark(table),
          ]
            .filter(Boolean)
            .join(" · "),
        ),
      );
    find("tables").replaceChildren(
      ...[...groups].map(([dataset, tables]) =>
        element("div", { class: "group" }, element("h2", {}, dataset), element("ul", {}, tables.map((table) => element("li", {}, link(table))))),
      ),
    );
    const texts = new Map(data.tables.map((table) => [table.key, [table.title, ...methodsOf(table)].join(" ").toLowerCase()]));
    find("find").addEventListener("input", (event) => {
      const words = event.target.value.toLowerCase().split(/[\s,]+/);
      for (const anchor of find("tables").querySelectorAll("a")) {
        anchor.parentElement.hidden = !words.every((word) => texts.get(anchor.dataset.key).includes(word));
      }
      for (const group of find("tables").children) group.hidden = !group.querySelector("li:not([hidden])");
    });
    find("tables").addEventListener("click", () => narrow.matches && (find("tables-box").open = false));
    find("tables-box").open = !narrow.matches;
  };

  // --- one table -----------------------------------------------------------------------------------------------------

  const broken = (row) => `breaks ${row.broken.length} rule${row.broken.length > 1 ? "s" : ""}`;

  const nameCell = (row, text) =>
    element(
      "span",
      {},
      breakable(text),
      row.flags.flatMap((flag) => [" ", element("span", { class: `flag ${flag.replace(" ", "-")}` }, flag)]),
      row.broken.length ? [" ", element("span", { class: "flag errors", title: row.broken.join(", ") }, broken(row))] : null,
    );

  const openCell = (row, text) =>
    element(
      "button",
      {
        type: "button",
        class: row.best ? "open top-row" : "open",
        "data-row": row.key,
        "aria-haspopup": "dialog",
        "aria-label": `${text}, details of ${raw(row, "method")}`,
      },
      text,
    );

  const tableColumn = (column) => ({
    title: column.title,
    type: "value",
    className: `${column.left ? "text" : "figure"} c-${column.key}`,
    orderSequence: column.left || column.key === "rank" || column.key === "p_random_holm" ? ["asc", "desc", ""] : ["desc", "asc", ""],
    visible: !current.hidden.has(column.key),
    data: (row, type) => {
      const text = row.shown[column.index];
      if (type === "sort" || type === "type") return sortValue(row, column);
      if (type === "filter") return column.key === "method" ? [text, ...row.flags].join(" ") : text;
      if (type !== "display") return text;
      if (column.key === "method") return nameCell(row, text);
      if (column.mark) return openCell(row, text);
      return column.left ? element("span", {}, breakable(text)) : document.createTextNode(text);
    },
    // A node, never markup.
    render: (value, type) => (type === "display" && !(value instanceof Node) ? document.createTextNode(value) : value),
  });

  const showTable = (key, wanted) => {
    const table = [key, data.first].map((each) => data.tables.find((other) => other.key === each)).find(Boolean);
    current?.board.destroy(true);
    find("scroll").replaceChildren(element("table", { id: "board", class: "board" }));
    const hidden = wanted.has("hide") ? wanted.get("hide").split(",") : columnsHiddenAtFirst(table);
    current = { table, chosen: {}, hidden: new Set(hidden), hiddenAtFirst: hidden.join(",") };
    for (const filter of FILTERS) current.chosen[filter] = new Set(wanted.getAll(filter).flatMap((text) => JSON.parse(text)));
    find("title").textContent = table.title;
    showHead(table);
    const order = wanted.get("sort")?.split(":");
    const sorted = columns.findIndex((column) => column.key === order?.[0]);
    current.board = new DataTable("#board", {
      data: table.rows,
      columns: columns.map(tableColumn),
      order: sorted < 0 ? [] : [[sorted, order[1] === "desc" ? "desc" : "asc"]],
      autoWidth: false,
      deferRender: true,
      paging: table.rows.length > 100,
      pageLength: 100,
      search: { search: wanted.get("q") ?? "" },
      layout: { topStart: null, topEnd: null, bottomStart: null, bottomEnd: table.rows.length > 100 ? "paging" : null },
      language: { zeroRecords: "No row fits this search and these filters.", aria: { orderable: ": sort", orderableReverse: ": sort the other way" } },
    });
    find("pager").replaceChildren(...find("scroll").querySelectorAll(".dt-paging"));
    find("search").value = wanted.get("q") ?? "";
    current.board.search.fixed("filters", (_, row) =>
      FILTERS.every((filter) => !current.chosen[filter].size || current.chosen[filter].has(filterValue(row, filter))),
    );
    current.board.on("draw order search column-visibility", () => {
      count();
      write();
    });
    showFilters();
    current.board.draw();
    for (const anchor of find("tables").querySelectorAll("a")) {
      if (anchor.dataset.key === table.key) anchor.setAttribute("aria-current", "true");
      else anchor.removeAttribute("aria-current");
    }
    const row = table.rows.find((each) => each.key === wanted.get("row"));
    if (row) open(row);
  };

  const columnsHiddenAtFirst = (table) => {
    const same = columns.filter((column) => ["ipc", "student"].includes(column.key) && valuesOf(table, column.key).length < 2);
    const small = narrow.matches ? columns.filter((column) => !SHOWN_ON_PHONES.includes(column.key)) : [];
    const empty = columns.filter((column) => table.rows.every((row) => row.shown[column.index] === "-"));
    return [...new Set([...same, ...small, ...empty].map((column) => column.key))];
  };

  const valuesOf = (table, key) => [...new Set(table.rows.map((row) => filterValue(row, key)))].sort(natural.compare);

  const showHead = (table) => {
    const flag = mark(table);
    const digest = table.shared.protocol_digest;
    find("marks").replaceChildren(
      element("span", { class: `flag ${flag ? flag.replace(" ", "-") : "official"}` }, flag ?? "official"),
      element("span", {}, digest ? `protocol digest ${digest.slice(0, 8)}` : "protocol digest unknown"),
    );
    const name = ([method, compressor]) => [method, compressor === "none" ? null : compressor].filter(Boolean).join(" + ");
    find("best").replaceChildren(
      ...table.best.slice(0, MOST_BEST).map((cell) => {
        const names = cell.rows.map(name);
        const rest = names.length > 3 ? ` and ${names.length - 3} more` : "";
        const tied = names.length > 1 ? `${names.length} tied at the top: ` : "best: ";
        return element("li", {}, element("b", {}, cell.at.join(", ")), `, ${tied}`, names.slice(0, 3).join(", ") + rest);
      }),
      ...(table.best.length > MOST_BEST ? [element("li", {}, `and ${table.best.length - MOST_BEST} more; bold in the table`)] : []),
    );
    find("resolution").replaceChildren(...table.resolution.map((text) => element("li", {}, text)));
    find("notes").replaceChildren(...table.notes.map((text) => element("li", {}, text)));
  };

  const count = () => {
    const shown = current.board.rows({ search: "applied" }).count();
    const all = current.table.rows.length;
    const text = shown === all ? `${all} row${all > 1 ? "s" : ""}` : `${shown} of ${all} rows`;
    find("count").textContent = `${text}. A click on a row, or Enter on its accuracy, opens what stands behind it.`;
  };

  // --- filters, columns, export --------------------------------------------------------------------------------------

  const box = (label, checked, changed) =>
    element("label", {}, element("input", { type: "checkbox", checked, onchange: (event) => changed(event.target.checked) }), ` ${label}`);

  const menu = (title, key, items, active) =>
    element("details", { class: active ? "menu active" : "menu", "data-menu": key }, element("summary", {}, title), element("div", { class: "items" }, items));

  const showFilters = () => {
    const menus = FILTERS.flatMap((key) => {
      const values = valuesOf(current.table, key);
      if (values.length < 2) return [];
      const chosen = current.chosen[key];
      const items = values.map((value) =>
        box(value, chosen.has(value), (on) => {
          if (on) chosen.add(value);
          else chosen.delete(value);
          find("filters").querySelector(`[data-menu="${key}"]`).classList.toggle("active", chosen.size > 0);
          current.board.draw();
        }),
      );
      return [menu(key, key, items, chosen.size > 0)];
    });
    const choices = columns.map((column) =>
      box(column.title || column.key, !current.hidden.has(column.key), (on) => {
        if (on) current.hidden.delete(column.key);
        else current.hidden.add(column.key);
        current.board.column(column.index).visible(on);
      }),
    );
    find("filters").replaceChildren(...menus, menu("columns", "columns", choices, false), menu("export", "export", page.exportMenu(view), false));
  };

  const view = () => ({
    data,
    table: current.table,
    columns: columns.filter((column) => !current.hidden.has(column.key)),
    rows: current.board.rows({ search: "applied", order: "applied" }).data().toArray(),
  });

  // --- the address ---------------------------------------------------------------------------------------------------

  const write = () => {
    const [first] = current.board.order();
    const hidden = [...current.hidden].join(",");
    const filters = FILTERS.filter((key) => current.chosen[key].size);
    state.write({
      table: current.table.key,
      q: current.board.search(),
      ...Object.fromEntries(filters.map((key) => [key, JSON.stringify([...current.chosen[key]])])),
      sort: first?.[1] ? `${columns[first[0]].key}:${first[1]}` : null,
      hide: hidden === current.hiddenAtFirst ? null : hidden || ",",
      row: current.open,
    });
  };

  const read = () => {
    const wanted = state.read();
    try {
      showTable(wanted.get("table"), wanted);
    } catch (error) {
      if (!(error instanceof SyntaxError)) throw error; // an address that somebody mistyped
      showTable(wanted.get("table"), new URLSearchParams());
    }
  };

  const open = (row) => {
    current.open = row.key;
    write();
    const closed = () => {
      current.open = null;
      write();
      find("board").querySelector(`[data-row="${row.key}"]`)?.focus();
    };
    page.showDetails({ data, table: current.table, row, closed });
  };

  if (!data.tables.length) {
    find("title").textContent = "No records yet";
    return;
  }
  listTables();
  read();
  addEventListener("hashchange", read);
  find("scroll").addEventListener("click", (event) => {
    const line = event.target.closest("tbody tr");
    const row = line && current.board.row(line).data();
    if (row && !getSelection().toString()) open(row);
  });
  find("search").addEventListener("input", (event) => current.board.search(event.target.value).draw());
  find("reset").addEventListener("click", () => showTable(current.table.key, new URLSearchParams()));
  document.addEventListener("click", (event) => {
    for (const each of document.querySelectorAll("details.menu[open]")) if (!each.contains(event.target)) each.open = false;
  });
  document.addEventListener("keydown", (event) => {
    if (event.key !== "Escape") return;
    for (const each of document.querySelectorAll("details.menu[open]")) {
      each.open = false;
      each.querySelector("summary").focus();
    }
  });
})();
