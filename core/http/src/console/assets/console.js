// Keys of the console: / searches, j and k move over rows, Enter opens one, g and a letter opens a page (g u: users),
// ? lists the keys. The gateway tells a page that changes by itself what is new, while it is in sight.
// Everything works without this file.
"use strict";

(() => {
  const pages = { o: "/console/", u: "/console/users/", p: "/console/payments/", m: "/console/messages/", w: "/console/webhooks/", a: "/console/audit/" };
  let row = -1;
  let going = false;

  const move = (by) => {
    const rows = [...document.querySelectorAll("tbody tr")];
    if (rows.length === 0) return;
    rows[row]?.classList.remove("here");
    row = Math.min(Math.max(row + by, 0), rows.length - 1);
    rows[row].classList.add("here");
    rows[row].scrollIntoView({ block: "nearest" });
    rows[row].querySelector("a")?.focus();
  };

  document.addEventListener("keydown", (event) => {
    const typing = event.target.matches("input, select, textarea");
    if (event.ctrlKey || event.altKey || event.metaKey) return;
    if (typing) {
      if (event.key === "Escape") event.target.blur();
      return;
    }
    if (going) {
      going = false;
      if (pages[event.key]) location.assign(pages[event.key]);
      return;
    }
    switch (event.key) {
      case "/": {
        const field = document.querySelector("[data-search]");
        if (!field) return;
        event.preventDefault();
        field.focus();
        field.select();
        break;
      }
      case "j": move(1); break;
      case "k": move(-1); break;
      case "g": going = true; break;
      case "?": document.getElementById("keys")?.showModal(); break;
    }
  });

  // Nothing is replaced under somebody who types or has a form open.
  const typed = (field) => field.value !== field.defaultValue;
  const chosen = (select) => select.querySelector("option[selected]") && !select.selectedOptions[0]?.defaultSelected;
  const touched = (main) => [...main.querySelectorAll("input, textarea")].some(typed) || [...main.querySelectorAll("select")].some(chosen);
  const busy = (main) => document.hidden || touched(main) || main.contains(document.activeElement) || main.querySelector("details[open]:has(textarea, input:not([type=hidden]))");

  // A form that was open when the news came shows it once it is left.
  let source, news;
  const show = () => {
    const main = document.querySelector("main[data-live]");
    if (!news || !main || busy(main)) return;
    main.replaceWith(document.adoptNode(news));
    news = undefined;
    row = -1;
  };
  const listen = () => {
    source?.close();
    if (document.hidden || !document.querySelector("main[data-live]")) return;
    source = new EventSource(location.href);
    source.addEventListener("main", ({ data }) => {
      news = new DOMParser().parseFromString(data, "text/html").querySelector("main");
      if (!("live" in news.dataset)) source.close();
      show();
    });
    source.addEventListener("end", () => location.reload());
  };
  document.addEventListener("visibilitychange", listen);
  document.addEventListener("focusout", () => setTimeout(show));
  document.addEventListener("toggle", show, true);
  addEventListener("pagehide", () => source?.close());
  listen();
})();
