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
    this.ends = []; // of the latest answers: when the last frame was shown, and how many were
  }

  // The frames of one answer.
  push(frames) {
    const answer = { at: null, count: 0 }, last = frames.length - 1;
    this.queue.push(...frames.map((frame, i) => ({ frame, answer, isLast: i === last })));
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
      skipped.push(this.take(now, 0));
      this.dropped += 1;
    }
    this.shown += 1;
    return { frame: this.take(now, 1), skipped };
  }

  // The next frame of the queue, of which `shown` are shown: one or none.
  take(now, shown) {
    const { frame, answer, isLast } = this.queue.shift();
    this.due += FRAME_MS;
    answer.count += shown;
    if (isLast) {
      answer.at = now;
      this.ends.push(answer);
      while (this.ends[1]?.at <= now - RECENT_MS) this.ends.shift();
    }
    return frame;
  }

  // Until what is there has been shown.
  left(now) {
    return this.due === null ? 0 : this.due + this.queue.length * FRAME_MS - now;
  }

  // Frames a second of the last two seconds, or of the last answer where that took longer; null
  // before there was one. Frames come in bursts, so they are counted from the end of one answer to
  // the end of another. The one that is awaited counts as if it ended now, once that lowers this.
  rate(now) {
    const [first, ...others] = this.ends, last = others.at(-1);
    if (!last || last.at === first.at) return null;
    const count = others.reduce((sum, end) => sum + end.count, 0);
    return 1000 * Math.min(
      count / (last.at - first.at), (count + last.count) / (now - first.at));
  }

  // After a pause: what is next is due at once, and nothing of it is late.
  rest() {
    this.due = null;
    this.starved = false;
    this.ends = [];
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
