// When frames are shown, and when the next latent frame is asked for. Knows nothing of the page.
// Times are in milliseconds.

export const FRAME_MS = 1000 / 16;
const EARLY_MS = 4; // a frame this early is not held back for a whole tick of the display
const MARGIN_MS = 10;
const ANSWERS = 12;
const WITHIN = 0.8; // the share of answers that come in time
const RECENT_MS = 2000;

// Shows frames evenly. Where they come late the clock stands, where the page is late it skips.
export class Clock {
  constructor() {
    this.queue = [];
    this.due = null;
    this.starved = false;
    this.shown = 0;
    this.late = 0; // frames that were not there in time
    this.dropped = 0; // frames that the page was too slow to show
    this.times = [];
  }

  push(frames) {
    this.queue.push(...frames);
  }

  // The frame to show now, or null.
  next(now) {
    if (!this.queue.length) {
      if (this.due !== null && now >= this.due) this.starved = true;
      return null;
    }
    if (this.due === null) this.due = now;
    if (this.starved) {
      if (now - this.due > FRAME_MS / 2) this.late += 1;
      this.due = Math.max(this.due, now);
      this.starved = false;
    }
    if (now < this.due - EARLY_MS) return null;
    const skipped = [];
    while (this.queue.length > 1 && now >= this.due + FRAME_MS) {
      skipped.push(this.queue.shift());
      this.due += FRAME_MS;
      this.dropped += 1;
    }
    this.due += FRAME_MS;
    this.shown += 1;
    this.times.push(now);
    while (this.times[0] < now - RECENT_MS) this.times.shift();
    return { frame: this.queue.shift(), skipped };
  }

  // Until what is there has been shown.
  left(now) {
    return this.due === null ? 0 : this.due + this.queue.length * FRAME_MS - now;
  }

  // Frames a second, of the last two seconds.
  rate() {
    const { times } = this;
    return times.length < 2 ? 0 : 1000 * (times.length - 1) / (times.at(-1) - times[0]);
  }

  // After a pause: what is next is due at once, and nothing of it is late.
  rest() {
    this.due = null;
    this.starved = false;
    this.times = [];
  }
}

// How long answers take: nearly all of the latest ones came within this time.
export class Delay {
  constructor() {
    this.latest = [];
  }

  add(ms) {
    this.latest.push(ms);
    if (this.latest.length > ANSWERS) this.latest.shift();
  }

  // How long before its first frame is due the next latent frame is asked for.
  get ahead() {
    const sorted = [...this.latest].sort((a, b) => a - b);
    return sorted.length ? sorted[Math.floor(WITHIN * sorted.length)] + MARGIN_MS : Infinity;
  }
}

// The middle of the latest values.
export class Recent {
  constructor(size) {
    this.size = size;
    this.values = [];
  }

  add(value) {
    this.values.push(value);
    if (this.values.length > this.size) this.values.shift();
  }

  get median() {
    const sorted = [...this.values].sort((a, b) => a - b);
    return sorted.length ? sorted[sorted.length >> 1] : null;
  }

  get mean() {
    const { values } = this;
    return values.length ? values.reduce((sum, value) => sum + value, 0) / values.length : null;
  }
}
