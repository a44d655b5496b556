/** What this tab remembers until it is closed: `sessionStorage`, or memory where the browser blocks it or it is full. */

const memory = new Map();

/**
 * Reads what was remembered.
 *
 * @param {string} name
 * @returns {string | null}
 */
export function getItem(name) {
  if (memory.has(name)) return memory.get(name);
  try {
    return sessionStorage.getItem(name);
  } catch {
    return null;
  }
}

/**
 * Remembers a text; it outlasts a reload where the browser allows it.
 *
 * @param {string} name
 * @param {string} value
 */
export function setItem(name, value) {
  try {
    sessionStorage.setItem(name, value);
    memory.delete(name);
  } catch {
    memory.set(name, value);
  }
}

/** Forgets what was remembered under a name. */
export function removeItem(name) {
  memory.delete(name);
  try {
    sessionStorage.removeItem(name);
  } catch {
    // blocked: nothing was kept there
  }
}
