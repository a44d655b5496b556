/** This browser's databases (IndexedDB), each with one store. */

function open(name, store, keyPath) {
  return new Promise((resolve, reject) => {
    const request = indexedDB.open(name, 1);
    request.onupgradeneeded = () => request.result.createObjectStore(store, { keyPath });
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
}

/**
 * A store in a database of its own.
 *
 * @param {string} name of the database
 * @param {string} store
 * @param {string} keyPath the field that names an entry
 * @returns {(mode: IDBTransactionMode, work: (store: IDBObjectStore) => IDBRequest) => Promise<any>} does work in one
 *   transaction and gives its result; rejects where the browser keeps nothing (private windows, blocked site data)
 */
export function openStore(name, store, keyPath) {
  return async (mode, work) => {
    const database = await open(name, store, keyPath);
    try {
      return await new Promise((resolve, reject) => {
        const transaction = database.transaction(store, mode);
        const request = work(transaction.objectStore(store));
        transaction.oncomplete = () => resolve(request.result);
        transaction.onabort = () => reject(transaction.error);
      });
    } finally {
      database.close();
    }
  };
}
