// The page's fragment: `#device=D&code=XXXX` of a pairing, `space`, `resolution`, ... of what to measure, or both.

/** What the fragment says, by name. */
export function readLink(hash) {
  return Object.fromEntries(new URLSearchParams(hash.replace(/^#/, "")));
}
