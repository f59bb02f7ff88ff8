/* What all pages share: light and dark, elements made without markup, scripts loaded when they are needed. */
"use strict";

const page = {};

(() => {
  const root = document.documentElement;
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const stored = () => {
    try {
      return localStorage.getItem("condensebench-theme");
    } catch {
      return null; // some browsers keep nothing for files
    }
  };
  const apply = (name) => {
    root.classList.toggle("dark", name === "dark");
    root.classList.toggle("light", name !== "dark");
    document.dispatchEvent(new CustomEvent("theme"));
  };
  apply(stored() || (dark.matches ? "dark" : "light"));
  dark.addEventListener("change", () => stored() || apply(dark.matches ? "dark" : "light"));

  document.addEventListener("DOMContentLoaded", () => {
    document.getElementById("theme").addEventListener("click", () => {
      const name = page.isDark() ? "light" : "dark";
      try {
        localStorage.setItem("condensebench-theme", name);
      } catch {
        // the choice holds for this page alone
      }
      apply(name);
    });
  });

  page.isDark = () => root.classList.contains("dark");

  /* An element with attributes and children. Text stays text: nothing of a record is ever read as markup. */
  page.element = (name, attributes = {}, ...children) => {
    const node = document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) {
      if (key.startsWith("on")) node.addEventListener(key.slice(2), value);
      else if (value === true) node.setAttribute(key, "");
      else if (value !== false && value !== null && value !== undefined) node.setAttribute(key, value);
    }
    node.append(...children.flat().filter((child) => child !== null && child !== undefined));
    return node;
  };

  /* A specification may break after its signs. */
  page.breakable = (text) => text.split(/(?<=[,:=@])/).flatMap((part, index) => (index ? [page.element("wbr"), part] : [part]));

  /* A table of text cells. `numeric`: which columns hold figures. */
  page.grid = (headings, rows, numeric = []) => {
    const { element } = page;
    const side = (index) => (numeric.includes(index) ? "figure" : "text");
    const head = headings.map((heading, index) => element("th", { scope: "col", class: side(index) }, heading));
    const body = rows.map((row) =>
      element("tr", {}, row.map((cell, index) => element("td", { class: side(index) }, cell ?? "-"))),
    );
    return element(
      "div",
      { class: "scroll inner", tabindex: "0", role: "region", "aria-label": headings.join(", ") },
      element("table", {}, element("thead", {}, element("tr", {}, head)), element("tbody", {}, body)),
    );
  };

  /* The state of the page as it stands in the address, after #. */
  page.state = {
    read: () => new URLSearchParams(location.hash.slice(1)),
    write: (values) => {
      const state = new URLSearchParams();
      for (const [key, value] of Object.entries(values)) if (value) state.set(key, value);
      history.replaceState(null, "", `#${state}`);
    },
  };

  const loading = new Map();
  /* Load a script of the site once. Pages from the disk cannot fetch, but they can load scripts. */
  page.load = (path) => {
    if (!loading.has(path)) {
      loading.set(
        path,
        new Promise((resolve, reject) => {
          const script = page.element("script", { src: path, onload: resolve, onerror: () => reject(new Error(path)) });
          document.head.append(script);
        }),
      );
    }
    return loading.get(path);
  };

  page.download = (name, type, text) => {
    const address = URL.createObjectURL(new Blob([text], { type }));
    const link = page.element("a", { href: address, download: name });
    document.body.append(link);
    link.click();
    link.remove();
    setTimeout(() => URL.revokeObjectURL(address), 1000);
  };

  page.copyButton = (text, label = "Copy") => {
    const button = page.element("button", { type: "button", class: "copy" }, label);
    button.addEventListener("click", async () => {
      try {
        await navigator.clipboard.writeText(text());
        button.textContent = "Copied";
      } catch {
        button.textContent = "Select and copy";
      }
      setTimeout(() => (button.textContent = label), 1500);
    });
    return button;
  };

  page.openDialog = (dialog, closed) => {
    const { element } = page;
    const close = element("button", { type: "button", class: "close", "aria-label": "Close" }, "×");
    close.addEventListener("click", () => dialog.close());
    dialog.prepend(close);
    dialog.onclick = (event) => {
      if (event.target === dialog) dialog.close(); // no value: false would take every link in it its effect
    };
    dialog.onclose = () => {
      dialog.replaceChildren();
      closed?.();
    };
    if (!dialog.open) dialog.showModal();
    dialog.scrollTop = 0;
  };
})();
