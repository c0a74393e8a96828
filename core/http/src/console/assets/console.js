// Keys of the console: / searches, j and k move over rows, Enter opens one, g and a letter opens a page (g u: users),
// ? lists the keys. A page that changes by itself is asked for again every few seconds.
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

  let last = "";
  const again = async () => {
    const main = document.querySelector("main[data-live]");
    if (!main) return;
    if (!busy(main)) {
      try {
        // Marked, because a page that is forgotten must not keep its session open.
        const answer = await fetch(location.href, { headers: { accept: "text/html", "x-live": "1" } });
        if (answer.redirected) return location.reload();
        const text = await answer.text();
        const next = answer.ok && text !== last && new DOMParser().parseFromString(text, "text/html").querySelector("main");
        if (next && !busy(main)) {
          main.replaceWith(document.adoptNode(next));
          row = -1;
          last = text;
        }
      } catch {
        // The gateway restarts; the page stays as it was.
      }
    }
    setTimeout(again, 3000);
  };
  setTimeout(again, 3000);
})();
