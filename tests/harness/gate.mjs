// Holds connections back while a test does something.

export class Gate {
  #held = null;

  // Resolves when nothing is held back.
  async passed() {
    while (this.#held) await this.#held;
  }

  // Breaks all connections by `cut`, and lets nothing through before `body` is done. So clients miss the messages that
  // it publishes.
  async cutWhile(cut, body) {
    let release;
    this.#held = new Promise((resolve) => { release = resolve; });
    cut();
    await body();
    this.#held = null;
    release();
  }
}
