/**
 * What a page that was exported as one file holds: elements with bytes in them, deflated (zlib) and as base64.
 *
 * The file begins with this module's text as a script, since modules need an import map, and its modules are in such an element.
 */

/** The bytes of an element; null if the page has none of that name. */
export async function bytesOf(id) {
  const element = document.getElementById(id);
  if (!element) return null;
  const packed = Uint8Array.from(atob(element.textContent), (one) => one.charCodeAt(0));
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Response(stream).arrayBuffer();
}

/**
 * The answers of Python that a file holds, `{json: {path: answer}, tensors: {path: {header, begin, matrix}}, numbers}`, with
 * `numbers` all arrays one behind the other; null in a page that has a server. The bytes are the length of the JSON (a uint32,
 * little endian), the JSON, whose length is a multiple of 4, and the numbers.
 */
export async function answersInFile() {
  const bytes = await bytesOf("chainrule-answers");
  if (!bytes) return null;
  const length = new DataView(bytes).getUint32(0, true);
  const answers = JSON.parse(new TextDecoder().decode(new Uint8Array(bytes, 4, length)));
  return { ...answers, numbers: new Float32Array(bytes, 4 + length) };
}

/** An array of a file. Its numbers are from `begin` on, or if it is a `matrix` (rows, columns) those of its transpose. */
export function valuesInFile(numbers, { header, begin, matrix }) {
  const size = header.shape.reduce((product, one) => product * one, 1);
  const values = numbers.slice(begin, begin + size);
  if (!matrix) return values;
  const [rows, columns] = matrix;
  return values.map((_, place) => values[(place % columns) * rows + Math.floor(place / columns)]);
}

/** Begins a file with its module of that name, when all elements are there. */
export async function begin(first) {
  if (document.readyState === "loading") await new Promise((go) => document.addEventListener("DOMContentLoaded", go));
  const imports = JSON.parse(new TextDecoder().decode(await bytesOf("chainrule-modules")));
  for (const [type, text] of [
    ["importmap", JSON.stringify({ imports })],
    ["module", `import ${JSON.stringify(first)};`],
  ]) {
    const script = document.createElement("script");
    script.type = type;
    script.textContent = text;
    document.head.append(script);
  }
}
