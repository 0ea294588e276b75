"use strict";
(function () {
  // Sorting: a click on a head sorts its table's rows by their data-v; missing values stay last.
  document.querySelectorAll("table.sortable").forEach(function (table) {
    var heads = Array.from(table.tHead.rows[0].cells);
    heads.forEach(function (head, column) {
      var button = head.querySelector("button");
      if (!button) return;
      button.addEventListener("click", function () {
        var first = head.dataset.first || "ascending";
        var other = first === "ascending" ? "descending" : "ascending";
        var order = head.getAttribute("aria-sort") === first ? other : first;
        heads.forEach(function (h) { h.removeAttribute("aria-sort"); });
        head.setAttribute("aria-sort", order);
        var sign = order === "ascending" ? 1 : -1;
        var body = table.tBodies[0];
        Array.from(body.rows)
          .sort(function (a, b) {
            var x = a.cells[column].dataset.v, y = b.cells[column].dataset.v;
            if (x === "" || y === "") return (x === "") - (y === "");
            var p = Number(x), q = Number(y);
            if (!isNaN(p) && !isNaN(q)) return sign * (p - q);
            return sign * x.localeCompare(y);
          })
          .forEach(function (row) { body.appendChild(row); });
      });
    });
  });
  // Theme: as the system, light or dark; remembered where the browser allows it.
  var button = document.getElementById("theme"), names = ["auto", "light", "dark"], root = document.documentElement;
  function show(name) {
    if (name === "auto") root.removeAttribute("data-theme");
    else root.setAttribute("data-theme", name);
    button.textContent = "Theme: " + name;
    button.dataset.now = name;
  }
  var saved = null;
  try { saved = localStorage.getItem("bnnzoo-theme"); } catch (e) { saved = null; }
  show(names.indexOf(saved) < 0 ? "auto" : saved);
  button.hidden = false;
  button.addEventListener("click", function () {
    var next = names[(names.indexOf(button.dataset.now) + 1) % names.length];
    show(next);
    try { localStorage.setItem("bnnzoo-theme", next); } catch (e) { /* private window */ }
  });
})();
