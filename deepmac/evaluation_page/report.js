
"use strict";

// Tables: a click on a heading sorts by it, the best figures first, a second click turns it round.
for (const table of document.querySelectorAll("table.sortable")) {
  const body = table.tBodies[0], heads = [...table.tHead.rows[0].cells];
  const value = (row, column, isNumber) => {
    const text = row.cells[column].textContent;
    if (!isNumber) return text;
    const number = parseFloat(text.replaceAll(",", ""));
    return Number.isNaN(number) ? null : number;
  };
  heads.forEach((head, column) => head.querySelector("button").addEventListener("click", () => {
    const isNumber = head.classList.contains("number");
    const first = isNumber ? "descending" : "ascending", second = isNumber ? "ascending" : "descending";
    const order = head.getAttribute("aria-sort") === first ? second : first;
    const sign = order === "ascending" ? 1 : -1;
    for (const other of heads) other.setAttribute("aria-sort", other === head ? order : "none");
    const rows = [...body.rows].map(row => [value(row, column, isNumber), row]);
    rows.sort(([a], [b]) => {
      if (a === null || b === null) return (a === null) - (b === null);  // what is missing comes last
      return sign * (isNumber ? a - b : a.localeCompare(b));
    });
    body.append(...rows.map(([, row]) => row));
  }));
}

// Curves: one more, of a group or category, in every panel of the kind.
for (const choice of document.querySelectorAll(".choice")) {
  const select = choice.querySelector("select"), told = choice.querySelector(".told");
  const panels = [...choice.parentElement.querySelectorAll(".curves .chosen")];
  const recalls = select.dataset.recalls.split(" ").map(Number);
  const bytes = Uint8Array.from(atob(select.dataset.curves), c => c.charCodeAt(0));
  const draw = () => {
    told.textContent = "";
    panels.forEach((panel, number) => {
      panel.replaceChildren();
      if (select.value === "") return;
      const start = (Number(select.value) * panels.length + number) * recalls.length;
      const values = [...bytes.subarray(start, start + recalls.length)];
      if (values[0] === 255) { told.textContent = "has no objects"; return; }
      const [left, top, width, height] = panel.dataset.area.split(" ").map(Number);
      const line = document.createElementNS("http://www.w3.org/2000/svg", "polyline");
      const point = (v, i) => (left + recalls[i] * width).toFixed(1) + "," + (top + (1 - v / 250) * height).toFixed(1);
      line.setAttribute("points", values.map(point).join(" "));
      panel.append(line);
    });
  };
  select.addEventListener("change", draw);
  choice.hidden = false;
  draw();
}
