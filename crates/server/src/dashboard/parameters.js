// The form of a program: a control for each parameter that it declares, and the arguments that what is filled in makes.

import { el } from "./dom.js";

// A default of more is a text of several lines.
const LINE = 60;

/** What is filled in for one program. `manifest` is what the program says of itself. */
export class Parameters {
  constructor(manifest) {
    this.fields = manifest.parameters.map((parameter) => new Field(parameter));
    this.element = el("div", { class: "parameters" }, ...this.fields.map((field) => field.element));
  }

  /** The arguments. Throws an `Error` for a file that cannot be read. */
  async arguments() {
    const [named, placed] = [[], []];
    for (const field of this.fields) {
      const value = await field.value();
      if (value === null) continue;
      if (field.parameter.positional) placed.push(value);
      else named.push(`--${field.parameter.name}=${value}`);
    }
    return placed.length ? [...named, "--", ...placed] : named;
  }
}

let count = 0;

class Field {
  constructor(parameter) {
    this.parameter = parameter;
    count += 1;
    const id = `parameter-${count}`;
    this.control = this.makeControl(id);
    const label = el("label", { for: id }, parameter.name, parameter.required ? el("span", { class: "needed" }, " required") : "");
    const about = el("p", { class: "quiet", id: `${id}-about` }, parameter.about);
    this.control.setAttribute("aria-describedby", `${id}-about`);
    this.element =
      parameter.kind.type === "boolean"
        ? el("div", { class: "parameter" }, el("div", { class: "check" }, this.control, label), about)
        : el("div", { class: "parameter" }, label, this.control, about);
  }

  makeControl(id) {
    const { kind, list, required } = this.parameter;
    const given = this.parameter.default ?? "";
    const common = { id, ...(required ? { required: "" } : {}) };
    if (list) return el("input", { ...common, placeholder: given, autocomplete: "off", spellcheck: "false" });
    switch (kind.type) {
      case "boolean":
        return el("input", { id, type: "checkbox" });
      case "file":
        return el("input", { ...common, type: "file" });
      case "choice": {
        const select = el("select", common);
        if (!given) select.append(el("option", { value: "" }, required ? "Choose one" : "–"));
        select.append(...kind.of.map((one) => el("option", { value: one }, one)));
        select.value = given;
        return select;
      }
      case "integer":
        return el("input", { ...common, type: "number", step: "1", min: kind.min, ...most(kind.max), placeholder: given });
      case "number":
        return el("input", { ...common, type: "number", step: "any", placeholder: given });
      default: {
        const isLong = given.length > LINE || given.includes("\n");
        if (isLong) return el("textarea", { ...common, rows: "3", placeholder: given, spellcheck: "false" });
        return el("input", { ...common, placeholder: given, autocomplete: "off" });
      }
    }
  }

  /** What is filled in, as an argument; null where nothing is, and the default is meant. */
  async value() {
    const { control, parameter } = this;
    if (parameter.kind.type === "boolean") return control.checked ? "true" : null;
    if (parameter.kind.type === "file") return control.files.length ? control.files[0].text() : null;
    if (control.value === "" || (parameter.kind.type === "choice" && control.value === parameter.default)) return null;
    return control.value;
  }
}

/** A number beyond those that JavaScript has is no bound of a control; the server knows it. */
function most(max) {
  return max <= Number.MAX_SAFE_INTEGER ? { max } : {};
}
