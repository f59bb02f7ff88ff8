/* The rows that the leaderboard shows, as CSV, LaTeX, Markdown and BibTeX. */
"use strict";

(() => {
  const FORMULA = /^\s*[=+\-@\t\r]/; // how a cell begins that a spreadsheet would compute

  const csvCell = (value) => {
    if (value === null || value === undefined) return "";
    if (typeof value === "boolean") return value ? "True" : "False";
    const text = typeof value === "string" && FORMULA.test(value) ? `'${value}` : String(value);
    return /[",\n\r]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  };

  const oneLine = (text) => text.split(/\s*\n\s*/).join(" ");
  /* A text in which no tag, link, image or address comes to life: as `condensebench leaderboard --format md` has it. */
  const markdownCell = (text) => {
    const lively = new RegExp(window.LEADERBOARD.lively, "gi");
    return oneLine(text).replaceAll("\\", "\\\\").replace(lively, "\\$&").replaceAll("|", "\\|");
  };

  page.exports = {
    /* Every column unrounded, of the rows that are shown. */
    csv: ({ data, table, rows }) => {
      const lines = rows.map((row) =>
        data.keys.map((key) => {
          if (key === "fixed_digest") return table.fixed[row.fixed];
          return key in table.shared ? table.shared[key] : row.raw[data.row_keys.indexOf(key)];
        }),
      );
      return [data.keys, ...lines].map((line) => line.map(csvCell).join(",")).join("\n") + "\n";
    },

    md: ({ table, columns, rows }) => {
      const cell = (row, column) => {
        const text = markdownCell(row.shown[column.index]);
        return column.mark && row.best ? `**${text}**` : text;
      };
      const line = (cells) => `| ${cells.join(" | ")} |`;
      const rules = columns.map((column) => (column.left ? "---" : "---:"));
      const body = rows.map((row) => line(columns.map((column) => cell(row, column))));
      const head = [`### ${markdownCell(table.title)}`, "", line(columns.map((column) => markdownCell(column.title)))];
      return [...head, line(rules), ...body, "", ...table.resolution.map(markdownCell), ""].join("\n");
    },

    /* booktabs; bold: the best and what is tied with it. */
    latex: ({ data, table, columns, rows }) => {
      const plain = (text) => Array.from(oneLine(text), (sign) => data.latex[sign] ?? sign).join("");
      const cell = (row, column) => {
        const text = plain(row.shown[column.index]);
        return column.mark && row.best ? `\\textbf{${text}}` : text;
      };
      // The command before a row would take [ and * for its own.
      const line = (cells) => `${cells.join(" & ").replace(/^(\s*)([[*])/, "$1{$2}")} \\\\`;
      return [
        "% \\usepackage{booktabs}",
        "\\begin{table}",
        "\\centering",
        `\\caption{${plain([table.title, ...table.resolution].join(". "))} Bold: the best and what is tied with it.}`,
        `\\begin{tabular}{${columns.map((column) => (column.left ? "l" : "r")).join("")}}`,
        "\\toprule",
        line(columns.map((column) => plain(column.title))),
        "\\midrule",
        ...rows.map((row) => line(columns.map((column) => cell(row, column)))),
        "\\bottomrule",
        "\\end{tabular}",
        "\\end{table}",
        "",
      ].join("\n");
    },

    /* Of everything that the rows name: data set, protocol, methods, compressors and networks. */
    bib: ({ data, table, rows }) => {
      const kinds = { method: "method", compressor: "compressor", student: "network" };
      const name = (kind, spec) => `${kind}:${(spec ?? "").split(":")[0]}`;
      const used = rows.flatMap((row) =>
        Object.entries(kinds).map(([key, kind]) => name(kind, row.raw[data.row_keys.indexOf(key)])),
      );
      used.push(name("dataset", table.shared.dataset), name("protocol", table.shared.protocol));
      const known = used.filter((each) => Object.hasOwn(data.bibtex.keys, each));
      const keys = [...new Set(known.flatMap((each) => data.bibtex.keys[each]))];
      return keys.sort().map((key) => data.bibtex.entries[key]).join("\n");
    },
  };

  const FORMATS = {
    csv: ["CSV", "text/csv", "csv"],
    latex: ["LaTeX", "text/x-tex", "tex"],
    md: ["Markdown", "text/markdown", "md"],
    bib: ["BibTeX", "text/x-bibtex", "bib"],
  };

  /* A menu of the formats; each opens its text, to copy or to download. */
  page.exportMenu = (view) => {
    const { element } = page;
    const open = (format) => {
      const [name, type, suffix] = FORMATS[format];
      const text = page.exports[format](view());
      const dialog = document.getElementById("export");
      dialog.append(
        element("h2", { id: "export-title" }, `${name} of ${view().rows.length} rows`),
        element("textarea", { readonly: true, rows: "18", spellcheck: "false", "aria-label": `${name} text` }, text),
        element(
          "p",
          { class: "buttons" },
          page.copyButton(() => text),
          element(
            "button",
            { type: "button", onclick: () => page.download(`leaderboard.${suffix}`, type, text) },
            `Download leaderboard.${suffix}`,
          ),
        ),
      );
      page.openDialog(dialog);
    };
    const buttons = Object.entries(FORMATS).map(([format, [name]]) =>
      element("button", { type: "button", "data-format": format, onclick: () => open(format) }, name),
    );
    return buttons;
  };
})();
