// Arguments in one line, as a shell takes them: blanks part them, quotes and backslashes keep them together. Nothing is
// replaced.

/** The arguments of a line. Throws an `Error` for a quote without its end. */
export function parseArguments(line) {
  const found = [];
  let word = null;
  let quote = null;
  for (let at = 0; at < line.length; at += 1) {
    const letter = line[at];
    if (letter === "\\" && quote !== "'" && at + 1 < line.length) {
      at += 1;
      word = (word ?? "") + line[at];
    } else if (letter === quote) {
      quote = null;
    } else if (quote === null && (letter === '"' || letter === "'")) {
      quote = letter;
      word ??= "";
    } else if (quote === null && /\s/.test(letter)) {
      if (word !== null) found.push(word);
      word = null;
    } else {
      word = (word ?? "") + letter;
    }
  }
  if (quote !== null) throw new Error(`a ${quote} has no other at its end`);
  if (word !== null) found.push(word);
  return found;
}
