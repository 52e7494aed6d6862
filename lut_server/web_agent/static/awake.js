// Keeps the screen on while the page measures, and watches whether the page is visible.

/** Calls `tell("hidden" | "visible")` now and at each change. */
export function watchVisibility(tell) {
  const look = () => tell(document.visibilityState === "hidden" ? "hidden" : "visible");
  for (const name of ["visibilitychange", "freeze", "resume"]) document.addEventListener(name, look);
  addEventListener("pageshow", look);
  look();
}

export class Awake {
  constructor() {
    this.lock = null;
    this.isWanted = false;
    document.addEventListener("visibilitychange", () => this.want(this.isWanted));
  }

  /** How the user keeps the screen on; empty if nothing is to do. */
  advice() {
    if (!("wakeLock" in navigator)) {
      const why = self.isSecureContext ? "this browser cannot" : "it takes HTTPS (lut-server serve --tls self-signed)";
      return `Keep the screen on by hand: ${why} keep it on. When it goes off, measuring pauses and goes on later.`;
    }
    if (this.refused) return `The screen may go off (${this.refused}): measuring then pauses and goes on later.`;
    return this.lock ? "The screen stays on. Leave this page open and in front, and the charger plugged in." : "";
  }

  async want(isWanted) {
    this.isWanted = isWanted;
    if (!("wakeLock" in navigator) || document.visibilityState === "hidden") return;
    if (!isWanted) {
      await this.lock?.release();
      this.lock = null;
    } else if (!this.lock || this.lock.released) {
      try {
        this.lock = await navigator.wakeLock.request("screen");
        this.refused = null;
      } catch (error) {
        this.refused = error.message;
      }
    }
  }
}
