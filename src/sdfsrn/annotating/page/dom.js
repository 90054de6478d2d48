// Elements of the page.

const SVG = "http://www.w3.org/2000/svg";

export function byId(id) {
  return document.getElementById(id);
}

function assign(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === false || value === null || value === undefined) node.removeAttribute(name);
    else node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children);
  return node;
}

export function element(tag, attributes = {}, ...children) {
  return assign(document.createElement(tag), attributes, children);
}

export function svg(tag, attributes = {}, ...children) {
  return assign(document.createElementNS(SVG, tag), attributes, children);
}

/** Changes a node's text only if it is another: what is read aloud is not read twice. */
export function write(node, text) {
  if (node.textContent !== text) node.textContent = text;
}
